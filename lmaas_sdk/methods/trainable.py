"""What a backend is that lends its model to methods which train by gradients: one that computes in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import Backend
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["TrainableBackend", "Training", "trainable"]


class Training(Protocol):
    """A training in progress. Whoever drops it ends it."""

    async def step(self, rows: Sequence[int]) -> float:
        """One step of Adam on the mean cross entropy of some texts, over the label words.

        It draws no random number, and on a CPU the same steps have the same bits. Cancelled, it may yet be taken.

        Args:
            rows: Indices of the texts, each once.

        Returns:
            The loss before the step.
        """
        ...

    async def logits(self, texts: TextSet) -> NDArray[np.float32]:
        """Label logits of texts under what is learned so far: (n_texts, n_labels) float32.

        They are those of `Backend.score` for what was learned, up to rounding.
        """
        ...

    async def learned(self) -> Mapping[str, NDArray[np.float32]]:
        """Copies of what is learned so far: `z` (d,), or every weight by a name of its own."""
        ...


@runtime_checkable
class TrainableBackend(Protocol):
    """A backend whose model can be differentiated in this process. None of it is a call, and nothing is billed."""

    async def training(
        self,
        texts: TextSet,
        labels: NDArray[np.int64],
        *,
        learning_rate: float,
        subspace: Subspace | None = None,
    ) -> Training:
        """Begins to train; the backend itself goes on answering with the model as it is.

        Args:
            texts: The texts with their label words.
            labels: (n_texts,) class indices.
            learning_rate: Of Adam.
            subspace: Learn z of a soft prompt of projection `identity`, from z = 0 on; None: all weights.

        Raises:
            InvalidQuery: The prompt leaves no room for text, or the subspace is of another width or projection.
            VerbalizerError: A label word does not fit the model.
        """
        ...

    def with_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> Backend:
        """The same model with other weights, as another backend, which is closed with this one.

        Args:
            weights: As `Training.learned` tells them.

        Raises:
            ValueError: They are none of this model's.
        """
        ...


def trainable(backend: Backend, what: str) -> TrainableBackend:
    """The backend, if it lends its model.

    Args:
        backend: Any.
        what: Needs it, for the message: "prompt tuning".

    Raises:
        Unsupported: It does not; the message says what to use.
    """
    if isinstance(backend, TrainableBackend):
        return backend
    raise Unsupported(
        f"{what} needs gradients, and {backend.card.name!r} can only be called (as-a-service: no, in the paper's "
        "table): load the model into this process, by load_backend('roberta-tiny', in_process=True) or a folder in the "
        "name's place; for a model behind an API take BlackBoxTuning"
    )
