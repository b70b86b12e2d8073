"""Comparisons: what is above chance, and paired differences with their intervals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from bench_cases import done_record

from lmaas_sdk import register_metric
from lmaas_sdk.bench.comparisons import AboveChance, Comparisons, compare, comparisons_of
from lmaas_sdk.bench.resampling import DRAWS, Paired, difference_of, draws_of, metric_of_draws
from lmaas_sdk.bench.results import CellResult, done_cells
from lmaas_sdk.tasks import accuracy, f1

ROWS = np.random.default_rng(7)
LABELS = ROWS.integers(2, size=200)


def predictions(right: float, seed: int) -> np.ndarray:
    """Right on about so many rows."""
    draw = np.random.default_rng(seed)
    return np.where(draw.random(len(LABELS)) < right, LABELS, 1 - LABELS)


def results(*records: dict[str, object]) -> list[CellResult]:
    return done_cells(records)


@pytest.mark.parametrize(("name", "metric"), [("accuracy", accuracy), ("f1", f1)])
def test_a_draw_is_the_metric_of_its_rows(name: str, metric: object) -> None:
    """As it would be where each row stood as often as it was drawn."""
    counts = ROWS.integers(3, size=(5, len(LABELS))).astype(np.float32)
    counts[:, 0] += len(LABELS) - counts.sum(axis=1)  # as many rows as there are
    counts = np.abs(counts)
    sides = [predictions(0.7, 1), predictions(0.9, 2)]
    found = metric_of_draws(name, LABELS, sides, counts)
    for row, times in enumerate(counts.astype(int)):
        for n, side in enumerate(sides):
            drawn = np.repeat(LABELS, times), np.repeat(side, times)
            expected = metric(*drawn) * (len(drawn[0]) / len(LABELS) if name == "accuracy" else 1)  # type: ignore[operator]
            assert found[row, n] == pytest.approx(expected)


def test_a_metric_of_ones_own_is_drawn_as_well() -> None:
    """One draw after the other."""
    register_metric("rightness", lambda labels, found: float(np.mean(labels == found)))
    counts = np.ones((2, len(LABELS)), np.float32)
    sides = [predictions(0.7, 1)]
    assert metric_of_draws("rightness", LABELS, sides, counts).tolist() == [
        [accuracy(LABELS, sides[0])],
        [accuracy(LABELS, sides[0])],
    ]


def test_what_is_equal_differs_by_nothing() -> None:
    """Paired row by row and seed by seed, whatever is drawn."""
    sides = [predictions(0.8, seed) for seed in range(3)]
    found = difference_of([draws_of(Paired("things", "accuracy", LABELS, sides, sides))])
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_difference_lies_in_its_interval() -> None:
    """Which repeats itself, and is about as wide as theory has it: sqrt(p1 q1 / n + p2 q2 / n)."""
    one = Paired("things", "accuracy", LABELS, [predictions(0.9, 1)], [predictions(0.7, 2)])
    found = difference_of([draws_of(one)])
    assert found == difference_of([draws_of(one)])
    assert found.low < found.value < found.high
    assert found.value == accuracy(LABELS, one.first[0]) - accuracy(LABELS, one.second[0])
    by_theory = 2 * 1.96 * (0.9 * 0.1 / 200 + 0.7 * 0.3 / 200) ** 0.5
    assert found.high - found.low == pytest.approx(by_theory, rel=0.15)


def test_seeds_that_differ_widen_it() -> None:
    """A result that only one seed in two gives is no result."""
    alike = Paired("things", "accuracy", LABELS, [predictions(0.8, 1)] * 2, [predictions(0.5, 3)])
    apart = Paired("things", "accuracy", LABELS, [predictions(0.99, 1), predictions(0.6, 2)], [predictions(0.5, 3)])
    narrow, wide = difference_of([draws_of(alike)]), difference_of([draws_of(apart)])
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_an_average_over_tasks_is_surer() -> None:
    """Tasks are drawn apart from each other."""
    one = Paired("things", "accuracy", LABELS, [predictions(0.9, 1)], [predictions(0.7, 2)])
    single, both = difference_of([draws_of(one)]), difference_of([draws_of(one), draws_of(replace(one, task="more"))])
    assert both.value == pytest.approx(single.value)
    assert both.high - both.low < 0.85 * (single.high - single.low)
    assert DRAWS == 4999


RIGHT = {"good": [True] * 90 + [False] * 10, "poor": [True] * 55 + [False] * 45, "best": [True] * 97 + [False] * 3}
BALANCED = [0, 1] * 50


def record(configuration: str, right: str, **more: object) -> dict[str, object]:
    return done_record(configuration, right=RIGHT[right], labels=BALANCED, **more)  # type: ignore[arg-type]


def test_above_chance_is_judged_by_what_is_not_judged() -> None:
    """By model tuning or the calibrated prompt, whichever leads; never by black-box tuning or the manual prompt."""
    found = comparisons_of(
        results(
            record("manual", "best"),
            record("manual-calibrated", "good", seed=1),
            record("manual-calibrated", "poor", seed=1, task="rte"),
            record("model-tuning", "best", seed=1),
            record("black-box:paper", "best", seed=1, evaluations=100, task="rte"),
        )
    )
    assert [(one.task, one.judge, one.is_above) for one in found.above_chance] == [
        ("sst2", "model-tuning", True),
        ("rte", "manual-calibrated", False),
    ]
    sst2, rte = found.above_chance
    assert (sst2.accuracy, sst2.majority, rte.accuracy) == (0.97, 0.5, 0.55)
    differences = np.repeat([1.0, 0.0], [55, 45]) - np.array([1, 0] * 50)
    assert rte.standard_error == pytest.approx(np.std(differences, ddof=1) / 10)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_a_constant_answer_is_no_judge_beside_a_better_one(seeds: int) -> None:
    """Always the majority class: its lead is 0, without any standard error to divide by."""
    labels = [0] * 53 + [1] * 47
    constant = [
        done_record("manual-calibrated", seed=seed, labels=labels, right=[label == 0 for label in labels])
        for seed in range(seeds)
    ]
    tuned = done_record("model-tuning", seed=1, labels=labels, right=RIGHT["good"])
    (alone,), (beside,) = (comparisons_of(results(*constant, *more)).above_chance for more in ([], [tuned]))
    assert (alone.judge, alone.lead, alone.is_above) == ("manual-calibrated", 0.0, False)
    assert (beside.judge, beside.is_above) == ("model-tuning", True)


@pytest.mark.parametrize(("accuracy", "lead"), [(0.6, math.inf), (0.5, 0.0), (0.4, -math.inf)])
def test_a_lead_without_a_standard_error_is_all_or_nothing(accuracy: float, lead: float) -> None:
    """Its sign is that of the difference."""
    one = AboveChance("sst2", "model-tuning", accuracy, majority=0.5, standard_error=0.0)
    assert (one.lead, one.is_above) == (lead, lead > 0)


def test_searches_are_held_against_the_manual_prompt_where_it_is_above_chance() -> None:
    """Its predictions stand for every seed."""
    found = comparisons_of(
        results(
            record("manual", "poor"),
            record("manual", "best", task="rte"),
            record("manual-calibrated", "good", seed=1),
            record("manual-calibrated", "poor", seed=1, task="rte"),
            *(record("black-box:paper", "good", seed=seed, evaluations=100) for seed in (1, 2)),
            *(record("black-box:paper", "poor", seed=seed, evaluations=100, task="rte") for seed in (1, 2)),
        )
    )
    one, calibrated = found.against_manual
    assert (calibrated.second, calibrated.tasks, calibrated.average.value) == ("manual-calibrated", {"sst2": (1,)}, 0)
    assert (one.first, one.second, one.tasks, one.missing) == (
        "black-box:paper@100",
        "manual",
        {"sst2": (1, 2)},
        (),
    )
    assert one.average.value == pytest.approx(0.35)
    assert one.is_better
    assert one.to_dict()["is_better"] is True


def test_a_cheaper_search_is_held_against_the_papers_largest() -> None:
    """On all tasks that both have, by the seeds that both have; the rest is said to be missing."""
    found = comparisons_of(
        results(
            *(record("black-box:paper", "good", seed=seed, evaluations=8000) for seed in (1, 2, 3)),
            record("black-box:paper", "poor", seed=1, evaluations=200),
            *(record("black-box:default", "good", seed=seed, evaluations=200) for seed in (2, 3, 4)),
            record("black-box:default", "good", seed=2, evaluations=200, task="rte"),
        )
    )
    by_name = {one.first: one for one in found.against_paper}
    assert by_name.keys() == {"black-box:paper@200", "black-box:default@200"}
    default, small = by_name["black-box:default@200"], by_name["black-box:paper@200"]
    assert (default.second, default.tasks, default.missing) == ("black-box:paper@8000", {"sst2": (2, 3)}, ("rte",))
    assert (default.is_not_inferior, default.is_better) == (True, False)
    assert (small.is_not_inferior, small.average.value) == (False, pytest.approx(-0.35))


def test_what_cannot_be_told_is_left_out() -> None:
    """Nothing judged, no seed in common, no task in common."""
    assert comparisons_of([]) == Comparisons()
    first = results(record("black-box:paper", "good", seed=1, evaluations=100))
    for second in (
        record("black-box:default", "good", seed=2, evaluations=100),
        record("black-box:default", "good", seed=1, evaluations=100, task="rte"),
    ):
        assert compare(first, results(second), ["sst2", "rte"]) is None
