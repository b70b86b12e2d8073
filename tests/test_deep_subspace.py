"""Prompts of several layers as one point: how it is cut into queries, and how it is written down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.tuning.deep_subspace import DeepSubspace, asked, counted_as, space_from_wire
from lmaas_sdk.tuning.subspace import Subspace

BASE = Subspace(3, 2, 8, projection="normal", scale=0.5)
SPACE = DeepSubspace((BASE, replace(BASE, layers=(1,), d=2, seed=1), replace(BASE, layers=(4,), d=4, scale=2.0)))


def points(*rows: tuple[float, float, float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Candidates whose layers have one number each, in all places."""
    return np.array([np.repeat(row, (3, 2, 4)) for row in rows], np.float32)


def test_candidates_that_differ_in_one_layer_stand_in_one_run() -> None:
    """Others are cut apart, in their order; equal ones go with any."""
    cases = {
        (): ((1.0, 1.0, 1.0),),
        (3,): ((1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 3.0, 1.0)),
        (2, 3): ((1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (2.0, 1.0, 1.0)),
        (1, 2): ((1.0, 1.0, 1.0), (2.0, 2.0, 1.0)),
        (4,): ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 9.0), (1.0, 1.0, 1.0)),
        (1, 3, 4): ((0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 2.0, 0.0), (2.0, 2.0, 2.0)),
    }
    for ends, rows in cases.items():
        assert list(ends or (1,)) == [run.stop for run in SPACE.runs(points(*rows))]


def test_a_query_searches_the_layer_that_differs() -> None:
    """The others are frozen; a layer at 0 has no prompt."""
    subspace, Z, frozen = SPACE.asked(points((1.0, 5.0, 0.0), (1.0, 6.0, 0.0)))
    assert (SPACE.parts[1], [[5.0, 5.0], [6.0, 6.0]]) == (subspace, Z.tolist())
    assert [(SPACE.parts[0], [1.0, 1.0, 1.0])] == [(one.subspace, one.z.tolist()) for one in frozen]


def test_equal_candidates_are_those_of_the_first_layer() -> None:
    """One alone too, whichever layer it was searched in, so that equal prompts are equal queries."""
    subspace, Z, frozen = SPACE.asked(points((1.0, 5.0, 7.0)))
    assert (SPACE.parts[0], [[1.0, 1.0, 1.0]]) == (subspace, Z.tolist())
    assert [(1,), (4,)] == [one.subspace.layers for one in frozen]


def test_a_plain_subspace_is_asked_about_as_it_is() -> None:
    """And the manual prompt too."""
    Z = np.ones((2, 3), np.float32)
    assert (BASE, Z, ()) == asked(BASE, Z)
    assert (None, None, ()) == asked(None, None)
    assert (BASE, BASE, None) == (counted_as(BASE), counted_as(SPACE), counted_as(None))


def test_it_survives_the_wire() -> None:
    """As a plain one does, and neither is read as the other."""
    assert SPACE == space_from_wire(SPACE.to_wire())
    assert BASE == space_from_wire(BASE.to_wire())
    assert b'"parts"' in canonical_json(SPACE.to_wire())
    assert len({SPACE.digest, BASE.digest, DeepSubspace(SPACE.parts[:2]).digest}) == 3
    for wrong in (3, {"parts": 3}, {"parts": []}, {"parts": [3]}, {"parts": [], "more": 1}):
        with pytest.raises(ValueError, match=r"subspace"):
            space_from_wire(wrong)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((BASE, BASE), "layer 0 has two prompts"),
        ((replace(BASE, layers=(1,)), BASE), r"in the order of their layers, not \[\(1,\), \(0,\)\]"),
        ((BASE, replace(BASE, layers=(1,), prompt_tokens=3)), "one prompt_tokens"),
        ((BASE, replace(BASE, layers=(1,), base="a" * 64)), r"no uploaded arrays, as \(1,\) does"),
        ((replace(BASE, projection="b" * 64),), "no uploaded arrays"),
    ],
)
def test_layers_that_do_not_go_together_are_refused(parts: tuple[Subspace, ...], message: str) -> None:
    """The message says why."""
    with pytest.raises(ValueError, match=message):
        DeepSubspace(parts)
