"""The cache in a file: real SQLite files, damaged in every way."""

from __future__ import annotations

import asyncio
import logging
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import cache_process
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reply_cases import arrays_of, content, features, free, scored, with_words

from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.backend import FeatureReply, ScoreReply
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.cache_file import FileCache, open_cache

WITHOUT = "cannot be used now, so calls go without it"
EACH = 80 + 200  # bytes of a small reply and its overhead


SIZES = "SELECT count(*), sum(length(reply) + 200), (SELECT bytes FROM size) FROM replies"


def asked(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Does something to the file from outside."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def size_of(path: Path) -> int:
    """The file's bytes."""
    return path.stat().st_size


async def filled(path: Path, *names: str, max_bytes: int = 1 << 20) -> None:
    """A closed cache that has the reply of each name's first letter's number."""
    async with open_cache(path, max_bytes) as cache:
        for name in names:
            await cache.put(name, scored(ord(name[0])))


async def known(path: Path, names: str, max_bytes: int = 1 << 20) -> str:
    """Those of the one-letter names that have an answer, which is the right one."""
    found = ""
    async with open_cache(path, max_bytes) as cache:
        for name in names:
            kept = await cache.get(name)
            if kept is not None:
                assert free(scored(ord(name))) == content(kept)
                found += name
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.cache"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "lmaas_sdk.traffic")
    return caplog


@pytest.mark.parametrize("reply", [scored(1), with_words(), features()], ids=["score", "words", "features"])
async def test_an_answer_outlives_the_process(path: Path, reply: ScoreReply | FeatureReply) -> None:
    """Bit for bit, costing nothing, in arrays that nobody can write to."""
    async with open_cache(path) as cache:
        await cache.put("a", reply)
    async with open_cache(path) as cache:
        kept = await cache.get("a")
        assert (free(reply), None) == (content(kept), await cache.get("b"))
    assert not any(array.flags.writeable for array in arrays_of(kept))
    assert [path] == list(path.parent.iterdir())


async def test_what_is_kept_is_the_answer_as_it_was(path: Path) -> None:
    """Whoever changes an array afterwards does not change the cache."""
    async with open_cache(path) as cache:
        reply = scored(1)
        await cache.put("a", reply)
        reply.logits.fill(99)
        assert free(scored(1)) == content(await cache.get("a"))


async def test_a_later_answer_takes_the_place_of_an_earlier_one(path: Path) -> None:
    """One entry a query, and the count of bytes is right."""
    async with open_cache(path) as cache:
        await cache.put("a", scored(1))
        await cache.put("a", scored(2))
        assert free(scored(2)) == content(await cache.get("a"))
    assert [(1, EACH, EACH)] == asked(path, SIZES)


async def test_the_least_recently_used_goes_first(path: Path) -> None:
    """Also by what an earlier opening of the file has used."""
    await filled(path, *"abc")
    assert "a" == await known(path, "a")
    await filled(path, *"de", max_bytes=3 * EACH)
    assert "ade" == await known(path, "abcde")


async def test_use_counts_while_only_reading(path: Path) -> None:
    """It is written down now and then, not only on closing."""
    bound = 300 * EACH
    await filled(path, *(f"a{number}" for number in range(300)))
    async with open_cache(path, bound) as cache, open_cache(path, bound) as other:
        for number in range(256):
            await cache.get(f"a{number}")
        for number in range(44):
            await other.put(f"b{number}", scored())
        assert (None, None) == (await other.get("a256"), await other.get("a299"))
        assert free(scored(ord("a"))) == content(await other.get("a0"))


async def test_all_answers_together_stay_within_the_bound(path: Path) -> None:
    """A file opened with a smaller bound gets smaller."""
    async with open_cache(path, 200 * EACH) as cache:
        for number in range(1000):
            await cache.put(str(number), scored(number))
    assert [(200, 200 * EACH)] == asked(path, "SELECT count(*), (SELECT bytes FROM size) FROM replies")
    large = size_of(path)
    assert large < 2 * 200 * EACH
    async with open_cache(path, 20 * EACH) as cache:
        assert (None, free(scored(980))) == (await cache.get("979"), content(await cache.get("980")))
    assert size_of(path) < large / 2


async def test_an_answer_that_is_too_large_drives_out_no_other(path: Path) -> None:
    """It is not kept, and what was kept for its query before is not given any more."""
    async with open_cache(path, 3 * EACH) as cache:
        for name in "ab":
            await cache.put(name, scored(ord(name)))
        await cache.put("a", scored(2, entries=1000))
    assert "b" == await known(path, "ab")


def test_a_negative_bound_is_refused(path: Path) -> None:
    """The message has the value, and no file is made."""
    with pytest.raises(ValueError, match="max_bytes is at least 0, not -1"):
        open_cache(path, -1)
    assert not path.exists()


async def test_answers_of_other_types_are_not_kept(path: Path, log: pytest.LogCaptureFixture) -> None:
    """They could not come back as they were. The call goes on."""
    async with open_cache(path) as cache:
        await cache.put("a", replace(scored(), logits=np.zeros((1, 2, 2))))
        assert None is await cache.get("a")
    assert "an answer was not kept" in log.text


# -- damage


@contextmanager
def damaged(path: Path) -> Iterator[Path]:
    """A copy of a file to be damaged, without what another test left beside it."""
    copy = path.with_name("damaged.cache")
    for old in path.parent.glob("damaged.cache*"):
        old.unlink()
    shutil.copyfile(path, copy)
    yield copy


def flip(path: Path, place: int) -> None:
    """Turns all bits of a byte around."""
    written = bytearray(path.read_bytes())
    written[place] ^= 0xFF
    path.write_bytes(written)


async def answers(path: Path, *names: str) -> list[object]:
    """What the file answers; nothing where it cannot be opened. Afterwards the same answers can be kept again."""
    try:
        async with open_cache(path, busy_timeout_s=0) as cache:
            given = [content(await cache.get(name)) for name in names]
            for name in names:
                await cache.put(name, scored(5))
            return given
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017  (where it can be opened, that is fine too)
        return [None] * len(names)


FLIPS = ("UPDATE replies SET check_sum = ?", "UPDATE replies SET reply = ?")


async def test_a_flip_of_any_bit_of_an_entry_is_never_served(path: Path, log: pytest.LogCaptureFixture) -> None:
    """Of the answer and of its check sum, byte for byte: a miss, told to the log, and the entry is gone."""
    async with open_cache(path) as cache:
        await cache.put("a", with_words())
        entry = asked(path, "SELECT check_sum, reply FROM replies")[0]
        for statement, value in zip(FLIPS, entry, strict=True):
            assert isinstance(value, bytes)
            for place in range(len(value)):
                flipped = bytearray(value)
                flipped[place] ^= 1 << place % 8
                await cache.put("a", with_words())
                asked(path, statement, bytes(flipped))
                log.clear()
                assert None is await cache.get("a")
                assert ["WARNING"] == [record.levelname for record in log.records]
                assert [(0, 0)] == asked(path, "SELECT count(*), (SELECT bytes FROM size) FROM replies")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE replies SET reply = substr(reply, 1, length(reply) - 1)",
        "UPDATE replies SET reply = x''",
        "UPDATE replies SET check_sum = x''",
        "UPDATE replies SET reply = (SELECT reply FROM replies WHERE query = 'b') WHERE query = 'a'",
        "UPDATE replies SET query = CASE query WHEN 'a' THEN 'x' ELSE 'a' END",
        "UPDATE replies SET (check_sum, reply) = (SELECT check_sum, reply FROM replies WHERE query = 'b')",
    ],
    ids=["shorter", "empty", "no check sum", "another's answer", "another's query", "another's answer and check sum"],
)
async def test_a_damaged_or_swapped_entry_is_a_miss(path: Path, damage: str, log: pytest.LogCaptureFixture) -> None:
    """And is deleted; a new answer takes its place."""
    await filled(path, "a", "b")
    asked(path, damage)
    async with open_cache(path) as cache:
        assert None is await cache.get("a")
        assert "an entry of the cache" in log.text
        await cache.put("a", scored(ord("a")))
    assert "a" == await known(path, "a")


