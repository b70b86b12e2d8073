"""A synthetic model: label logits that a search in few directions can improve.

With J the model's own k effective directions, y = J A z + y0 says how a prompt acts; a logit is

    prior_c + gain * quality(y) * sum_k s(y_k) (M_ck . features(text))

where s saturates, M_ck belongs to the label word, and `quality` falls between whole numbers of y if the landscape is
rugged. Prompts of several layers act together: y is the sum of what each does.

Every sum is over multiples of one power of two and stays below 2^53 of them, so it is exact in whatever order a machine
adds; all else is correctly rounded. A candidate's logits are thus the same bits alone, among others and on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.mock.landscapes import Question
from lmaas_backends.mock.tokens import N_FEATURES, Encoded
from lmaas_sdk.canonical import digest
from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.seeding import raw_words
from lmaas_sdk.tuning.subspace import SEEDED_PROJECTIONS, Subspace

__all__ = ["MOST_DIMENSIONS", "SyntheticLandscape"]

MOST_DIMENSIONS = 1 << 15
_FINE, _COARSE = 2.0**-20, 2.0**-8
_LARGEST_Z = 128.0
_LARGEST_ENTRY = 8.0
_SATURATION = 4.0
_GAIN = 3.0
_PRIOR_RANGE = 1.0
_START_RANGE = 0.25
_SUBSPACES_KEPT = 32
_LABELS_KEPT = 64


class SyntheticLandscape:
    """The synthetic model of one seed.

    Args:
        effective_dim: k, the number of directions that matter.
        seed: Of everything the model is.
        ruggedness: 0: smooth; above, ripples of that weight with a minimum near each whole number of y.
    """

    def __init__(self, *, effective_dim: int, seed: int, ruggedness: float) -> None:
        self._k, self._seed, self._ruggedness = effective_dim, seed, ruggedness
        self._start = _START_RANGE * self._drawn("start", (effective_dim,))
        self._directions = lru_cache(maxsize=_SUBSPACES_KEPT)(self._seeded_directions)
        self._label_weights = lru_cache(maxsize=_LABELS_KEPT)(self._drawn_label_weights)

    @property
    def fingerprint(self) -> str:
        """See `Landscape`."""
        return digest([self._k, self._seed, float(self._ruggedness)])

    def check(self, subspace: Subspace) -> None:
        """See `Landscape`; it has an answer everywhere."""

    def logits(self, question: Question) -> NDArray[np.float32]:
        """See `Landscape`."""
        effects = self._start[np.newaxis, :]
        if question.Z is not None and question.subspace is not None:
            effects = self._moved(effects, question.Z, question.subspace, question.arrays)
        for prompt in question.frozen:
            effects = self._moved(effects, prompt.z[np.newaxis], prompt.subspace, question.arrays)
        return self._logits(effects, question.encoded, question.labels)

    def _moved(
        self,
        y: NDArray[np.float64],
        Z: NDArray[np.float32],
        subspace: Subspace,
        arrays: Mapping[str, NDArray[np.float32]],
    ) -> NDArray[np.float64]:
        """Where each candidate's prompt moves y to: (n_candidates, k) float64.

        Args:
            y: (k,) for each candidate, or one for all.
            Z: (n_candidates, d) float32.
            subspace: Where `Z` lies.
            arrays: The uploaded arrays that the subspace may name, by digest.
        """
        if subspace.d > MOST_DIMENSIONS:
            raise InvalidQuery(f"the mock takes at most {MOST_DIMENSIONS} dimensions, not d = {subspace.d}")
        if subspace.projection == "identity":
            directions = self._signs(subspace.d).T
        elif subspace.projection in SEEDED_PROJECTIONS:
            directions = self._directions(subspace)
        else:
            directions = self._projected(arrays[subspace.projection])
        z = _on_grid(np.clip(Z.astype(np.float64), -_LARGEST_Z, _LARGEST_Z), _FINE)
        moved: NDArray[np.float64] = (z @ directions) * (subspace.scale / math.sqrt(subspace.d)) + y
        return (
            moved
            if subspace.base is None
            else moved + self._projected(arrays[subspace.base].reshape(-1, 1), step=_FINE)[0]
        )

    def _logits(
        self, effects: NDArray[np.float64], texts: Encoded, labels: tuple[tuple[str, ...], ...]
    ) -> NDArray[np.float32]:
        """Label logits: (n_candidates, n_texts, n_labels) float32.

        Args:
            effects: y, (n_candidates, k) float64.
            texts: The texts, in the order of the answer.
            labels: The tokens of each label.
        """
        prior, weights = self._label_weights(labels)
        act = _on_grid(effects / np.sqrt(1.0 + (effects / _SATURATION) ** 2), _FINE)
        by_feature = (act @ weights).reshape(len(act), len(labels), N_FEATURES + 1)
        worded = by_feature[:, :, :-1] @ texts.counts.T
        score = worded / texts.norm + by_feature[:, :, -1:]
        quality = (_GAIN / math.sqrt(self._k)) / (1.0 + self._ruggedness * _ripple(effects))
        logits = prior[:, np.newaxis] + quality[:, np.newaxis, np.newaxis] * score
        return np.ascontiguousarray(logits.transpose(0, 2, 1), dtype=np.float32)

    def vectors(self, width: int, layers: int) -> NDArray[np.float64]:
        """What each feature looks like in the hidden states of each layer: (layers, N_FEATURES + 1, width)."""
        return self._drawn("hidden", (layers, N_FEATURES + 1, width))

    def _drawn_label_weights(
        self, labels: tuple[tuple[str, ...], ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Priors (n_labels,) and M as (k, n_labels * (N_FEATURES + 1)); several tokens are averaged."""
        means = [np.mean([self._label(token) for token in tokens], axis=0) for tokens in labels]
        table = _on_grid(np.stack(means), _COARSE)
        weights = table[:, 1:].reshape(len(labels), self._k, N_FEATURES + 1).transpose(1, 0, 2)
        return _PRIOR_RANGE * table[:, 0], weights.reshape(self._k, -1)

    def _label(self, token: str) -> NDArray[np.float64]:
        """A label token's prior, then its M, in one row."""
        return self._drawn(f"label/{token}", (1 + self._k * (N_FEATURES + 1),))

    def _seeded_directions(self, subspace: Subspace) -> NDArray[np.float64]:
        """J A sqrt(d) / scale of a seeded projection, (d, k), drawn as a whole: A itself would be large.

        A and J are independent, so J A is drawn directly, with the spread that it has.
        """
        drawn = self._drawn(f"directions/{subspace.digest}", (subspace.d, self._k))
        # U(-1, 1) has the spread of projection `uniform`; `normal` is wider by the square root of 3
        return drawn if subspace.projection == "uniform" else _on_grid(drawn * math.sqrt(3.0), _COARSE)

    def _projected(self, array: NDArray[np.float32], *, step: float = _COARSE) -> NDArray[np.float64]:
        """J times the columns of an uploaded array: (L * D, columns) -> (columns, k)."""
        signs = self._signs(len(array))
        exact = _on_grid(np.clip(array.astype(np.float64), -_LARGEST_Z, _LARGEST_Z), _FINE)
        spread = math.sqrt(array.shape[1] / len(array))
        return _on_grid(np.clip((signs @ exact).T * spread, -_LARGEST_ENTRY, _LARGEST_ENTRY), step)

    def _signs(self, size: int) -> NDArray[np.float64]:
        """J for prompts of that many numbers: (k, size) of -1 and 1."""
        return np.sign(self._drawn("model", (self._k, size)) + _COARSE / 2)

    def _drawn(self, stream: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """U(-1, 1) on the coarse grid."""
        words = raw_words(self._seed, f"mock/{stream}", math.prod(shape))
        return ((words >> np.uint64(55)).astype(np.float64) - 256.0).reshape(shape) * _COARSE


def _on_grid(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """The nearest multiples of `step`, a power of two."""
    return np.rint(values / step) * step


def _ripple(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the coordinates of about 1 - cos(2 pi y): (n_candidates,), from 0 to 2.

    A polynomial with the cosine's height, period and flat turns: libraries do not agree on the last bit of a cosine.
    """
    r = np.clip(y, -_LARGEST_Z, _LARGEST_Z)
    r = (r - np.rint(r)) ** 2
    waves = _on_grid(16.0 * (r - 2.0 * r * r), _FINE)
    ripple: NDArray[np.float64] = waves.sum(axis=1) / y.shape[1]
    return ripple
