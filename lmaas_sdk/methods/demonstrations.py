"""Demonstrations: which labelled examples stand before a text, and how they read there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lmaas_sdk.seeding import permutation
from lmaas_sdk.tasks import Dataset, Example, Task
from lmaas_sdk.texts import Piece, Text

__all__ = ["MOST_SHOTS", "Draw", "draw_demonstrations", "joined", "written_out"]

MOST_SHOTS = 32
"""The most demonstrations before a text (Sun et al. 2022, section 4.1)."""

Draw = Literal["random", "balanced"]


def draw_demonstrations(train: Dataset, shots: int, *, draw: Draw = "random", seed: int = 42) -> Dataset:
    """`shots` examples in the order they are shown, or all there are; the same for the same seed and data everywhere.

    Args:
        train: Where they are taken from.
        shots: How many in all, not of each class.
        draw: `random`: the first of one shuffle, as Sun et al. 2022 do; `balanced`: of the same shuffle a class after
            the other, as long as each has any, so that wherever the row ends no class is much ahead.
        seed: Of the shuffle.
    """
    order = permutation(seed, "in-context/1", len(train))
    if draw == "balanced":
        seen = [0] * len(train.task.labels)
        turns = []
        for label in train.labels[order].tolist():
            turns.append(seen[label])
            seen[label] += 1
        order = order[np.argsort(turns, kind="stable")]
    return train.subset(order[:shots], name=f"{train.name or train.task.name}, demonstrations, seed {seed}")


def written_out(task: Task, example: Example) -> Text:
    """How a labelled example reads: its template with the label's word in the place of the mask.

    The word stands there as the model is asked for it, with its leading space where it has one; white space of the
    template before it gives way, as it does before a mask. The example's own words stay fields: to no backend is
    `</s>` in them a special token.
    """
    word = task.verbalizer.label_words.words[example.label]
    pieces: list[Piece] = []
    for piece in task.template.render(example.fields):
        if piece.kind != "mask":
            pieces.append(piece)
            continue
        if word.startswith(" ") and pieces and pieces[-1].kind == "template":
            pieces[-1] = Piece("template", pieces[-1].text.rstrip())
        pieces.append(Piece("template", word))
    return tuple(piece for piece in pieces if piece.text)


def joined(parts: Sequence[Text], separator: str) -> Text:
    """Texts one after another; a space at the end of the separator gives way to one that the next text begins with."""
    pieces: list[Piece] = []
    for number, part in enumerate(parts):
        if number:
            between = separator.removesuffix(" ") if part and part[0].text.startswith(" ") else separator
            pieces += [Piece("template", between)] if between else []
        pieces += part
    return tuple(pieces)
