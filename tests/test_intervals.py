"""How far a metric may be off: 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lmaas_sdk.errors import TaskError
from lmaas_sdk.seeding import raw_words
from lmaas_sdk.tasks import Metric, accuracy, f1, register_metric
from lmaas_sdk.tasks.intervals import Confusion, bootstrap, confusion_of, interval_of, wilson


def binomial(right: int, n: int, p: float) -> float:
    return math.comb(n, right) * p**right * (1 - p) ** (n - right)


def fractions(seed: int, stream: str, count: int) -> NDArray[np.float64]:
    """Even in [0, 1), the same in every version of numpy."""
    return raw_words(seed, stream, count) / 2.0**64


@pytest.mark.parametrize(
    ("right", "n", "expected"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        # worked out by hand
        (8, 10, (0.4902, 0.9433)),
        (29, 29, (0.8830, 1.0000)),
    ],
)
def test_wilsons_interval_has_its_published_values(right: int, n: int, expected: tuple[float, float]) -> None:
    """To four digits, as they were printed."""
    assert expected == tuple(round(end, 4) for end in wilson(right, n))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 49, 1000, 12345, 10**9])
def test_wilsons_interval_is_proper_where_all_or_nothing_is_right(n: int) -> None:
    """It has a width, its outer end is exactly 0 or 1, and one is the mirror of the other."""
    lower, upper = wilson(n, n)
    assert 0 < lower < upper == 1.0
    assert wilson(0, n) == pytest.approx((1 - upper, 1 - lower), abs=1e-15)
    assert wilson(0, n)[0] == 0.0


def test_nothing_seen_nothing_known() -> None:
    """A share of no texts may be anything."""
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("n", [10, 30, 100, 400])
def test_wilsons_interval_holds_the_truth_95_times_in_100(n: int) -> None:
    """Exactly, over all outcomes, averaged over proportions; and for no proportion much more seldom."""
    intervals = [wilson(right, n) for right in range(n + 1)]
    shares = [
        sum(binomial(right, n, p) for right, (lower, upper) in enumerate(intervals) if lower <= p <= upper)
        for p in np.linspace(0.05, 0.95, 181)
    ]
    assert np.mean(shares) == pytest.approx(0.95, abs=0.01)
    assert min(shares) > 0.88


def drawn(seed: int, n: int) -> Confusion:
    """Texts of which 30 % are of class 1; 70 % of these are found, and 10 % of the others taken for them."""
    is_one, luck = fractions(seed, "class", n) < 0.3, fractions(seed, "luck", n)
    found = np.where(is_one, luck < 0.7, luck < 0.1)
    return confusion_of(is_one.astype(np.int64), found.astype(np.int64))


TRUE_F1 = 2 * 0.21 / (2 * 0.21 + 0.09 + 0.07)


@pytest.mark.parametrize(
    ("interval", "n", "rounds", "expected"),
    [
        (lambda confusion: interval_of("f1", confusion), 30, 2000, 0.95),
        (lambda confusion: interval_of("f1", confusion), 400, 2000, 0.95),
        (lambda confusion: bootstrap(f1, confusion), 200, 100, 0.95),
    ],
    ids=["f1 of few", "f1 of many", "bootstrap"],
)
def test_intervals_hold_the_truth_95_times_in_100(
    interval: Callable[[Confusion], tuple[float, float] | None], n: int, rounds: int, expected: float
) -> None:
    """Over as many samples, within four of their standard deviations."""
    intervals = [interval(drawn(seed, n)) for seed in range(rounds)]
    share = np.mean([ends is not None and ends[0] <= TRUE_F1 <= ends[1] for ends in intervals])
    assert share == pytest.approx(expected, abs=4 * math.sqrt(0.95 * 0.05 / rounds))


def test_pairs_are_counted_in_order() -> None:
    """Each pair of label and prediction that occurs, with how often; any number of classes."""
    labels, predictions = np.array([2, 0, 2, 1, 0, 2]), np.array([0, 0, 2, 3, 0, 0])
    assert confusion_of(labels, predictions) == ((0, 0, 2), (1, 3, 1), (2, 0, 2), (2, 2, 1))


def test_accuracy_counts_the_diagonal() -> None:
    """Of six texts three are right."""
    assert interval_of("accuracy", ((0, 0, 2), (1, 3, 1), (2, 0, 2), (2, 2, 1))) == wilson(3, 6)


def test_f1_is_mapped_from_the_share_of_true_positives() -> None:
    """8 true positives among 10 texts of class 1 or predicted so; the others tell nothing."""
    lower, upper = wilson(8, 10)
    expected = (2 * lower / (1 + lower), 2 * upper / (1 + upper))
    assert interval_of("f1", ((0, 0, 90), (0, 1, 1), (1, 0, 1), (1, 1, 8), (2, 2, 7))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        (((1, 1, 1),), (0.3424, 1.0)),
        (((1, 0, 1),), (0.0, 0.8848)),
        (((0, 0, 40),), (0.0, 1.0)),
        (((1, 1, 40),), (0.9542, 1.0)),
    ],
    ids=["one text right", "one text wrong", "no class 1", "class 1 only"],
)
def test_f1_of_few_or_one_sided_texts_has_a_width(confusion: Confusion, expected: tuple[float, float]) -> None:
    """Where a bootstrap would be a point; without class 1 the texts tell nothing of it."""
    assert [round(end, 4) for end in interval_of("f1", confusion) or ()] == list(expected)


def test_a_metric_of_ones_own_is_drawn_again() -> None:
    """For accuracy the ends are quantiles of the binomial distribution, which are known."""
    register_metric("right", accuracy)
    assert interval_of("right", ((0, 0, 5), (1, 0, 2), (1, 1, 3))) == (0.5, 1.0)


def test_draws_are_the_same_each_time() -> None:
    """The ends are the same bits, and were written down."""
    confusion = ((0, 0, 130), (0, 1, 40), (1, 0, 20), (1, 1, 110))
    assert bootstrap(f1, confusion) == bootstrap(f1, confusion) == (0.7286821705426356, 0.8387096774193549)


def test_draws_hold_as_many_texts_as_there_are() -> None:
    """Each draw has all texts' number, pairs that were there, and arrays that the metric may write to."""
    seen = set()

    def own(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
        seen.update(zip(labels.tolist(), predictions.tolist(), strict=True))
        labels[:] = predictions[:] = 9
        return float(len(labels) + len(predictions))

    assert bootstrap(own, ((0, 1, 3), (2, 0, 4))) == (14.0, 14.0)
    assert seen == {(0, 1), (2, 0)}


def failing(times: int) -> Metric:
    """A metric of the share of class 1 that fails at first."""
    left = iter(range(times))

    def own(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
        if next(left, None) is not None:
            raise ZeroDivisionError
        return float(np.mean(labels))

    return own


def test_draws_without_a_value_are_left_out_while_they_are_few() -> None:
    """There are ends while no end can lie among the draws that have no value."""
    confusion = ((0, 0, 10), (1, 1, 10))
    assert bootstrap(failing(0), confusion) == (0.3, 0.75)
    assert bootstrap(failing(24), confusion) == (0.25, 0.75)
    assert bootstrap(failing(25), confusion) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.5"], ids=repr)
def test_a_metric_that_is_no_finite_number_has_no_interval(value: object) -> None:
    """Neither NaN nor infinity can be an end."""
    assert bootstrap(lambda labels, predictions: value, ((0, 0, 2),)) is None  # type: ignore[arg-type,return-value]


def test_what_is_not_known_has_no_interval() -> None:
    """Without texts there is nothing to judge by; an unknown metric is named."""
    assert interval_of("accuracy", ()) is None
    with pytest.raises(TaskError, match="unheard"):
        interval_of("unheard", ((0, 0, 1),))
