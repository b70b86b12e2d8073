"""What an optimiser is told of candidates that nothing, or not everything, is known of."""

from __future__ import annotations

import pytest

from lmaas_sdk.errors import BackendError, NotFinite, ServerFault
from lmaas_sdk.tuning.missing import Missing
from lmaas_sdk.tuning.scheduling import Needs, Scheduling
from lmaas_sdk.tuning.told import Fate

NEEDS = Needs(population=4, min_tell=2)


def told(
    scored: dict[int, float],
    *,
    failed: tuple[int, ...] = (),
    abandoned: tuple[int, ...] = (),
    behind: dict[int, float] | None = None,
    needs: Needs = NEEDS,
    policy: str = "drop",
) -> tuple[dict[int, float], dict[int, Fate]]:
    """What is told of these."""
    missing = Missing()
    if failed:
        missing.lost(failed, ServerFault("503"))
    missing.lost(abandoned, None)
    return missing.told(scored, behind or {}, needs=needs, scheduling=Scheduling(failed=policy))  # type: ignore[arg-type]


def test_who_failed_is_left_out() -> None:
    """The optimiser is told of the others, and what happened is noted."""
    assert told({0: 1.0, 2: 3.0}, failed=(1,), abandoned=(3,)) == ({0: 1.0, 2: 3.0}, {1: "failed", 3: "abandoned"})


def test_who_failed_is_told_as_the_worst_where_that_is_asked_for() -> None:
    """Who was too slow is left out all the same: nothing says that it is bad."""
    values, fates = told({0: 1.0, 2: 3.0}, failed=(1,), abandoned=(3,), policy="impute")
    assert ({0: 1.0, 1: 3.0, 2: 3.0}, {1: "imputed", 3: "abandoned"}) == (values, fates)


def test_too_few_are_filled_up_with_the_worst() -> None:
    """As many as the optimiser needs, the first first."""
    values, fates = told({2: 3.0}, failed=(0, 1, 3), needs=Needs(4, 3))
    assert ({0: 3.0, 1: 3.0, 2: 3.0}, {0: "imputed", 1: "imputed", 3: "failed"}) == (values, fates)


@pytest.mark.parametrize(("lost", "expected"), [((0,), 2.0), ((1,), 1.0), ((0, 1), 4.0)])
def test_a_point_of_the_step_size_is_told_as_the_other_one(lost: tuple[int, ...], expected: float) -> None:
    """Then the step size stays as it is; where both are lost, both are told as the median."""
    scored = {index: value for index, value in {0: 1.0, 1: 2.0, 2: 4.0, 3: 9.0}.items() if index not in lost}
    scored = scored if len(lost) == 1 else {2: 3.0, 3: 5.0}
    values, fates = told(scored, failed=lost, needs=Needs(4, 2, frozenset({0, 1})))
    assert [expected] * len(lost) == [values[index] for index in lost]
    assert dict.fromkeys(lost, "imputed") == fates


def test_who_was_dropped_in_a_race_is_told_as_such() -> None:
    """By the value that the race gave it."""
    assert told({0: 1.0}, behind={1: 2.0, 2: 3.0}) == ({0: 1.0, 1: 2.0, 2: 3.0}, {1: "dropped", 2: "dropped"})


def test_the_first_error_comes_out_where_nobody_was_scored() -> None:
    """There is nothing to tell; a generation that nobody waited for says so too."""
    with pytest.raises(ServerFault, match="503"):
        told({}, failed=(0, 1))
    with pytest.raises(BackendError, match="no candidate"):
        told({}, abandoned=(0, 1))
    missing = Missing()
    missing.not_finite([0, 1])
    with pytest.raises(NotFinite):
        missing.told({}, {}, needs=NEEDS, scheduling=Scheduling())


def test_who_was_scored_in_the_end_has_no_fate() -> None:
    """Lost in one call and answered in another."""
    missing = Missing()
    missing.lost([0, 1], ServerFault("503"))
    assert [0, 1] == missing.failed
    values, fates = missing.told({0: 1.0, 2: 1.5}, {}, needs=NEEDS, scheduling=Scheduling())
    assert ({0: 1.0, 2: 1.5}, {1: "failed"}) == (values, fates)
