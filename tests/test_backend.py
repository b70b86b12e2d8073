"""Queries are checked when they are made."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk import Price, ScoreQuery, Subspace, Usage

SPACE = Subspace(5, 2, 4)


def test_manual_query_is_one_candidate() -> None:
    """Without soft prompts a query scores the manual prompt once."""
    assert ScoreQuery("ab" * 32).n_candidates == 1


@pytest.mark.parametrize(
    ("Z", "named"),
    [
        (np.zeros((3, 4), np.float32), r"d = 5 here, not \(3, 4\)"),
        (np.zeros(5, np.float32), r"not \(5,\)"),
        (np.zeros((0, 5), np.float32), r"not \(0, 5\)"),
        (np.zeros((1, 5)), "float32, not float64"),
        (np.full((1, 5), np.nan, np.float32), "NaN"),
        (None, "both subspace and Z"),
    ],
)
def test_bad_candidates_are_named(Z: np.ndarray | None, named: str) -> None:
    """Shape, dtype, NaN and a subspace without Z are refused."""
    with pytest.raises(ValueError, match=named):
        ScoreQuery("ab" * 32, subspace=SPACE, Z=Z)  # type: ignore[arg-type]


def test_top_k_is_at_least_one() -> None:
    """Zero words are no answer."""
    with pytest.raises(ValueError, match="top_k is at least 1, not 0"):
        ScoreQuery("ab" * 32, top_k=0)


def test_usage_adds_up() -> None:
    """Tokens of two calls."""
    assert Usage(10, 2, 1) + Usage(5, 0, 3) == Usage(15, 2, 4)
    assert Price(1_000_000).cost_nanousd(Usage(3)) == 3
