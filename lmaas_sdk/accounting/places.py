"""What the entries of a ledger file say of each account, while they are added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmaas_sdk.accounting.ledger_reader import parse_amount
from lmaas_sdk.accounting.quantities import NO_LIMITS, ZERO, Limits, Quantities, added

__all__ = ["Place", "as_far_as_readable"]


class Place:
    """What the entries so far say of one account.

    Attributes:
        owner: Who has to release what was set aside; None for any other.
        limits: The last that an entry gives it.
        opened: Whether there is such an entry.
        posted: By its own transfers, those of its children left out.
        committed: posted + pending, children included.
        paying: The account and those above that pay for what is reserved here.
    """

    __slots__ = (
        "_bounds",
        "children",
        "committed",
        "is_aside",
        "is_overrun",
        "is_released",
        "is_told",
        "limits",
        "line",
        "opened",
        "owner",
        "path",
        "paying",
        "posted",
    )

    def __init__(self, path: str, above: Place | None, *, is_aside: bool, owner: str | None) -> None:
        self.path, self.is_aside, self.owner = path, is_aside, owner
        self.line: tuple[Place, ...] = (self,) if above is None else (self, *above.line)
        self.children: list[Place] = []
        self.is_overrun = self.is_released = self.is_told = self.opened = False
        self.allow(NO_LIMITS)
        self.posted = self.committed = ZERO
        if above is not None:
            above.children.append(self)
        self.choose_paying()

    def choose_paying(self) -> None:
        """After a release, here or above: up to the nearest amount that is still set aside."""
        asides = (at for at, here in enumerate(self.line, start=1) if here.is_aside and not here.is_released)
        self.paying = self.line[: next(asides, len(self.line))]
        for child in self.children:
            child.choose_paying()

    def allow(self, limits: Limits) -> None:
        """The limits from now on."""
        self.limits = limits
        self._bounds = [(at, limit) for at, limit in enumerate(limits) if limit is not None]

    def is_above_limits(self) -> bool:
        """Whether more is committed than it allows."""
        return any(self.committed[at] > limit for at, limit in self._bounds)

    def commit(self, change: Quantities) -> None:
        """Adds to what is committed, here and in those that pay."""
        for here in self.paying:
            here.committed = added(here.committed, change)

    def all_posted(self) -> Quantities:
        """Its own and its children's."""
        total = self.posted
        for child in self.children:
            total = added(total, child.all_posted())
        return total


def as_far_as_readable(values: Sequence[Any]) -> Quantities:
    """Amounts that were judged where they stand: one that is missing, or is none, counts as nothing."""
    amounts = []
    for value in values:
        try:
            amounts.append(parse_amount(value) or 0)
        except ValueError:
            amounts.append(0)
    return tuple(amounts)  # type: ignore[return-value]  # four of them
