"""Metrics: one number from true labels and predictions; larger is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import TaskError

__all__ = ["METRICS", "Metric", "accuracy", "check_metric", "f1", "get_metric", "is_finite_number", "register_metric"]

Metric = Callable[[NDArray[np.int64], NDArray[np.int64]], float]
"""(labels (n,), predictions (n,)) -> a number, larger is better."""


def accuracy(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """The share of predictions that are right, in [0, 1].

    Args:
        labels, predictions: (n,) class indices.

    Raises:
        TaskError: There are no rows, or the two differ in shape.
    """
    _check(labels, predictions)
    return float(np.mean(labels == predictions))


def f1(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """F1 of class 1, in [0, 1]: 2 TP / (2 TP + FP + FN); 0 where class 1 is neither present nor predicted.

    Args:
        labels, predictions: (n,) class indices.

    Raises:
        TaskError: There are no rows, or the two differ in shape.
    """
    _check(labels, predictions)
    true_positives = int(np.sum((labels == 1) & (predictions == 1)))
    positives = int(np.sum(labels == 1)) + int(np.sum(predictions == 1))  # 2 TP + FP + FN
    return 2 * true_positives / positives if positives else 0.0


_BUILT_IN: Mapping[str, Metric] = MappingProxyType({"accuracy": accuracy, "f1": f1})
_REGISTERED = dict(_BUILT_IN)
METRICS: Mapping[str, Metric] = MappingProxyType(_REGISTERED)
"""All metrics by name, read-only: `register_metric` adds to it."""


def register_metric(name: str, function: Metric) -> None:
    """Makes a metric of one's own known by a name, which is what a `Task` and a saved prompt hold.

    Registering a name again replaces one's own function, so a notebook's cell may run twice.

    Raises:
        TaskError: The name is empty or one of the package's, or `function` cannot be called.
    """
    if not _is_name(name):
        raise TaskError(f"a metric's name is a string that is not empty, not {name!r}")
    if name in _BUILT_IN:
        raise TaskError(f"{name!r} is a metric of the package: choose another name")
    if not callable(function):
        raise TaskError(f"metric {name!r} is a function of (labels, predictions), not {function!r:.80}")
    _REGISTERED[name] = function


def get_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        TaskError: There is none; the message lists what there is.
    """
    try:
        return _REGISTERED[name]
    except (KeyError, TypeError) as error:
        known = ", ".join(_REGISTERED)
        raise TaskError(f"no metric {name!r:.80}: known are {known}; add one's own with register_metric") from error


def check_metric(name: str, labels: NDArray[np.int64]) -> None:
    """Tries a metric before anything is spent on it: the labels are both the truth and the predictions.

    It shows that the metric can take these labels at all, not that every prediction suits it.

    Args:
        name: The metric's name.
        labels: (n,) class indices; they are left as they are.

    Raises:
        TaskError: There is no such metric, it raised, or its value is no finite number; the message gives the value.
    """
    metric = get_metric(name)
    shown = labels.view()
    shown.flags.writeable = False  # as the labels of a data set are
    try:
        value = metric(shown, labels.copy())
    except Exception as error:  # a metric may be anyone's code, so it may raise anything
        raise TaskError(
            f"metric {name!r} fails on {len(labels)} labels predicted right: {type(error).__name__}: {error}"
        ) from error
    if not is_finite_number(value):
        raise TaskError(
            f"metric {name!r} is {value!r:.80} of {type(value).__name__} on {len(labels)} labels predicted right: "
            "make it return a finite number, such as float(...)"
        )


def is_finite_number(value: object) -> bool:
    """Whether a metric's value is a number that can be compared: numpy's too, no bool, no NaN, no infinity."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _check(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> None:
    if np.shape(labels) != np.shape(predictions) or np.ndim(labels) != 1:
        raise TaskError(
            f"labels and predictions are both of shape (n,), not {np.shape(labels)} and {np.shape(predictions)}"
        )
    if len(labels) == 0:
        raise TaskError("a metric needs at least one row: the data set is empty")