@pytest.mark.parametrize("step", [211, pytest.param(7, marks=pytest.mark.long)], ids=["some", "many"])
async def test_a_flipped_byte_anywhere_in_the_file_never_gives_a_wrong_answer(path: Path, step: int) -> None:
    """The right answer, a miss, or a file that is refused by name; and no call fails."""
    await filled(path, "a", "b")
    right = [free(scored(ord(name))) for name in "ab"]
    outcomes = {"right": 0, "missed": 0}
    for place in range(0, size_of(path), step):
        with damaged(path) as copy:
            flip(copy, place)
            for given, expected in zip(await answers(copy, "a", "b"), right, strict=True):
                assert given in (None, expected)
                outcomes["right" if given else "missed"] += 1
    assert all(outcomes.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_to_the_file_never_gives_a_wrong_answer(path: Path, data: st.DataObject) -> None:
    """Stretches of other bytes, and files cut off."""
    if not path.exists():
        asyncio.run(filled(path, "a", "b"))
    with damaged(path) as copy:
        written = bytearray(copy.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(written) - 1))
            noise = data.draw(st.binary(min_size=1, max_size=40))
            written[start : start + len(noise)] = noise
        copy.write_bytes(written[: data.draw(st.integers(0, len(written)))])
        for given_, name in zip(asyncio.run(answers(copy, "a", "b")), "ab", strict=True):
            assert given_ in (None, free(scored(ord(name))))


