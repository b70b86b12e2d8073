"""What is minimised: a loss of label logits, computed on the user's side (Sun et al. 2022, section 3.3).

A loss is a reduction of one number a text, so that a candidate may be scored on some texts now and on others later: put
together in the order of the texts, the numbers have the same total, bit for bit, as if they had been scored in one go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tasks.metrics import METRICS

__all__ = ["Objective", "cross_entropy", "hinge", "losses", "text_losses", "total"]

Objective = Literal["ce", "hinge", "metric"]
_HINGE_MARGIN = 2.0

_Logits = NDArray[np.float32] | NDArray[np.float64]
_OfTexts = Callable[[_Logits, NDArray[np.int64]], NDArray[np.float64]]


def cross_entropy(logits: _Logits, labels: NDArray[np.int64]) -> float:
    """Mean cross entropy of the softmax over the label words.

    Args:
        logits: (n_texts, n_labels).
        labels: (n_texts,) class indices.
    """
    return float(_cross_entropies(logits, labels).mean())


def hinge(logits: _Logits, labels: NDArray[np.int64]) -> float:
    """Mean over texts of the sum over wrong labels c of max(0, s_c - s_y + 2). Arguments as in `cross_entropy`."""
    return float(_hinges(logits, labels).mean())


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
    return total(objective, text_losses(objective, logits, labels), labels, metric=metric)


def text_losses(objective: Objective, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each text adds to the loss of each candidate; it depends on no other text and no other candidate.

    Args:
        objective, logits, labels: As in `losses`; the texts may be some of the data set's.

    Returns:
        (n_candidates, n_texts) float64: losses or, for `metric`, which is no sum over texts, the predicted classes.

    Raises:
        ValueError: The objective is unknown.
    """
    # row by row, whoever's text it is: the bits are those that a text would have alone
    texts = logits.reshape(-1, logits.shape[-1])
    return _of_texts(objective)(texts, np.tile(labels, len(logits))).reshape(logits.shape[:2])


def total(
    objective: Objective, per_text: NDArray[np.float64], labels: NDArray[np.int64], *, metric: str
) -> NDArray[np.float64]:
    """The loss of every candidate from what `text_losses` found for all texts, in the order of the texts.

    Args:
        objective, metric: As in `losses`.
        per_text: (n_candidates, n_texts) float64.
        labels: (n_texts,) class indices.

    Returns:
        (n_candidates,) float64.
    """
    if objective == "metric":
        score = METRICS[metric]
        return np.array([-score(labels, row.astype(np.int64)) for row in per_text], dtype=np.float64)
    means: NDArray[np.float64] = np.ascontiguousarray(per_text).mean(axis=1)  # row by row, as of each alone
    return means


def _cross_entropies(logits: _Logits, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = logits.astype(np.float64)
    top = scores.max(axis=1)
    log_sum = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    found: NDArray[np.float64] = log_sum - scores[np.arange(len(labels)), labels]
    return found


def _hinges(logits: _Logits, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = logits.astype(np.float64)
    rows = np.arange(len(labels))
    excess = np.maximum(0.0, scores - scores[rows, labels][:, None] + _HINGE_MARGIN)
    excess[rows, labels] = 0.0
    found: NDArray[np.float64] = excess.sum(axis=1)
    return found


def _predictions(logits: _Logits, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = logits.argmax(axis=1).astype(np.float64)
    return found


def _of_texts(objective: Objective) -> _OfTexts:
    if objective == "ce":
        return _cross_entropies
    if objective == "hinge":
        return _hinges
    if objective == "metric":
        return _predictions
    raise ValueError(f"objective is one of {', '.join(get_args(Objective))}, not {objective!r}")
