"""The last layer's hidden states, with the moments of every layer's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from lmaas_backends.roberta.forward import Chunk, Forward

__all__ = ["Moments", "keep_last"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sum and sum of squares of all entries of one layer's states, in float64."""

    count: int
    sum: float
    squares: float

    @classmethod
    def of(cls, states: Tensor) -> Moments:
        """Of some states."""
        wide = states.double()
        return cls(wide.numel(), wide.sum().item(), wide.square().sum().item())

    @classmethod
    def total(cls, parts: Iterable[Moments]) -> Moments:
        """Of the states of all parts together."""
        held = list(parts)
        return cls(*(sum(getattr(part, name) for part in held) for name in ("count", "sum", "squares")))

    @property
    def mean(self) -> float:
        return self.sum / self.count

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return float(max(0.0, self.squares / self.count - self.mean**2) ** 0.5)


def keep_last(forward: Forward, chunk: Chunk) -> tuple[Tensor, list[Moments]]:
    """The chunk's last states (M, D), and the moments of the embedding output's and every layer's."""
    moments = []
    states = chunk.hidden
    for states in forward.all_states(chunk):
        moments.append(Moments.of(states))
    return states, moments
