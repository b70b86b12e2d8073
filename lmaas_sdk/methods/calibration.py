"""Taking out what a model says before it has read anything: a label word is likelier than another by itself.

p(y | x) is divided by what the prompt says of y whatever the text is, and normalised again. Zhao et al. 2021
("Calibrate Before Use", arXiv:2102.09690) take that from texts without content, the mean of p over "N/A", "[MASK]" and
""; Zhou et al. 2023 ("Batch Calibration", arXiv:2309.17249) from the mean of p over a batch of texts, whose labels
nobody looks at. The latter is right where the classes of the batch are equally frequent, as in a few-shot sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONTENT_FREE", "calibrated", "log_prior", "log_softmax"]

CONTENT_FREE = ("N/A", "[MASK]", "")
"""The inputs without content of Zhao et al. 2021; "[MASK]" is six characters, as in any user's text."""


def log_prior(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm of the mean probability of each class over some texts.

    Args:
        logits: (n_texts, n_labels).

    Returns:
        (n_labels,) float32.
    """
    mean = np.exp(log_softmax(logits)).mean(axis=0)
    smallest = np.finfo(np.float32).tiny  # what a model is sure of need not stay so: no prior is 0
    prior: NDArray[np.float32] = np.log(np.maximum(mean, smallest)).astype(np.float32)
    return prior


def calibrated(logits: NDArray[np.float32], prior: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Logits whose softmax is p(y | x) / prior(y), normalised.

    Args:
        logits: (n_texts, n_labels).
        prior: (n_labels,), a logarithm; None: the logits stay as they are.
    """
    if prior is None:
        return logits
    shifted: NDArray[np.float32] = (log_softmax(logits) - prior).astype(np.float32)
    return shifted


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithms of the probabilities of each class: (n_texts, n_labels)."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return found