async def test_a_damaged_count_of_bytes_does_not_disable_the_bound(path: Path) -> None:
    """Too much: all is deleted and counted anew; nothing at all: it starts at 0."""
    await filled(path, *"abc")
    asked(path, "UPDATE size SET bytes = 1 << 60")
    async with open_cache(path, 2 * EACH) as cache:
        for name in "de":
            await cache.put(name, scored(ord(name)))
    assert ("de", [(2 * EACH,)]) == (await known(path, "abcde"), asked(path, "SELECT bytes FROM size"))


# -- files of others


def refused(path: Path) -> str:
    """Why a file is not taken for a cache."""
    with pytest.raises(ValueError, match="give another path") as caught:
        asyncio.run(open_cache(path).__aenter__())
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """The message names it and says what to do."""
    text = b"this is somebody's diary " * 100
    path.write_bytes(text)
    assert "file is not a database" in refused(path)
    assert text == path.read_bytes()


def test_the_database_of_something_else_is_left_alone(path: Path, tmp_path: Path) -> None:
    """A ledger, say, or any other with tables in it."""
    asked(path, "CREATE TABLE diary (day)")
    before = path.read_bytes()
    assert "an SQLite file of something else" in refused(path)
    assert before == path.read_bytes()
    with open_ledger(tmp_path / "ledger"):
        pass
    assert "an SQLite file of something else" in refused(tmp_path / "ledger")


def test_a_cache_of_another_version_is_left_alone(path: Path) -> None:
    """Older or newer: its answers may mean something else."""
    asyncio.run(filled(path, "a"))
    asked(path, "PRAGMA user_version = 99")
    assert "is a cache of schema 99" in refused(path)


def test_a_path_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    """A folder, or one that is not there."""
    assert "unable to open" in refused(tmp_path)
    assert "unable to open" in refused(tmp_path / "missing" / "file")


# -- a cache that fails later


