"""The cache in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reply_cases import arrays_of, content, features, free, scored, with_words

from lmaas_sdk.backend import FeatureReply, ScoreReply
from lmaas_sdk.traffic.cache import MemoryCache, kept_reply

EACH = 16 + 500  # bytes of a small reply and its overhead


@pytest.mark.parametrize("reply", [scored(1), with_words(), features()], ids=["score", "words", "features"])
async def test_a_kept_answer_is_the_same_and_costs_nothing(reply: ScoreReply | FeatureReply) -> None:
    """Bit for bit, with a usage of nothing."""
    cache = MemoryCache()
    await cache.put("a", reply)
    assert (free(reply), None) == (content(await cache.get("a")), await cache.get("b"))


@pytest.mark.parametrize("make", [scored, features])
async def test_nobody_can_change_what_is_kept(make: type[ScoreReply] | type[FeatureReply]) -> None:
    """Neither through the arrays that were given nor through those that are handed out."""
    cache, reply = MemoryCache(), make()
    await cache.put("a", reply)
    for array in arrays_of(reply):
        array.fill(99)
    for array in arrays_of(await cache.get("a")):
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    assert free(make()) == content(await cache.get("a"))


async def test_words_in_lists_are_kept_in_tuples() -> None:
    """A list could be changed by whoever gave it."""
    lists = [[["great", " naïve"], ['"\n', "\ud83d"]]]
    kept = kept_reply(replace(with_words(), words=lists))  # type: ignore[arg-type]
    assert free(with_words()) == content(kept)


async def test_a_later_answer_takes_the_place_of_an_earlier_one() -> None:
    """One entry a query."""
    cache = MemoryCache(EACH)
    await cache.put("a", scored(1))
    await cache.put("a", scored(2))
    assert (1, free(scored(2))) == (len(cache), content(await cache.get("a")))


async def test_the_least_recently_used_goes_first() -> None:
    """Being asked for counts as use, and so does being kept again."""
    cache = MemoryCache(3 * EACH)
    for name in "abc":
        await cache.put(name, scored(1))
    await cache.get("a")
    await cache.put("b", scored(1))
    await cache.put("d", scored(1))
    assert ["a", "b", "d"] == [name for name in "abcd" if await cache.get(name)]


async def test_a_large_answer_takes_the_place_of_several() -> None:
    """All entries together stay within the bound."""
    cache = MemoryCache(3 * EACH)
    for name in "abc":
        await cache.put(name, scored(1))
    await cache.put("d", scored(1, entries=4 + EACH // 4))
    assert ["c", "d"] == [name for name in "abcd" if await cache.get(name)]


async def test_an_answer_that_is_too_large_drives_out_no_other() -> None:
    """It is not kept, and what was kept for its query before is not given any more."""
    cache = MemoryCache(2 * EACH)
    for name in "ab":
        await cache.put(name, scored(1))
    await cache.put("a", scored(2, entries=2 * EACH))
    assert (None, free(scored(1))) == (content(await cache.get("a")), content(await cache.get("b")))


async def test_words_and_features_have_a_size_too() -> None:
    """So that they are not kept without bound."""
    for reply in (with_words(), features()):
        cache = MemoryCache(500 + sum(array.nbytes for array in arrays_of(reply)) - 1)
        await cache.put("a", reply)
        assert 0 == len(cache)


def test_a_negative_bound_is_refused() -> None:
    """The message has the value."""
    with pytest.raises(ValueError, match="max_bytes is at least 0, not -1"):
        MemoryCache(-1)


async def test_a_bound_of_nothing_keeps_nothing() -> None:
    """And is no error."""
    cache = MemoryCache(0)
    await cache.put("a", scored(1))
    assert None is await cache.get("a")


async def test_answers_whose_small_arrays_are_lists_are_kept_as_arrays() -> None:
    """A backend of somebody's own may be sloppy where no check looks; that is no reason to lose a paid answer."""
    sloppy = replace(features(), layer_mean=[0.5, -0.0, 2.0])  # type: ignore[arg-type]
    kept = kept_reply(sloppy)
    assert isinstance(kept, FeatureReply)
    assert np.array_equal([0.5, -0.0, 2.0], kept.layer_mean)
