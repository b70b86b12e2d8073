"""Label logits made up so that their mean cross entropy is a given loss."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import permutation

__all__ = ["Answers"]

_SPREAD = 1.5  # of margins over texts: a loss of 0.35 for two classes is then an accuracy of about 0.86
_OTHERS = -1.0  # logit of labels that are neither the right one nor the one it is mistaken for
_FARTHEST = 64.0  # no loss that is asked for has a margin beyond
_HALVINGS = 60


class Answers:
    """How a data set's texts are answered, some more easily than others; a loss moves all of them alike.

    The right label of a text has the logit `shift + ease`, one other has 0 and the rest -1. So accuracy rises as the
    loss falls, and both are those of all texts together, however they are cut into calls.

    Args:
        labels: (n_texts,) int64: the right ones.
        classes: How many there are.
        name: Of the data set; which texts are easy depends on it.
    """

    def __init__(self, labels: NDArray[np.int64], classes: int, *, name: str) -> None:
        count = len(labels)
        normal = NormalDist(0.0, _SPREAD)
        quantiles = np.array([normal.inv_cdf((rank + 0.5) / count) for rank in range(count)])
        self._ease = quantiles[permutation(0, f"ease/{name}", count)]
        self._labels, self._classes = labels, classes
        self._others = math.log(1.0 + (classes - 2) * math.exp(_OTHERS))

    def logits(self, loss: float) -> NDArray[np.float32]:
        """(n_texts, n_labels) float32 whose mean cross entropy is this loss, to the last bits of float32."""
        logits = np.full((len(self._labels), self._classes), _OTHERS, np.float32)
        rows = np.arange(len(self._labels))
        logits[rows, (self._labels + 1) % self._classes] = 0.0
        logits[rows, self._labels] = self._ease + self._shift(loss)
        return logits

    def _shift(self, loss: float) -> float:
        """Where the mean cross entropy, which falls with the shift, is the loss."""
        low, high = -_FARTHEST, _FARTHEST
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if float(np.logaddexp(0.0, self._others - self._ease - middle).mean()) > loss:
                low = middle
            else:
                high = middle
        return (low + high) / 2