async def test_a_full_disk_fails_no_call(path: Path, log: pytest.LogCaptureFixture) -> None:
    """Answers are not kept while it lasts, which is told once; those that are there are given."""
    large = scored(1, entries=100_000)
    async with open_cache(path) as cache:
        await cache.put("a", scored(1))
        with full_disk(path):
            for _ in range(3):
                await cache.put("b", large)
            assert (free(scored(1)), None) == (content(await cache.get("a")), await cache.get("b"))
        await cache.put("b", large)
        assert free(large) == content(await cache.get("b"))
    assert [logging.WARNING, logging.DEBUG, logging.DEBUG] == [record.levelno for record in log.records]
    assert WITHOUT in log.text


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file may grow beyond its present size."""
    size, limits = path.with_name(f"{path.name}-wal").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


async def test_a_file_that_others_keep_locked_fails_no_call(path: Path, log: pytest.LogCaptureFixture) -> None:
    """It is waited for once, then not until it can be written again."""
    async with open_cache(path, busy_timeout_s=0.01) as cache:
        await cache.put("a", scored(1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                await cache.put("b", scored(2))
            assert (free(scored(1)), None) == (content(await cache.get("a")), await cache.get("b"))
            other.execute("ROLLBACK")
        await cache.put("b", scored(2))
        assert free(scored(2)) == content(await cache.get("b"))
    assert [logging.WARNING, logging.DEBUG] == [record.levelno for record in log.records]


async def test_a_file_that_goes_away_fails_no_call(path: Path) -> None:
    """Its tables are dropped under the open cache."""
    async with open_cache(path) as cache:
        await cache.put("a", scored(1))
        asked(path, "DROP TABLE replies")
        await cache.put("b", scored(1))
        assert [None, None] == [await cache.get(name) for name in "ab"]


# -- opening, closing, cancelling


async def test_a_cache_that_is_not_open_says_so_before_anything_is_sent(path: Path) -> None:
    """`get` comes before a call. An answer that was paid for is not lost because nobody can keep it."""
    cache = open_cache(path)
    with pytest.raises(RuntimeError, match="is not open: use `async with"):
        await cache.get("a")
    async with cache:
        await cache.put("a", scored(1))
        with pytest.raises(RuntimeError, match="is open already"):
            await cache.__aenter__()
    with pytest.raises(RuntimeError, match="is not open"):
        await cache.get("a")


async def test_an_answer_after_closing_is_not_kept(path: Path, log: pytest.LogCaptureFixture) -> None:
    """That is told to the log; the cache can be opened again."""
    async with open_cache(path) as cache:
        pass
    await cache.put("a", scored(1))
    assert "was closed before an answer could be kept" in log.text
    async with cache:
        assert None is await cache.get("a")


def test_no_thread_is_left(path: Path) -> None:
    """Neither after closing nor after a file that is refused."""
    asyncio.run(filled(path, "a"))
    path.with_name("diary").write_bytes(b"no database" * 100)
    refused(path.with_name("diary"))
    for thread in threading.enumerate():
        if thread.name.startswith("lmaas-cache"):
            thread.join()  # told to end; it would be waited for in vain otherwise
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("lmaas-cache")]


async def test_what_was_begun_is_kept_though_its_asker_has_gone(path: Path) -> None:
    """An answer that was paid for; and the cache closes whole although it is told to hurry."""

    async def use() -> None:
        async with open_cache(path) as cache:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await cache.put("a", scored(ord("a")))

    with suppress(asyncio.CancelledError):
        await asyncio.create_task(use())
    assert "a" == await known(path, "a")


def test_virtual_time_stands_still_meanwhile(path: Path) -> None:
    """Reading and writing take none of it."""

    async def main() -> float:
        await filled(path, "a")
        assert "a" == await known(path, "ab")
        return asyncio.get_running_loop().time()

    assert 0 == run_virtual(main())


async def test_many_at_once(path: Path) -> None:
    """Each has its own answer."""

    async def ask(cache: FileCache, number: int) -> None:
        assert None is await cache.get(str(number))
        await cache.put(str(number), scored(number))
        assert free(scored(number)) == content(await cache.get(str(number)))

    async with open_cache(path) as cache, asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(ask(cache, number))


@pytest.mark.parametrize("processes", [3, pytest.param(8, marks=pytest.mark.long)])
def test_several_processes_share_a_file(path: Path, processes: int) -> None:
    """They make it together and get each other's answers; nothing is locked, damaged or above the bound."""
    command = [sys.executable, cache_process.__file__, str(path)]
    started = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE, text=True) for seed in range(processes)]
    told = [process.communicate(timeout=60)[1] for process in started]
    assert ([0] * processes, [""] * processes) == ([process.returncode for process in started], told)
    ((count, total, size),) = asked(path, SIZES)
    assert 0 < count  # type: ignore[operator]
    assert (total, True) == (size, total <= cache_process.MAX_BYTES)  # type: ignore[operator]
