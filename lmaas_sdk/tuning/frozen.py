"""Prompts that stand still in some layers while another layer's is searched (Sun et al. 2022b, arXiv:2205.11200)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.finite import all_finite
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["FrozenPrompt", "in_layer_order"]

_ALIKE = ("prompt_tokens", "hidden_size", "layout")


@dataclass(frozen=True, slots=True, eq=False)
class FrozenPrompt:
    """One soft prompt, the same under every candidate of a query.

    Args:
        subspace: Where z lies, and which layers its prompt enters.
        z: (d,) float32, finite.

    Raises:
        ValueError: z is of another shape or type, or not finite.
    """

    subspace: Subspace
    z: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.z.shape != (self.subspace.d,) or self.z.dtype != np.float32:
            raise ValueError(
                f"a frozen z is float32 of shape ({self.subspace.d},), not {self.z.dtype} of shape {self.z.shape}"
            )
        if not all_finite(self.z):
            raise ValueError(f"the z frozen at layers {self.subspace.layers} holds NaN or infinity")


def in_layer_order(searched: Subspace, frozen: Sequence[FrozenPrompt]) -> tuple[FrozenPrompt, ...]:
    """The frozen prompts by their layers, so that equal queries are spelled alike.

    Args:
        searched: The subspace of the candidates beside them.
        frozen: The prompts of other layers.

    Raises:
        ValueError: Two enter the same layer, or they differ in the positions that they enter.
    """
    taken = set(searched.layers)
    for prompt in frozen:
        layers = set(prompt.subspace.layers)
        if taken & layers:
            raise ValueError(f"layer {min(taken & layers)} has two prompts: every layer is searched or frozen once")
        taken |= layers
        for name in _ALIKE:
            here, there = getattr(prompt.subspace, name), getattr(searched, name)
            if here != there:
                raise ValueError(f"prompts of several layers have one {name}, not {there!r} and {here!r}")
    return tuple(sorted(frozen, key=lambda prompt: prompt.subspace.layers))
