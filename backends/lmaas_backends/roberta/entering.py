"""Where the soft prompts of a query enter the model: each in its layers, and what is the same under all candidates."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from lmaas_backends.roberta.forward import EnteredPrompts, Forward, Trunk
from lmaas_backends.roberta.soft_prompt import SoftPrompts
from lmaas_sdk.backend import ScoreQuery

__all__ = ["Entering", "SharedTrunk"]


class Entering:
    """The soft prompts of one query.

    Args:
        query: What was asked.
        forward: The model.
        prompts: Makes soft prompts of z.

    Attributes:
        layer: The lowest one whose input differs between candidates: all below it comes to the same for all of them.
    """

    def __init__(self, query: ScoreQuery, *, forward: Forward, prompts: SoftPrompts) -> None:
        self._query, self._forward, self._prompts = query, forward, prompts
        self.layer = 0 if query.subspace is None else min(query.subspace.layers)
        self._kept: dict[range, EnteredPrompts] = {}
        self._below: EnteredPrompts | None = None

    def entered(self, candidates: range, base: Tensor | None) -> EnteredPrompts | None:
        """The prompts of consecutive candidates, and the frozen ones beside them; None: the manual prompt.

        The last ones asked for are kept for the next unit; where layers are shared, those of all candidates, since then
        every candidate's units come between.

        Args:
            candidates: Their indices.
            base: (L, D) what prompts at the embedding output are added to; None: they stand alone.
        """
        space, Z = self._query.subspace, self._query.Z
        if space is None or Z is None:
            return None
        if (kept := self._kept.get(candidates)) is not None:
            return kept
        vectors = torch.stack([self._prompts.vectors(space, Z[index]) for index in candidates])
        deeper = {layer: vectors.flatten(0, 1) for layer in space.layers if layer > 0}
        if self.layer == 0:
            first, self._kept = self._forward.enter(vectors, base), {}
            entered = EnteredPrompts(first.hidden, first.qkv, self._frozen() | deeper)
        else:
            below = self.below(base)
            entered = EnteredPrompts(below.hidden, below.qkv, {**below.deeper, **deeper})
        self._kept[candidates] = entered
        return entered

    def below(self, base: Tensor | None) -> EnteredPrompts:
        """The frozen prompts alone; where none is at the embedding output, `base` stands there as it is."""
        if self._below is None:
            frozen = self._frozen()
            at_input = frozen.pop(0, None)
            first = self._forward.enter((self._nothing() if at_input is None else at_input)[None], base)
            self._below = EnteredPrompts(first.hidden, first.qkv, frozen)
        return self._below

    def _nothing(self) -> Tensor:
        if self._query.subspace is None:
            raise ValueError("the manual prompt has no positions for a soft one")
        size = self._query.subspace.prompt_tokens, self._query.subspace.hidden_size
        return torch.zeros(size, device=self._forward.device)

    def _frozen(self) -> dict[int, Tensor]:
        vectors = [(prompt.subspace.layers, self._prompts.frozen(prompt)) for prompt in self._query.frozen]
        return {layer: prompt for layers, prompt in vectors for layer in layers}


class SharedTrunk:
    """The layers that are the same under all candidates, computed by whichever unit needs them first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trunk: Trunk | None = None

    def computed(self, compute: Callable[[], Trunk]) -> Trunk:
        """What `compute` returned the first time; others wait for it."""
        with self._lock:
            if self._trunk is None:
                self._trunk = compute()
            return self._trunk
