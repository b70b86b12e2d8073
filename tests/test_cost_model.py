"""What a unit of work is expected to take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_backends.roberta.cost_model import CostModel


def learned(units: list[tuple[int, float]]) -> CostModel:
    model = CostModel()
    for positions, seconds in units:
        model.observe(positions, seconds)
    return model


def test_a_straight_line_is_found() -> None:
    """a n + b, from three sizes."""
    model = learned([(n, 2e-5 * n + 3e-3) for n in (100, 1000, 400)])
    assert (pytest.approx(2e-5), pytest.approx(3e-3)) == (model.a_s, model.b_s)
    assert pytest.approx(2e-5 * 5000 + 3e-3 * 4) == model.seconds(5000, 4)


def test_of_one_size_a_position_has_its_mean_time() -> None:
    """No line goes through one point, nor through noise that would have large units take less than small ones."""
    assert (pytest.approx(1e-4), 0.0) == (learned([(100, 0.01)] * 3).a_s, learned([(100, 0.01)] * 3).b_s)
    assert pytest.approx(0.05 / 300, rel=1e-2) == learned([(100, 0.03), (200, 0.02)]).a_s


def test_it_forgets_how_fast_it_was() -> None:
    """After some hundreds of units at another speed, the old one has no part in it."""
    model = learned([(n, 1e-5 * n) for n in (100, 300)] * 100)
    for n in (100, 300) * 400:
        model.observe(n, 5e-5 * n)
    assert pytest.approx(5e-5, rel=1e-2) == model.a_s


@given(st.lists(st.tuples(st.integers(1, 40_000), st.floats(1e-6, 100)), min_size=1, max_size=60))
def test_whatever_it_saw_more_work_takes_more_time(units: list[tuple[int, float]]) -> None:
    """Its line rises and lies above nothing, so a wait is a positive number that grows."""
    model = learned(units)
    assert model.a_s > 0
    assert model.b_s >= 0
    assert 0 < model.seconds(10) < model.seconds(20)
