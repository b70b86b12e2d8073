"""What is known of the candidates of one generation, text by text where they were scored on some."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tuning.objective import Objective, text_losses, total
from lmaas_sdk.tuning.parts import Part
from lmaas_sdk.tuning.racing import Racing, compared, values
from lmaas_sdk.tuning.strata import survivors

__all__ = ["Scoreboard"]


class Scoreboard:
    """Losses of the candidates of a generation.

    Args:
        candidates: How many there are.
        labels: (n_texts,) class indices of the training set.
        objective, metric: What is minimised.

    Attributes:
        scored: The loss of every candidate that has one over the whole set.
    """

    def __init__(self, candidates: int, labels: NDArray[np.int64], *, objective: Objective, metric: str) -> None:
        self._labels, self._objective, self._metric = labels, objective, metric
        self._candidates = candidates
        self._per_text: NDArray[np.float64] | None = None  # made where somebody is scored on some of the texts
        self._rows_scored = 0
        self.scored: dict[int, float] = {}

    @property
    def evaluations(self) -> Fraction:
        """What was scored, in candidates over the whole set."""
        return Fraction(self._rows_scored, len(self._labels))

    def read(self, part: Part, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """What is learned from an answer: the losses of its candidates or, of some of the texts, what each text adds.

        Returns:
            (n_candidates,) or (n_candidates, n_rows) float64.
        """
        rows = _rows_of(part)
        labels = self._labels if rows is None else self._labels[rows]
        per_text = text_losses(self._objective, logits, labels)
        return per_text if rows is not None else total(self._objective, per_text, labels, metric=self._metric)

    def put(self, candidates: Sequence[int], part: Part, learned: NDArray[Any]) -> list[int]:
        """Takes what `read` learned of these candidates; those that it says nothing of (NaN) are returned."""
        is_there = np.isfinite(learned.reshape(len(learned), -1)).all(axis=1)
        rows = _rows_of(part)
        self._rows_scored += int(is_there.sum()) * (len(self._labels) if rows is None else len(rows))
        for index, row, finite in zip(candidates, learned, is_there.tolist(), strict=True):
            if finite and rows is None:
                self.scored[index] = float(row)
            elif finite:
                self._put_texts(index, rows or [], row)
        return [index for index, finite in zip(candidates, is_there.tolist(), strict=True) if not finite]

    def _put_texts(self, index: int, rows: list[int], row: NDArray[np.float64]) -> None:
        if self._per_text is None:
            self._per_text = np.full((self._candidates, len(self._labels)), np.nan)
        self._per_text[index, rows] = row
        if np.isfinite(self._per_text[index]).all():
            of_one = self._per_text[index : index + 1]
            self.scored[index] = float(total(self._objective, of_one, self._labels, metric=self._metric)[0])

    def know(self, known: Mapping[int, float]) -> None:
        """Takes losses that were known before."""
        self.scored |= known

    def survivors(
        self, alive: Sequence[int], racing: Racing, *, keep: int, must_keep: Collection[int]
    ) -> tuple[int, ...]:
        """Who of a race goes on."""
        if self._per_text is None:
            return tuple(alive)
        return survivors(
            compared(self._objective, self._per_text, self._labels),
            self._labels,
            margin=racing.margin,
            alive=tuple(alive),
            keep=keep,
            must_keep=frozenset(must_keep),
        )

    def behind(self, candidates: Collection[int]) -> dict[int, float]:
        """Values for those that a race has dropped: above all that ended it, higher the sooner they went."""
        dropped = sorted(set(candidates) - self.scored.keys())
        if self._per_text is None or not dropped:
            return {}
        ended = sorted(index for index in self.scored if np.isfinite(self._per_text[index]).all())
        if not ended:  # all of them failed on their last texts; those that are known from before are no race
            return dict.fromkeys(dropped, max(self.scored.values())) if self.scored else {}
        order = ended + dropped
        found = values(self._objective, self._per_text[order], self._labels, metric=self._metric)
        level = max(self.scored.values())  # of candidates known before, too
        above = max(0.0, level - found[: len(ended)].max())
        behind: dict[int, float] = {}
        for value, index in sorted(zip(found[len(ended) :].tolist(), dropped, strict=True)):
            level = behind[index] = max(value + above, float(np.nextafter(level, np.inf)))  # no sum rounds it away
        return behind


def _rows_of(part: Part) -> list[int] | None:
    rows = part.call.query.rows
    return None if rows is None else list(rows)
