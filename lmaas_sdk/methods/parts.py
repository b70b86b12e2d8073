"""One budget in equal parts, each of which pays for a run of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.errors import JournalMismatch
from lmaas_sdk.tuning.group_journals import holds_run
from lmaas_sdk.tuning.resumption import Recorded

__all__ = ["Parts", "most_parts", "noted_parts", "recorded_parts"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A budget that is shared out.

    Args:
        budget: What all parts are of.
        count: How many there are.
    """

    budget: Budget
    count: int

    def part(self, number: int) -> Budget:
        """The limits of a part, counted from 0, where those before it have been spent: in every unit that is limited.

        What one leaves goes to those after it. Of wall time each has the same.
        """
        parts, wall_s = self.count - number, self.budget.limits["wall_s"]
        free = {unit: self.budget.least_free(unit) for unit in UNITS}
        part = {unit: None if left is None else int(left / parts) for unit, left in free.items()}
        return Budget(
            calls=part["calls"],
            evaluations=part["evaluations"],
            tokens=part["tokens"],
            usd=None if part["nanousd"] is None else usd(part["nanousd"]),
            wall_s=None if wall_s is None else float(wall_s) / self.count,
            warn_at=(),
        )


def most_parts(budget: Budget, needed: Amounts, most: int) -> int:
    """As many parts, up to `most`, as pay for what each needs at least; one, where the whole pays for one."""
    free = {unit: budget.least_free(unit) for unit in UNITS}
    least = {unit: math.ceil(getattr(needed, unit)) for unit in UNITS}
    fits = [int(left / least[unit]) for unit, left in free.items() if left is not None and least[unit]]
    return max(1, min([most, *fits]))


def noted_parts(name: str, asked: int, planned: int) -> Mapping[str, object]:
    """What a run's journal says of the parts that there are, as one of its options.

    Args:
        name: The method's.
        asked: How many were asked for.
        planned: How many the budget paid for.
    """
    return {name: {"asked": asked, "planned": planned}}


def recorded_parts(journals: Iterable[Path], name: str, asked: int, *, of: str) -> int | None:
    """How many parts an earlier process planned: of what is free now, it has spent some. Blocking.

    Args:
        journals: Where those of the runs may be.
        name: The method's.
        asked: How many are asked for now.
        of: What the method calls a part, and its option.

    Returns:
        None: There is no journal. What was asked for, where the journal does not tell.

    Raises:
        JournalMismatch: Another number was asked for then.
        JournalError: A journal cannot be read.
    """
    path = next(filter(holds_run, journals), None)
    if path is None:
        return None
    noted = Recorded(path).options.get(name, {"asked": asked, "planned": asked})
    if noted["asked"] != asked:
        raise JournalMismatch(
            f"the journals in {path.parent} are of {noted['asked']} {of}, and this is of {asked}: give "
            f"{of}={noted['asked']}, or another folder"
        )
    return int(noted["planned"])
