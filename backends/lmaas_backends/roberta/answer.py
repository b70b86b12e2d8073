"""What a score call answers with: logits of the label words, or the most likely words."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from lmaas_backends.roberta.device_memory import sent
from lmaas_backends.roberta.forward import Forward
from lmaas_backends.roberta.vocabulary import Vocabulary

__all__ = ["Answer", "LabelAnswer", "TopAnswer"]

Words = tuple[tuple[str, ...], ...]
_SORTED_TOGETHER = 1024  # texts: sorting takes five times the memory of their logits, at RoBERTa's vocabulary 1 GB


class Answer(Protocol):
    """Turns states at the mask (n, D) into logits (n, `width`), and words where it has some to tell."""

    @property
    def width(self) -> int:
        """Logits a text is answered with."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the decoder that it reads."""
        ...

    def read(self, states: Tensor) -> tuple[Tensor, Words | None]:
        """Logits (n, `width`) of states (n, D), and the words by text and rank where the answer has some."""
        ...


class LabelAnswer:
    """Logits of the labels: of the word's token, or the mean over its tokens.

    Args:
        forward: The model.
        label_ids: Token ids of each label's word.
    """

    def __init__(self, forward: Forward, label_ids: tuple[tuple[int, ...], ...]) -> None:
        self._forward = forward
        self._sizes = [len(ids) for ids in label_ids]
        ids = torch.tensor([token for ids in label_ids for token in ids])
        self._decoder = forward.decoder_rows(sent(ids, forward.device))

    @property
    def width(self) -> int:
        """The number of labels."""
        return len(self._sizes)

    @property
    def rows(self) -> int:
        """The number of tokens in all words."""
        return sum(self._sizes)

    def read(self, states: Tensor) -> tuple[Tensor, Words | None]:
        """Logits (n, labels); no words."""
        logits = self._forward.logits(states, self._decoder)
        if len(self._sizes) == logits.shape[1]:
            return logits, None
        return torch.stack([part.mean(dim=1) for part in torch.split(logits, self._sizes, dim=1)], dim=1), None


class TopAnswer:
    """The k most likely words, largest logit first; of equal ones the lower id.

    Args:
        forward: The model.
        vocabulary: Spells the words.
        k: How many.
    """

    def __init__(self, forward: Forward, vocabulary: Vocabulary, k: int) -> None:
        self._forward, self._vocabulary, self._k = forward, vocabulary, k

    @property
    def width(self) -> int:
        """The number of words asked for."""
        return self._k

    @property
    def rows(self) -> int:
        """The whole vocabulary."""
        return len(self._forward.weights.words)

    def read(self, states: Tensor) -> tuple[Tensor, Words | None]:
        """Logits (n, k), largest first, and their words."""
        logits, ids = zip(*map(self._most_likely, torch.split(states, _SORTED_TOGETHER)), strict=True)
        words = tuple(tuple(map(self._vocabulary.word, row)) for row in torch.cat(ids).tolist())
        return torch.cat(logits), words

    def _most_likely(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The k largest logits of each text, and the ids of their words: both (n, k)."""
        logits = self._forward.logits(states, self._forward.weights.head.decoder)
        ordered, ids = torch.sort(logits, dim=1, descending=True, stable=True)
        return ordered[:, : self._k].clone(), ids[:, : self._k].clone()
