"""A checked query as work: units that are prepared one after another and computed side by side.

Everything but the step that `prepare` returns runs on the engine's own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmaas_backends.roberta.answer import Answer
from lmaas_backends.roberta.chunks import ChunkCache, Cut, most_positions
from lmaas_backends.roberta.device_memory import within_memory
from lmaas_backends.roberta.entering import Entering, SharedTrunk
from lmaas_backends.roberta.feature_states import Moments, keep_last
from lmaas_backends.roberta.flops import Workload, below, engine, features
from lmaas_backends.roberta.forward import Chunk, EnteredPrompts, Forward, Trunk
from lmaas_backends.roberta.soft_prompt import SoftPrompts
from lmaas_backends.roberta.work import Step
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ScoreQuery, ScoreReply, Usage
from lmaas_sdk.errors import InvalidQuery

__all__ = ["FeatureJob", "ScoreJob", "Way"]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to compute: the model in one precision, with its chunks.

    Args:
        forward: The model.
        chunks: Of this forward.
        most_positions: Positions that are computed together.
        mixes: Whether candidates of a call share chunks, which fills an accelerator and costs the promise that no bit
            depends on the others.
        launching: Held while a unit's work is handed to an accelerator, which has one queue: so units follow each other
            there, and two threads do not hinder each other at every step.
    """

    forward: Forward
    chunks: ChunkCache
    most_positions: int
    mixes: bool
    launching: AbstractContextManager[object] = field(default_factory=nullcontext)

    @classmethod
    def on(cls, forward: Forward) -> Way:
        """As the forward's device has it best."""
        most, chunks = most_positions(forward.device, forward.weights.words.shape[1]), ChunkCache(forward)
        if forward.device.type == "cpu":
            return cls(forward, chunks, most, mixes=False)
        return cls(forward, chunks, most, mixes=True, launching=threading.Lock())

    def copies(self, positions: int, candidates: int) -> int:
        """Candidates that are computed together on so many positions each: of like number in every unit."""
        if not self.mixes:
            return 1
        units = -(-candidates // max(1, self.most_positions // positions))
        return -(-candidates // units)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A run of texts under some of the candidates."""

    run: int
    candidates: range


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What the units of a score job have found so far, each in its own place."""

    logits: NDArray[np.float32]
    words: list[list[tuple[str, ...]]]

    @classmethod
    def room_for(cls, candidates: int, texts: int, width: int) -> _Found:
        words: list[list[tuple[str, ...]]] = [[()] * texts for _ in range(candidates)]
        return cls(np.empty((candidates, texts, width), np.float32), words)


class ScoreJob:
    """Every candidate on every text.

    Args:
        query: What was asked.
        way: How it is computed.
        cut: The texts.
        answer: What states at the mask are turned into.
        prompts: Makes soft prompts of z.
    """

    def __init__(self, query: ScoreQuery, *, way: Way, cut: Cut, answer: Answer, prompts: SoftPrompts) -> None:
        self._query, self._way, self._cut, self._answer = query, way, cut, answer
        self._entering = Entering(query, forward=way.forward, prompts=prompts)
        self._found: _Found | None = None
        self._shared: dict[int, SharedTrunk] = {}
        self._units = [*self._in_order()]

    @property
    def units(self) -> tuple[int, ...]:
        """Positions of each unit."""
        return tuple(self._cut.positions(unit.run) * len(unit.candidates) for unit in self._units)

    @within_memory
    def prepare(self, unit: int) -> Step:
        """Builds the unit's chunk and enters its prompts."""
        run, candidates = self._units[unit].run, self._units[unit].candidates
        if self._found is None:  # not before: most of the work may never be done
            self._found = _Found.room_for(self._query.n_candidates, len(self._cut.texts), self._answer.width)
        chunk = self._way.chunks.chunk(self._cut, run, len(candidates))
        prompts, found = self._entering.entered(candidates, chunk.base), self._found
        trunk_of = self._trunk(run, chunk.base, copies=len(candidates))
        return lambda: self._compute(chunk, prompts, trunk_of, first=candidates.start, found=found)

    def reply(self) -> ScoreReply:
        """Logits, words where they were asked for, and usage."""
        if self._found is None:
            raise RuntimeError("nothing was computed yet")
        numbers = str(self._way.forward.dtype).removeprefix("torch.")
        for candidate, logits in enumerate(self._found.logits):
            _check_logits(logits, self._query, candidate, numbers=numbers)
        words = tuple(map(tuple, self._found.words)) if self._query.top_k is not None else None
        return ScoreReply(self._found.logits, Usage(input_tokens=sum(self.units)), words)

    def flops(self, unit: int) -> int:
        """Floating point operations of a unit."""
        lengths = tuple(self._cut.texts[index].positions for index in self._cut.runs[self._units[unit].run])
        candidates, prompt = self._units[unit].candidates, self._cut.frame.prompt_tokens
        work = Workload(lengths, self._answer.rows, len(candidates), prompt)
        # Layers below the first that differs are computed once a run, and counted with its first unit.
        shared = len(candidates) - (candidates.start == 0)
        return engine(self._way.forward.shape, work) - shared * below(
            self._way.forward.shape, work, layers=self._entering.layer
        )

    def _in_order(self) -> list[_Unit]:
        """Candidate by candidate, so that a prompt is needed for as long as its units follow each other.

        Where layers are the same under all candidates, run by run instead, so that a run's are needed for as long.
        """
        count, units = self._query.n_candidates, []
        copies = [self._way.copies(self._cut.positions(run), count) for run in range(len(self._cut.runs))]
        for run, room in enumerate(copies):
            units += [_Unit(run, range(first, min(first + room, count))) for first in range(0, count, room)]
        if self._entering.layer > 0:
            return sorted(units, key=lambda unit: (unit.run, unit.candidates.start))
        return sorted(units, key=lambda unit: (unit.candidates.start, unit.run))

    def _trunk(self, run: int, base: Tensor | None, *, copies: int) -> Callable[[], Trunk | None]:
        """What computes the layers that all candidates share, or takes them from the run's unit that did."""
        layer, forward = self._entering.layer, self._way.forward
        if layer == 0:
            return lambda: None
        if run not in self._shared:  # units come run by run: what an earlier one shares, its own units hold
            self._shared = {run: SharedTrunk()}
        shared, alone, prompts = self._shared[run], self._way.chunks.chunk(self._cut, run), self._entering.below(base)

        def computed() -> Trunk:
            return Trunk(layer, forward.climbed(alone, prompts, to=layer))

        return lambda: shared.computed(computed).spread(alone.groups, copies)

    def _compute(
        self,
        chunk: Chunk,
        prompts: EnteredPrompts | None,
        trunk_of: Callable[[], Trunk | None],
        *,
        first: int,
        found: _Found,
    ) -> None:
        with self._way.launching:
            states = self._way.forward.states_at_mask(chunk, prompts, trunk_of())
            logits, spelled = self._answer.read(states)
        candidates, rows = chunk.candidates.numpy() + first, chunk.rows.numpy()
        found.logits[candidates, rows] = logits.cpu().numpy()
        for candidate, row, words in zip(candidates.tolist(), rows.tolist(), spelled or (), strict=False):
            found.words[candidate][row] = words


class FeatureJob:
    """Hidden states of every text.

    Args:
        query: What was asked.
        way: How it is computed.
        cut: The texts.
        name: The model's, for messages.
    """

    def __init__(self, query: FeatureQuery, *, way: Way, cut: Cut, name: str) -> None:
        self._query, self._way, self._cut, self._name = query, way, cut, name
        self._parts: dict[int, NDArray[np.float32]] = {}
        self._moments: dict[int, list[Moments]] = {}

    @property
    def units(self) -> tuple[int, ...]:
        """Positions of each unit."""
        return tuple(self._cut.positions(run) for run in range(len(self._cut.runs)))

    @within_memory
    def prepare(self, unit: int) -> Step:
        """Builds the unit's chunk."""
        chunk = self._way.chunks.chunk(self._cut, unit)
        return lambda: self._compute(chunk, unit)

    def reply(self) -> FeatureReply:
        """Features, and mean and (population) standard deviation of every layer's states."""
        lengths = np.array([text.positions for text in self._cut.texts], dtype=np.int64)
        # Summed up in the order of the texts' runs, whichever was computed first.
        layers = [
            Moments.total(parts) for parts in zip(*(self._moments[run] for run in sorted(self._moments)), strict=True)
        ]
        reply = FeatureReply(
            features=np.concatenate([self._parts[row] for row in range(len(lengths))]),
            lengths=lengths,
            layer_mean=np.array([layer.mean for layer in layers], dtype=np.float32),
            layer_std=np.array([layer.std for layer in layers], dtype=np.float32),
            usage=Usage(input_tokens=int(lengths.sum())),
        )
        if not (np.isfinite(reply.features).all() and np.isfinite(reply.layer_mean).all()):
            raise InvalidQuery(f"hidden states of these texts overflow float32 in model {self._name!r}")
        return reply

    def flops(self, unit: int) -> int:
        """Floating point operations of a unit."""
        lengths = tuple(self._cut.texts[index].positions for index in self._cut.runs[unit])
        return features(self._way.forward.shape, Workload(lengths, 0))

    def _compute(self, chunk: Chunk, unit: int) -> None:
        states, self._moments[unit] = keep_last(self._way.forward, chunk)
        for row, vectors in zip(chunk.rows.tolist(), _by_text(chunk, states), strict=True):
            self._parts[row] = vectors[: 1 if self._query.pool == "first" else None].cpu().numpy()


def _by_text(chunk: Chunk, states: Tensor) -> list[Tensor]:
    lengths = [group.length for group in chunk.groups for _ in range(group.texts)]
    return list(torch.split(states, lengths))


def _check_logits(logits: NDArray[np.float32], query: ScoreQuery, candidate: int, *, numbers: str) -> None:
    if np.isfinite(logits).all():
        return
    if query.subspace is None or query.Z is None:
        raise InvalidQuery(f"the logits of these texts overflow {numbers}: this model cannot answer for them in it")
    raise InvalidQuery(
        f"the prompt of candidate {candidate} overflows {numbers}: with entries of z up to "
        f"{np.abs(query.Z[candidate]).max():g} and scale = {query.subspace.scale:g} its logits are not finite; lower "
        "z, the scale or the uploaded arrays"
    )
