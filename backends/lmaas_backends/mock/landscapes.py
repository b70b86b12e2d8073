"""What a mock's answers may come from: its own landscape, or one that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.mock.tokens import Encoded
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Landscape", "Question"]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked for: the logits of candidates on some texts of a set.

    Args:
        Z: (n_candidates, d) float32; None: the manual prompt.
        subspace: Where `Z` lies.
        texts: The whole set.
        rows: (n_texts,) int64: those of it that are asked about.
        encoded: These rows, as the mock's tokenizer sees them.
        labels: The tokens of each label word.
        arrays: What was uploaded, by digest.
        frozen: Prompts of other layers, the same under every candidate.
    """

    Z: NDArray[np.float32] | None
    subspace: Subspace | None
    texts: TextSet
    rows: NDArray[np.int64]
    encoded: Encoded
    labels: tuple[tuple[str, ...], ...]
    arrays: Mapping[str, NDArray[np.float32]]
    frozen: tuple[FrozenPrompt, ...] = ()


@runtime_checkable
class Landscape(Protocol):
    """Where label logits come from: `load_backend("mock", landscape=...)`.

    A candidate's logits are a function of it, of the texts and of the label words: the same bits alone and among
    others, on some of the texts and on all, whatever was asked before.
    """

    @property
    def fingerprint(self) -> str:
        """What tells it from others that answer differently."""
        ...

    def check(self, subspace: Subspace) -> None:
        """Refuses a subspace that it knows nothing of.

        Raises:
            InvalidQuery: It says why.
        """
        ...

    def logits(self, question: Question) -> NDArray[np.float32]:
        """(n_candidates, n_texts, n_labels) float32.

        Raises:
            InvalidQuery: It has no answer; the message says why.
        """
        ...
