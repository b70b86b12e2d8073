"""Training by gradients, through the same forward pass that answers calls: a soft prompt, or all weights.

There is no dropout, so no random number is drawn. Texts are computed in the chunks that the engine cuts, whose
gradients add up to that of the batch: memory does not grow with the batch. Adam is that of Kingma and Ba 2015
(arXiv:1412.6980) with torch's defaults (beta 0.9 and 0.999, epsilon 1e-8, no weight decay).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lmaas_backends.roberta.answer import LabelAnswer
from lmaas_backends.roberta.chunks import ChunkCache, Cut, most_positions
from lmaas_backends.roberta.device_memory import within_memory
from lmaas_backends.roberta.forward import Forward
from lmaas_backends.roberta.linears import PlainLinear
from lmaas_backends.roberta.model import LoadedModel
from lmaas_backends.roberta.named_weights import by_name, made_of
from lmaas_backends.roberta.soft_prompt import SoftPrompts
from lmaas_backends.roberta.text_encoder import EncodedText, Frame
from lmaas_backends.roberta.text_store import LabelIds
from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Training", "learner_of"]


class WeightLearner:
    """All weights of a model, in copies of their own.

    Args:
        model: The model; its own numbers stay as they are.
    """

    def __init__(self, model: LoadedModel) -> None:
        numbers = by_name(model.reread())
        self.parameters = {name: tensor.clone().requires_grad_() for name, tensor in numbers.items()}
        self.forward = _forward(model, self.parameters)

    def prompt(self) -> None:
        """There is none."""


class PromptLearner:
    """z of a soft prompt `start + scale * z`, from 0 on, in front of a model that stays as it is.

    Args:
        model: The model.
        start: (L, D) what stands there at z = 0.
        scale: As of the subspace.
    """

    def __init__(self, model: LoadedModel, start: Tensor, scale: float) -> None:
        self._start, self._scale = start, scale
        self.parameters = {"z": torch.zeros(start.numel(), device=start.device, requires_grad=True)}
        self.forward = _forward(model, by_name(model.reread()))

    def prompt(self) -> Tensor:
        """(1, L, D)."""
        return (self._start + self._scale * self.parameters["z"].view_as(self._start))[None]


def learner_of(model: LoadedModel, prompts: SoftPrompts, subspace: Subspace | None) -> WeightLearner | PromptLearner:
    """What learns z of a subspace's soft prompts, or with None all weights.

    Raises:
        InvalidQuery: The subspace is another than that of all prompts.
    """
    if subspace is None:
        return WeightLearner(model)
    if subspace.projection != "identity":
        raise InvalidQuery(f"gradients teach a prompt itself: projection 'identity', not {subspace.projection!r}")
    return PromptLearner(model, prompts.vectors(subspace, np.zeros(subspace.d, np.float32)), subspace.scale)


def _forward(model: LoadedModel, tensors: Mapping[str, Tensor]) -> Forward:
    return Forward(made_of(tensors, PlainLinear), model.heads, model.epsilon, model.first_position)


class Training:
    """One training, used on one thread at a time; begun on the engine's.

    Args:
        learner: What is learned.
        texts: The training texts, encoded under `frame`.
        labels: (n_texts,) class indices.
        frame: Of the prompt.
        label_ids: Token ids of each label's word.
        encode: Encodes other texts in the same way.
        learning_rate: Of Adam.
    """

    def __init__(
        self,
        learner: WeightLearner | PromptLearner,
        texts: Sequence[EncodedText],
        labels: NDArray[np.int64],
        *,
        frame: Frame,
        label_ids: LabelIds,
        encode: Callable[[TextSet], Sequence[EncodedText]],
        learning_rate: float,
    ) -> None:
        self._learner, self._texts, self._frame, self._encode = learner, texts, frame, encode
        self._labels, self._label_ids = torch.tensor(labels), label_ids
        self._adam = torch.optim.Adam(learner.parameters.values(), lr=learning_rate)
        # The first optimizer of a process has torch import its compiler, and errors that are caught there hold on to
        # every frame below, with this training in it, until they are collected.
        gc.collect()

    @within_memory
    def step(self, rows: Sequence[int]) -> float:
        """One step on the mean cross entropy of some texts; what that was before the step."""
        torch.set_num_threads(1)  # each time, as the lanes do: bits must not depend on who shares a product
        self._adam.zero_grad()
        loss = 0.0
        for places, logits in self._logits([self._texts[row] for row in rows]):
            labels = self._labels[[rows[place] for place in places]].to(logits.device)
            part = functional.cross_entropy(logits, labels, reduction="sum") / len(rows)
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.item()
        self._adam.step()
        return loss

    @within_memory
    def logits(self, texts: TextSet) -> NDArray[np.float32]:
        """Label logits of texts under what is learned so far: (n_texts, n_labels)."""
        torch.set_num_threads(1)
        encoded = self._encode(texts)
        found = np.empty((len(encoded), len(self._label_ids)), np.float32)
        with torch.no_grad():
            for places, logits in self._logits(encoded):
                found[places] = logits.cpu().numpy()
        return found

    def learned(self) -> dict[str, NDArray[np.float32]]:
        """Copies of what is learned so far, by name."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._learner.parameters.items()}

    def _logits(self, texts: Sequence[EncodedText]) -> Iterator[tuple[list[int], Tensor]]:
        """Chunk by chunk: the places of its texts among those given, and their logits (n, labels)."""
        forward = self._learner.forward
        most = most_positions(forward.device, forward.weights.words.shape[1])
        cut = Cut.of((), tuple(texts), self._frame, most=most)
        for run in range(len(cut.runs)):
            # All is computed anew: of weights that change nothing can be kept, and a graph is good for one step.
            chunk = ChunkCache(forward).chunk(cut, run)
            vectors = self._learner.prompt()
            prompts = None if vectors is None else forward.enter(vectors, chunk.base)
            answer = LabelAnswer(forward, self._label_ids)
            yield chunk.rows.tolist(), answer.read(forward.states_at_mask(chunk, prompts))[0]
