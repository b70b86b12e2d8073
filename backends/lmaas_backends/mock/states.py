"""The mock's hidden states: what a feature query answers with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.mock.tokens import N_FEATURES, Encoded, place
from lmaas_sdk.backend import FeatureReply, Pool, Usage

__all__ = ["feature_reply"]


def feature_reply(texts: Encoded, rows: NDArray[np.int64], vectors: NDArray[np.float64], *, pool: Pool) -> FeatureReply:
    """The hidden states of some texts.

    Args:
        texts: The whole set, encoded without a prompt.
        rows: (n_texts,) int64: the rows asked for.
        vectors: (n_layers + 1, N_FEATURES + 1, D): what a word of each feature looks like in each layer; the last
            feature stands for every token that is no word of the user's.
        pool: As in `FeatureQuery`.
    """
    lengths = texts.token_counts[rows]
    tokens = np.concatenate([_token_features(texts.words[row], int(texts.token_counts[row])) for row in rows])
    by_layer = tokens @ vectors
    if pool == "tokens":
        features = by_layer[-1]
    else:
        features = texts.counts[rows] @ vectors[-1, :N_FEATURES] / texts.norm[rows, np.newaxis]
    return FeatureReply(
        features=np.ascontiguousarray(features, dtype=np.float32),
        lengths=lengths,
        layer_mean=by_layer.mean(axis=(1, 2)).astype(np.float32),
        layer_std=by_layer.std(axis=(1, 2)).astype(np.float32),
        usage=Usage(input_tokens=int(lengths.sum())),
    )


def _token_features(words: tuple[str, ...], length: int) -> NDArray[np.float64]:
    """One row a token, (length, N_FEATURES + 1): each word at its own feature, all else at the last."""
    rows = np.zeros((length, N_FEATURES + 1))
    rows[0, -1] = 1.0
    for position, word in enumerate(words, start=1):
        bucket, sign = place(word)
        rows[position, bucket] = sign
    rows[len(words) + 1 :, -1] = 1.0
    return rows
