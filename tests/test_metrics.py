"""Tests of lmaas_sdk.tasks.metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmaas_sdk.errors import TaskError
from lmaas_sdk.tasks import METRICS, accuracy, check_metric, f1, get_metric, register_metric

BINARY_ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def classes(*indices: int) -> NDArray[np.int64]:
    return np.array(indices, dtype=np.int64)


def share_right(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    return float(np.mean(labels == predictions))


def test_accuracy_is_the_share_of_right_rows() -> None:
    """Three of four right is 0.75."""
    assert 0.75 == accuracy(classes(0, 1, 2, 2), classes(0, 1, 2, 0))


def test_f1_is_that_of_class_one() -> None:
    """Two true, one false and one missed positive: precision 2/3, recall 2/3."""
    assert pytest.approx(2 / 3, abs=1e-15) == f1(classes(1, 1, 1, 0, 0), classes(1, 1, 0, 1, 0))


@settings(deadline=None, derandomize=True)
@given(BINARY_ROWS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(rows: list[tuple[int, int]]) -> None:
    """The counts' formula agrees with the definition wherever both are defined."""
    labels, predictions = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    right = np.sum((labels == 1) & (predictions == 1))
    if right:
        precision, recall = right / np.sum(predictions == 1), right / np.sum(labels == 1)
        assert pytest.approx(2 / (1 / precision + 1 / recall)) == f1(labels, predictions)
    else:
        assert 0.0 == f1(labels, predictions)


@pytest.mark.parametrize(
    ("labels", "predictions"), [(classes(0, 0), classes(0, 0)), (classes(1), classes(0)), (classes(0), classes(1))]
)
def test_f1_without_a_true_positive_is_zero(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> None:
    """No division by zero, and no warning."""
    assert 0.0 == f1(labels, predictions)


@pytest.mark.parametrize("metric", [accuracy, f1])
@pytest.mark.parametrize(
    ("labels", "predictions", "complaint"),
    [
        (classes(), classes(), "at least one row"),
        (classes(0, 1), classes(0), r"not \(2,\) and \(1,\)"),
        (classes(0, 1).reshape(1, 2), classes(0, 1).reshape(1, 2), r"shape \(n,\)"),
    ],
)
def test_rows_that_do_not_match_are_refused(metric: Any, labels: Any, predictions: Any, complaint: str) -> None:
    """Nothing broadcasts in silence and nothing is averaged over no rows."""
    with pytest.raises(TaskError, match=complaint):
        metric(labels, predictions)


def test_metrics_are_found_by_name() -> None:
    """The registry holds the package's two metrics."""
    assert (accuracy, f1) == (get_metric("accuracy"), get_metric("f1"))
    assert METRICS["f1"] is f1


def test_an_unknown_metric_lists_the_known() -> None:
    """The message names what there is and how to add one."""
    with pytest.raises(TaskError, match=r"no metric 'f2': known are accuracy, f1.*register_metric"):
        get_metric("f2")


def test_a_metric_of_ones_own_can_be_registered_again() -> None:
    """The last function of a name counts, as when a notebook's cell runs twice."""
    register_metric("share-right", accuracy)
    register_metric("share-right", share_right)

    assert get_metric("share-right") is share_right


@pytest.mark.parametrize(
    ("name", "function", "complaint"),
    [
        ("accuracy", share_right, "choose another"),
        (" ", share_right, "not empty"),
        ("mine", 3, "not 3"),
        (3, f1, "not 3"),
    ],
)
def test_an_unusable_metric_is_refused(name: Any, function: Any, complaint: str) -> None:
    """The package's names are not replaced, and a metric can be called."""
    with pytest.raises(TaskError, match=complaint):
        register_metric(name, function)
    assert METRICS["accuracy"] is accuracy


def fails(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    raise KeyError("no such class")


def overwrites(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    labels[0] = 1
    return 1.0


@pytest.mark.parametrize("name", ["accuracy", "f1"])
def test_a_metric_that_works_passes_the_trial(name: str) -> None:
    """The package's metrics take any labels, f1 those without class 1 too, and the labels stay as they are."""
    labels = classes(0, 2, 0)
    check_metric(name, labels)
    assert ([0, 2, 0], True) == (labels.tolist(), labels.flags.writeable)


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(1), 1], ids=repr)
def test_any_real_number_passes_the_trial(value: Any) -> None:
    """numpy's numbers are numbers."""
    register_metric("constant", lambda labels, predictions: value)
    check_metric("constant", classes(0, 1))


@pytest.mark.parametrize(
    "value", [None, float("nan"), float("-inf"), np.float64("nan"), "0.5", True, np.True_, 1j, [0.5], 10**400], ids=repr
)
def test_a_metric_without_a_finite_number_is_refused(value: Any) -> None:
    """The message names the metric and what it answered."""
    register_metric("odd", lambda labels, predictions: value)
    with pytest.raises(TaskError, match=f"metric 'odd' is .* of {type(value).__name__} on 2 labels") as refused:
        check_metric("odd", classes(0, 1))
    assert repr(value)[:80] in str(refused.value)


@pytest.mark.parametrize(("function", "complaint"), [(fails, "KeyError: 'no such class'"), (overwrites, "read-only")])
def test_a_metric_that_raises_is_refused(function: Any, complaint: str) -> None:
    """The message names the metric, and its own error is the cause."""
    register_metric("broken", function)
    with pytest.raises(TaskError, match=f"metric 'broken' fails on 2 labels predicted right: .*{complaint}") as refused:
        check_metric("broken", classes(0, 1))
    assert refused.value.__cause__ is not None


def test_a_trial_of_an_unknown_metric_lists_the_known() -> None:
    """A name that is not registered is the same error as everywhere."""
    with pytest.raises(TaskError, match="no metric 'unheard'"):
        check_metric("unheard", classes(0, 1))
