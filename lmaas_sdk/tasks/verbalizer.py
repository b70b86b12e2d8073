"""Verbalizers: the word at the mask that stands for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from lmaas_sdk.errors import VerbalizerError
from lmaas_sdk.texts import LabelWords, PieceRule

__all__ = ["Verbalizer", "words_by_class"]


@dataclass(frozen=True, slots=True, init=False)
class Verbalizer:
    """One word a label: `Verbalizer({"negative": "bad", "positive": "great"})`.

    Whether a word is one token is for the model to say: a backend refuses a word of several under `whole`.

    Args:
        words: Words by class index, or by label in the order of the classes.
        leading_space: Put a space before each word. Byte-level BPE models (RoBERTa, GPT) keep a word within a sentence
            and the same word at the very start of a text as different tokens; the former is the one with the space.
            False: words stand as they are written, a space of their own included.
        pieces: What to do with a word of several tokens: `whole` refuses it, `first` takes its first token, `mean`
            averages the logits of all its tokens.

    Raises:
        VerbalizerError: The words are no list and no mapping, or fewer than two; a word is missing, empty, given twice
            or has stray spaces.
    """

    words: tuple[str, ...]
    leading_space: bool
    pieces: PieceRule

    def __init__(
        self, words: Mapping[str, str] | Sequence[str], leading_space: bool = True, pieces: PieceRule = "whole"
    ) -> None:
        _check_ordered(words)
        labels = tuple(words) if isinstance(words, Mapping) else tuple(range(len(words)))
        listed = tuple(words.values()) if isinstance(words, Mapping) else tuple(words)
        if pieces not in get_args(PieceRule):
            raise VerbalizerError(f"pieces is one of {', '.join(get_args(PieceRule))}, not {pieces!r}")
        if not isinstance(leading_space, bool):
            raise VerbalizerError(f"leading_space is True or False, not {leading_space!r}")
        _check_words(labels, listed, leading_space)
        object.__setattr__(self, "words", listed)
        object.__setattr__(self, "leading_space", leading_space)
        object.__setattr__(self, "pieces", pieces)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def label_words(self) -> LabelWords:
        """What a backend is asked about: the words with their leading space."""
        space = " " if self.leading_space else ""
        return LabelWords(tuple(space + word for word in self.words), self.pieces)

    def to_wire(self) -> dict[str, object]:
        return {"words": list(self.words), "leading_space": self.leading_space, "pieces": self.pieces}

    @classmethod
    def from_wire(cls, value: object) -> Verbalizer:
        """Reads what `to_wire` wrote.

        Raises:
            VerbalizerError: It is of another form, or its words are unusable.
        """
        match value:
            case {"words": list(words), "leading_space": bool(leading_space), "pieces": str(pieces), **rest} if (
                not rest
            ):
                return cls(words, leading_space, pieces)  # type: ignore[arg-type]  # checked by the constructor
        raise VerbalizerError(f"a verbalizer has words, leading_space and pieces, not {value!r:.120}")


def words_by_class(labels: Sequence[str], words: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Each label's word, in the order of the classes.

    Raises:
        VerbalizerError: A label has no word, or a word has no label; the message names them.
    """
    _check_ordered(words)
    if isinstance(words, Mapping):
        if unknown := [label for label in words if label not in labels]:
            raise VerbalizerError(f"words are given for unknown labels {unknown}: the labels are {list(labels)}")
        given = {label: words[label] for label in labels if label in words}
    else:
        if len(words) > len(labels):
            raise VerbalizerError(
                f"{len(words)} words {list(words)} for {len(labels)} labels {list(labels)}: one a label"
            )
        given = dict(zip(labels, words, strict=False))
    if missing := [label for label in labels if label not in given]:
        raise VerbalizerError(f"no word for {', '.join(map(repr, missing))}: give every label its own word")
    return given


def _check_ordered(words: object) -> None:
    """Refuses what has no order: that of a set differs from run to run, and the order says which class a word is of."""
    if isinstance(words, (str, bytes)):
        raise VerbalizerError(f"label words are a list or a mapping, not the single string {words!r:.80}")
    if not isinstance(words, (Mapping, Sequence)):
        raise VerbalizerError(
            f"label words are a list, one by class, or a mapping from label to word, not {words!r:.80} of "
            f"{type(words).__name__}"
        )


def _check_words(labels: Sequence[object], words: Sequence[object], leading_space: bool) -> None:
    if len(words) < 2:
        raise VerbalizerError(f"a verbalizer has at least two words, not {list(words)}")
    owners: dict[str, object] = {}
    for label, word in zip(labels, words, strict=True):
        if not isinstance(word, str) or not word.strip():
            raise VerbalizerError(f"label {label!r} has no word: it is {word!r}; give it a word such as 'great'")
        if word != word.rstrip() or (leading_space and word != word.lstrip()):
            raise VerbalizerError(
                f"the word {word!r} has stray spaces: write {word.strip()!r}; leading_space puts its space"
            )
        if word in owners:
            raise VerbalizerError(f"labels {owners[word]!r} and {label!r} share the word {word!r}: give each its own")
        owners[word] = label
