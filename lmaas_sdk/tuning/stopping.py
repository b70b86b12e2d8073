"""When a search has found what it can: a plateau, or a target that is reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

from lmaas_sdk.tuning.predictor import Evaluation
from lmaas_sdk.tuning.selection import DevRule, dev_rank

__all__ = ["Plateau", "checked_target", "reached"]

_LEAST_GAIN = 0.001  # of the train loss; less is no improvement


class Plateau:
    """Whether what a run chooses by still gets better.

    With a dev set that is the best look at it. Without one it is the lowest train loss, which has to fall by a
    thousandth.

    Args:
        generations: Without improvement, after which it is over; None: it never is.
        has_dev: Whether there is a dev set.
        rule: What is compared on it.
    """

    def __init__(self, generations: int | None, *, has_dev: bool, rule: DevRule = "metric") -> None:
        self._most, self._has_dev = generations, has_dev
        self._rule: DevRule = rule
        self._best: tuple[float, float] | None = None
        self._since = 0

    def saw_loss(self, generation: int, lowest: float) -> None:
        """The lowest train loss of a generation."""
        if not self._has_dev and (self._best is None or -lowest > self._best[0] + _LEAST_GAIN * abs(self._best[0])):
            self._best, self._since = (-lowest, 0.0), generation

    def saw_dev(self, generation: int, evaluations: Sequence[Evaluation]) -> None:
        """A look at dev."""
        for one in evaluations:
            rank = dev_rank(one, self._rule)
            if self._best is None or rank > self._best:
                self._best, self._since = rank, generation

    def is_over(self, generation: int) -> bool:
        """Whether nothing has got better for so long, after this generation."""
        return self._most is not None and self._best is not None and generation - self._since >= self._most


def checked_target(target: float | None, *, has_dev: bool) -> float | None:
    """A target that can be reached.

    Raises:
        ValueError: It is no finite number, or there is no dev set.
    """
    if target is None:
        return None
    if isinstance(target, bool) or not isinstance(target, Real) or not math.isfinite(target):
        raise ValueError(f"target is a value of the metric on dev, such as 0.9, not {target!r:.80}")
    if not has_dev:
        raise ValueError(f"target = {target!r} is reached on a dev set, and there is none: give fit one")
    return float(target)


def reached(target: float | None, evaluations: Sequence[Evaluation]) -> bool:
    """Whether one of the looks at dev came up to the metric that was asked for."""
    return target is not None and any(one.value >= target for one in evaluations)
