"""When a plateau ends a run: nobody can know, so what is expected goes by the runs that were measured."""

from __future__ import annotations

import math

__all__ = ["expected_end"]

# Of benchmarks/results/default_preset.json: with 20 candidates, dev scored every 5 generations and a plateau of 40, the
# runs of five seeds ended after 1000 .. 1600 evaluations (1240 on average), whether they might spend 2000 or 8000: 5,
# 10, 15, 20 and 35 generations after the earliest end of 45, which is .425 of the plateau on average.
_BEYOND = 0.425


def expected_end(plateau: int, earliest: int, planned: float) -> float:
    """Generations after which a run can be expected to end.

    What comes after the earliest end is taken to be exponential, for the chance that nothing gets better any more is
    about the same in every generation. It was measured with a dev set, and in proportion to the plateau it is a guess.

    Args:
        plateau: Generations without improvement that end it.
        earliest: The first at which that may be.
        planned: Those that the budget pays for.
    """
    beyond = _BEYOND * plateau
    return min(planned, earliest + beyond * -math.expm1(-max(planned - earliest, 0) / beyond))
