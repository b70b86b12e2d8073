"""What is minimised: a loss of label logits, computed on the user's side (Sun et al. 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tasks.metrics import METRICS

__all__ = ["Objective", "cross_entropy", "hinge", "losses"]

Objective = Literal["ce", "hinge", "metric"]
_HINGE_MARGIN = 2.0

_Logits = NDArray[np.float32] | NDArray[np.float64]


def cross_entropy(logits: _Logits, labels: NDArray[np.int64]) -> float:
    """Mean cross entropy of the softmax over the label words.

    Args:
        logits: (n_texts, n_labels).
        labels: (n_texts,) class indices.
    """
    scores = logits.astype(np.float64)
    top = scores.max(axis=1)
    log_sum = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    return float((log_sum - scores[np.arange(len(labels)), labels]).mean())


def hinge(logits: _Logits, labels: NDArray[np.int64]) -> float:
    """Mean over texts of the sum over wrong labels c of max(0, s_c - s_y + 2). Arguments as in `cross_entropy`."""
    scores = logits.astype(np.float64)
    rows = np.arange(len(labels))
    excess = np.maximum(0.0, scores - scores[rows, labels][:, None] + _HINGE_MARGIN)
    excess[rows, labels] = 0.0
    return float(excess.sum(axis=1).mean())


def losses(
    objective: Objective, logits: NDArray[np.float32], labels: NDArray[np.int64], *, metric: str
) -> NDArray[np.float64]:
    """The loss of every candidate, each computed by itself, so that it does not depend on the others.

    Args:
        objective: `ce`, `hinge` or `metric` (minus the task's metric).
        logits: (n_candidates, n_texts, n_labels) float32.
        labels: (n_texts,) class indices.
        metric: The task's metric.

    Returns:
        (n_candidates,) float64.

    Raises:
        ValueError: The objective is unknown.
    """
    loss = _loss(objective, metric)
    return np.array([loss(candidate, labels) for candidate in logits], dtype=np.float64)


def _loss(objective: Objective, metric: str) -> Callable[[_Logits, NDArray[np.int64]], float]:
    if objective == "ce":
        return cross_entropy
    if objective == "hinge":
        return hinge
    if objective == "metric":
        return lambda logits, labels: -METRICS[metric](labels, logits.argmax(axis=1).astype(np.int64))
    raise ValueError(f"objective is one of {', '.join(get_args(Objective))}, not {objective!r}")
