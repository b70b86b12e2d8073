"""Hidden states as features, with the statistics of every layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmaas_backends.roberta.forward import Chunk, Forward
from lmaas_sdk.backend import FeatureReply, Pool, Usage

__all__ = ["feature_states"]


@dataclass(slots=True)
class _Moments:
    """Count, sum and sum of squares of all entries of one layer, in float64."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, states: Tensor) -> None:
        wide = states.double()
        self.count += wide.numel()
        self.total += wide.sum().item()
        self.squares += wide.square().sum().item()

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def std(self) -> float:
        return float(max(0.0, self.squares / self.count - self.mean**2) ** 0.5)


def feature_states(forward: Forward, chunks: Iterable[Chunk], lengths: NDArray[np.int64], pool: Pool) -> FeatureReply:
    """The last layer's states of all texts, and mean and (population) standard deviation of every layer's.

    Args:
        forward: The model.
        chunks: Every text once.
        lengths: (n_texts,) tokens of each text.
        pool: As in `FeatureQuery`.
    """
    moments = [_Moments() for _ in range(len(forward.weights.layers) + 1)]
    parts: dict[int, NDArray[np.float32]] = {}
    for chunk in chunks:
        states = _keep_last(forward, chunk, moments)
        for row, vectors, length in zip(chunk.rows.tolist(), states, chunk.lengths.tolist(), strict=True):
            parts[row] = vectors[: 1 if pool == "first" else length].cpu().numpy()
    return FeatureReply(
        features=np.concatenate([parts[row] for row in range(len(lengths))]),
        lengths=lengths,
        layer_mean=np.array([layer.mean for layer in moments], dtype=np.float32),
        layer_std=np.array([layer.std for layer in moments], dtype=np.float32),
        usage=Usage(input_tokens=int(lengths.sum())),
    )


def _keep_last(forward: Forward, chunk: Chunk, moments: list[_Moments]) -> Tensor:
    """The chunk's last states (n, T, D); every layer's real positions are added to `moments`."""
    real = torch.arange(chunk.hidden.shape[1], device=chunk.hidden.device) < chunk.lengths[:, None]
    states = chunk.hidden
    for layer, states in zip(moments, forward.all_states(chunk), strict=True):
        layer.add(states[real])
    return states
