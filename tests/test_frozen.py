"""Frozen prompts: what makes sense beside candidates of another layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lmaas_backends.mock import MockBackend
from lmaas_sdk.backend import Capabilities, ScoreQuery
from lmaas_sdk.errors import InvalidQuery, Unsupported
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.frozen import FrozenPrompt, in_layer_order
from lmaas_sdk.tuning.subspace import Subspace

SEARCHED = Subspace(4, 2, 64, layers=(1,))
Z = np.arange(12, dtype=np.float32).reshape(3, 4)
TEXTS = TextSet(((Piece("field", "good"), MASK), (Piece("field", "bad"), MASK)), LabelWords((" bad", " great")))


def frozen(*layers: int, **changes: object) -> FrozenPrompt:
    return FrozenPrompt(replace(SEARCHED, layers=layers, **changes), np.ones(4, np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.ones(3, np.float32), r"float32 of shape \(4,\), not float32 of shape \(3,\)"),
        (np.ones((1, 4), np.float32), r"not float32 of shape \(1, 4\)"),
        (np.ones(4), "not float64"),
        (np.full(4, np.nan, np.float32), r"layers \(1,\) holds NaN"),
    ],
)
def test_a_frozen_z_is_one_point_of_its_subspace(
    z: np.ndarray[tuple[int, ...], np.dtype[np.float32]], message: str
) -> None:
    """Of the right size and type, and finite."""
    with pytest.raises(ValueError, match=message):
        FrozenPrompt(SEARCHED, z)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ((frozen(1),), "layer 1 has two prompts"),
        ((frozen(0), frozen(2, 0)), "layer 0 has two prompts"),
        ((frozen(0, hidden_size=32),), "one hidden_size, not 64 and 32"),
        ((frozen(0, prompt_tokens=3),), "one prompt_tokens, not 2 and 3"),
        ((frozen(0, layout="cat"),), "one layout, not 'add' and 'cat'"),
    ],
)
def test_prompts_of_a_query_stand_in_different_layers_at_the_same_places(
    prompts: tuple[FrozenPrompt, ...], message: str
) -> None:
    """What differs is named, with both values."""
    with pytest.raises(ValueError, match=message):
        ScoreQuery(TEXTS, subspace=SEARCHED, Z=Z, frozen=prompts)


def test_frozen_prompts_need_candidates() -> None:
    """A prompt that stands still everywhere is one candidate of one of its layers."""
    with pytest.raises(ValueError, match="give one layer's prompt as subspace and Z"):
        ScoreQuery(TEXTS, frozen=(frozen(0),))


def test_they_are_kept_in_the_order_of_their_layers() -> None:
    """So that equal queries are equal bytes."""
    given = (frozen(3), frozen(0), frozen(2, 5))
    assert [(0,), (2, 5), (3,)] == [prompt.subspace.layers for prompt in in_layer_order(SEARCHED, given)]
    asked = ScoreQuery(TEXTS, subspace=SEARCHED, Z=Z, frozen=given)
    assert [(1,), (0,), (2, 5), (3,)] == [subspace.layers for subspace in asked.subspaces]


async def test_the_mock_has_the_same_bits_alone_and_among_others() -> None:
    """Under frozen prompts too, which move every candidate."""
    backend = MockBackend()
    asked = ScoreQuery(TEXTS, subspace=SEARCHED, Z=Z, frozen=(frozen(0), frozen(3)))
    together = await backend.score(asked, key="together")
    alone = await backend.score(replace(asked, Z=Z[2:]), key="alone")
    without = await backend.score(replace(asked, frozen=()), key="without")
    assert together.logits[2].tobytes() == alone.logits[0].tobytes()
    assert together.logits.tobytes() != without.logits.tobytes()
    assert together.usage == without.usage


async def test_a_used_key_does_not_answer_other_frozen_prompts() -> None:
    """They are part of the query that a key stands for."""
    backend = MockBackend()
    asked = ScoreQuery(TEXTS, subspace=SEARCHED, Z=Z, frozen=(frozen(0),))
    await backend.score(asked, key="one")
    with pytest.raises(InvalidQuery, match="key"):
        await backend.score(replace(asked, frozen=(frozen(2),)), key="one")


async def test_the_mock_refuses_what_it_does_not_claim() -> None:
    """Frozen prompts at other layers, a layer it has not, and layout `cat` above layer 0."""
    asked = ScoreQuery(TEXTS, subspace=replace(SEARCHED, layers=(0,)), Z=Z, frozen=(frozen(1),))
    with pytest.raises(Unsupported, match=r"layers \(1,\)"):
        await MockBackend(capabilities=Capabilities()).score(asked, key="1")
    with pytest.raises(InvalidQuery, match="layer 4 is not one of the 4"):
        await MockBackend().score(replace(asked, frozen=(frozen(4),)), key="2")
    with pytest.raises(Unsupported, match="'cat' at layers"):
        await MockBackend().score(replace(asked, subspace=replace(SEARCHED, layout="cat"), frozen=()), key="3")
