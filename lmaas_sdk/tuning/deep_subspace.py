"""Prompts of several layers as one point to search: z is the layers' own, one behind another (arXiv:2205.11200)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import digest
from lmaas_sdk.tuning.frozen import FrozenPrompt, in_layer_order
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, Subspace

__all__ = ["DeepSubspace", "Space", "asked", "counted_as", "space_from_wire"]

_Z = NDArray[np.float32]


@dataclass(frozen=True)
class DeepSubspace:
    """A subspace for each of several layers.

    Args:
        parts: Of each layer, in the order of the layers; alike in length, width and layout, and without arrays.

    Raises:
        ValueError: There is none, two enter one layer, or they do not go together.
    """

    parts: tuple[Subspace, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a deep subspace has a part for at least one layer, and there is none")
        nothing = [np.zeros(part.d, np.float32) for part in self.parts]
        in_layer_order(self.parts[0], [*map(FrozenPrompt, self.parts[1:], nothing[1:])])
        if [part.layers for part in self.parts] != sorted(part.layers for part in self.parts):
            raise ValueError(f"parts stand in the order of their layers, not {[part.layers for part in self.parts]}")
        for part in self.parts:
            if part.base is not None or part.projection not in NAMED_PROJECTIONS:
                raise ValueError(f"the prompts of several layers name no uploaded arrays, as {part.layers} does")

    @classmethod
    def provisional(cls, base: Subspace) -> DeepSubspace:
        """One of two layers: what it costs is what any other of `base` costs."""
        return cls((base, replace(base, layers=(1,))))

    @property
    def d(self) -> int:
        """Size of z: of all layers together."""
        return sum(part.d for part in self.parts)

    @property
    def hidden_size(self) -> int:
        return self.parts[0].hidden_size

    @property
    def prompt_tokens(self) -> int:
        return self.parts[0].prompt_tokens

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the value, in hex."""
        return digest(self.to_wire())

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """The place of each layer's z."""
        ends = np.cumsum([0, *(part.d for part in self.parts)]).tolist()
        return tuple(slice(start, end) for start, end in pairwise(ends))

    def to_wire(self) -> dict[str, object]:
        return {"parts": [part.to_wire() for part in self.parts]}

    def runs(self, Z: _Z) -> Iterator[slice]:
        """Cuts candidates (n, d) into runs of those that differ in one layer at most: a query holds no others."""
        first, moved = 0, -1
        for index in range(1, len(Z)):
            differing = self._differing(Z[first], Z[index])
            if len(differing) > 1 or (differing and moved not in (-1, *differing)):
                yield slice(first, index)
                first, moved = index, -1
            elif differing:
                moved = differing[0]
        yield slice(first, len(Z))

    def asked(self, Z: _Z) -> tuple[Subspace, _Z, tuple[FrozenPrompt, ...]]:
        """What a query about one run of candidates holds: the layer that differs, its Z, and the others, frozen.

        A layer whose z is 0 has no prompt.
        """
        differing = {layer for z in Z[1:] for layer in self._differing(Z[0], z)}
        (layer,) = differing or {0}
        frozen = [
            FrozenPrompt(part, np.ascontiguousarray(Z[0, block]))
            for number, (part, block) in enumerate(zip(self.parts, self.blocks, strict=True))
            if number != layer and Z[0, block].any()
        ]
        return self.parts[layer], np.ascontiguousarray(Z[:, self.blocks[layer]]), tuple(frozen)

    def _differing(self, one: _Z, other: _Z) -> list[int]:
        return [number for number, block in enumerate(self.blocks) if not np.array_equal(one[block], other[block])]


Space = Subspace | DeepSubspace
"""What is searched: one prompt, or a prompt for each of several layers."""


def counted_as(space: Space | None) -> Subspace | None:
    """Under which prompt tokens are counted: that of any layer, as all take the same positions."""
    return space.parts[0] if isinstance(space, DeepSubspace) else space


def asked(space: Space | None, Z: _Z | None) -> tuple[Subspace | None, _Z | None, tuple[FrozenPrompt, ...]]:
    """Subspace, Z and frozen prompts of a query about candidates that stand in one run."""
    return space.asked(Z) if isinstance(space, DeepSubspace) and Z is not None else (counted_as(space), Z, ())


def space_from_wire(value: object) -> Space:
    """Reads what `to_wire` of either wrote.

    Raises:
        ValueError: It is neither.
    """
    if not isinstance(value, Mapping) or value.keys() != {"parts"}:
        return Subspace.from_wire(value)
    if not isinstance(value["parts"], list):
        raise ValueError(  # noqa: TRY004  (a file says so)
            f"parts is a list of subspaces, not {value['parts']!r:.80}"
        )
    return DeepSubspace(tuple(map(Subspace.from_wire, value["parts"])))
