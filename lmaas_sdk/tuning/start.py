"""Where a search starts, and along which axes: learned on other tasks, in place of what a seed draws.

A prompt is written out as vectors by the server that can build it, once and for free, and these are uploaded as the
`base` of the new subspace: the search starts there, at z = 0. No client builds an A for it. Vectors of `add`, which are
added to the base tokens, mean nothing in `cat`, where they stand alone, so a prompt keeps its layout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.spend import Spend
from lmaas_sdk.backend import ModelCard
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.client import Client
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.tuning.learned_projection import LearnedProjection, spent_so_far
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.subspace import Subspace
from lmaas_sdk.tuning.uploads import at_layer_0, upload, written_out

__all__ = ["Base", "Placed", "Projection", "Start", "prompt_vectors"]

_AXES = 2
_Array = NDArray[np.float32]
Base = TuningResult | TunedPrompt | str | Path | NDArray[np.float32]
"""Where a search may start: a result, a prompt, the path of a prompt file, or the vectors (L, D)."""
Projection = LearnedProjection | NDArray[np.float32]
"""Axes of a search: learned ones, or any (L * D, d)."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A subspace whose arrays the backend holds.

    Args:
        subspace: It names them.
        arrays: They.
        digests: By option, for a run's settings.
    """

    subspace: Subspace
    arrays: tuple[_Array, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a search begins with.

    Args:
        base: A prompt, or vectors (L, D); None: the layout's own.
        projection: (L * D, d); None: the preset's.
        sources: What these have cost, by option, where that is known.
    """

    base: TunedPrompt | _Array | None = None
    projection: _Array | None = None
    sources: Mapping[str, Spend] = field(default_factory=dict)

    @classmethod
    def of(cls, base: Base | None, projection: Projection | None) -> Start:
        """Reads the options of a tuner; a path is read now.

        Raises:
            TypeError: One is something else.
            ValueError: An array has not two axes, is empty or not finite, or moves nothing along one of its axes.
            PromptFileError: The file is missing or damaged.
        """
        sources = {}
        if isinstance(base, TuningResult):
            sources["base"] = spent_so_far([base])
            base = base.prompt
        elif isinstance(base, (str, Path)):
            base = TunedPrompt.load(base)
        if isinstance(projection, LearnedProjection):
            if projection.spend is not None:
                sources["projection"] = projection.spend
            projection = projection.matrix
        found = base if base is None or isinstance(base, TunedPrompt) else _checked("base", "(L, D)", base)
        axes = None if projection is None else _checked_axes(projection)
        return cls(found, axes, sources)

    def sized(self, preset: Preset, card: ModelCard) -> Preset:
        """The preset with the sizes of what was learned.

        Raises:
            PromptFileError: The base is a prompt of another model.
            ValueError: A size or the layout is not the preset's, or a width not the model's.
            Unsupported: The model's backend stores no arrays.
        """
        if self.base is None and self.projection is None:
            return preset
        if not card.capabilities.arrays:
            raise Unsupported(f"{card.name} stores no arrays: neither base nor projection can be given there")
        if isinstance(self.base, TunedPrompt):
            _check_prompt(self.base, preset, card)
        for name, tokens in self._tokens(card.hidden_size).items():
            if preset.prompt_tokens not in {None, tokens}:
                raise ValueError(
                    f"the {name} is for {tokens} prompt tokens, and {preset.prompt_tokens} are searched: give a preset "
                    f"with prompt_tokens={tokens}, or another {name}"
                )
            preset = replace(preset, prompt_tokens=tokens)
        if self.projection is None:
            return preset
        return replace(preset, projection=array_digest(self.projection), d=self.projection.shape[1])

    def _tokens(self, width: int) -> dict[str, int]:
        """L as each of the two has it.

        Raises:
            ValueError: It is of another width.
        """
        tokens = {}
        if isinstance(self.base, TunedPrompt):
            tokens["base"] = self.base.subspace.prompt_tokens
        elif self.base is not None:
            if self.base.shape[1] != width:
                raise ValueError(f"the base has shape {self.base.shape}, and is (L, {width}) on a model of that width")
            tokens["base"] = len(self.base)
        if self.projection is not None:
            tokens["projection"], rest = divmod(len(self.projection), width)
            if rest or not tokens["projection"]:
                raise ValueError(
                    f"the projection has {len(self.projection)} rows, and has L * {width} on a model of that width"
                )
        return tokens

    def refuse_layers(self) -> None:
        """Refuses to search several layers from what was learned for one.

        Raises:
            ValueError: There is a base or a projection.
        """
        if self.base is not None or self.projection is not None:
            raise ValueError(
                "base and projection are for a prompt at layer 0: leave them out where layers are searched"
            )

    async def placed(self, client: Client, subspace: Subspace) -> Placed:
        """Has the backend hold what the search begins with; free.

        Args:
            client: Sends.
            subspace: Of the preset that `sized` made.

        Raises:
            Unsupported: The backend stores no arrays, or writes no prompts out.
            BackendError: It refused, or did not answer.
        """
        arrays: list[_Array] = []
        digests: dict[str, str] = {}
        if self.base is not None:
            vectors = await prompt_vectors(client, self.base) if isinstance(self.base, TunedPrompt) else self.base
            arrays.append(vectors)
            digests["base"] = await asyncio.to_thread(array_digest, vectors)
        if self.projection is not None:
            arrays.append(self.projection)
            digests["projection"] = subspace.projection
        await upload(client, arrays)
        return Placed(replace(subspace, base=digests.get("base")), tuple(arrays), digests)


async def prompt_vectors(client: Client, prompt: TunedPrompt) -> _Array:
    """A prompt as the vectors that enter the model: (L, D) float32; free.

    Raises:
        PromptFileError: It was made for another model.
        Unsupported: The backend writes no prompts out.
    """
    prompt.check_fits(client.backend.card)
    await upload(client, prompt.arrays)
    (vectors,) = await written_out(client, at_layer_0(prompt.subspace), prompt.Z)
    return np.ascontiguousarray(vectors, np.float32)


def _check_prompt(prompt: TunedPrompt, preset: Preset, card: ModelCard) -> None:
    prompt.check_fits(card)
    layout = at_layer_0(prompt.subspace).layout
    if layout != preset.layout:
        raise ValueError(
            f"the base was tuned in layout {layout!r}, and its vectors mean nothing in {preset.layout!r}: give a "
            f"preset with layout={layout!r}"
        )


def _checked_axes(projection: object) -> _Array:
    axes = _checked("projection", "(L * D, d)", projection)
    if still := np.flatnonzero(~axes.any(axis=0)).tolist():
        raise ValueError(
            f"the projection is all zeros in {len(still)} of its {axes.shape[1]} columns (columns from 0: "
            f"{still[:5]}): no prompt differs along them, and a search there pays for nothing; leave them out"
        )
    return axes


def _checked(name: str, shape: str, array: object) -> _Array:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"{array!r:.80}"
        what = "a TuningResult, a TunedPrompt, the path of one" if name == "base" else "a LearnedProjection"
        raise TypeError(f"{name} is {what}, or a float32 array {shape}, not {kind} of {type(array).__name__}")
    found = np.array(array, dtype=np.float32, order="C")
    if found.ndim != _AXES or not found.size or not np.isfinite(found).all():
        raise ValueError(f"{name} is a finite array of the shape {shape}; this one is of {array.shape}, or not finite")
    return found
