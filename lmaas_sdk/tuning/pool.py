"""What is left of a budget that several runs share: whoever ends leaves his rest to those who still run.

Every run has its share, and a credit: its part, by priority, of what others have left. A run that has come to the end
of its share takes its credit as soon as that pays for another generation; until then it waits. When all who still run
wait, whoever is nearest to a generation borrows what he lacks from the others' credits, as in deficit round robin
(Shreedhar and Varghese 1996), until nobody's next generation is paid for: then all of them end.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.quantities import ZERO, Quantities, added, is_over, less
from lmaas_sdk.accounting.shares import Share

__all__ = ["Member", "Pool", "split"]


def split(total: int, priorities: Sequence[Fraction]) -> list[int]:
    """Whole parts in proportion to the priorities that add up to the total, which may be negative."""
    return _parts(total, _weights(priorities))


def _weights(priorities: Collection[Fraction]) -> list[int]:
    """Whole numbers in the same proportions: many times as fast to reckon with, and as exact."""
    scale = math.lcm(*(priority.denominator for priority in priorities))
    return [priority.numerator * (scale // priority.denominator) for priority in priorities]


def _parts(total: int, weights: Collection[int]) -> list[int]:
    if not total:
        return [0] * len(weights)
    whole = sum(weights)
    untils = [total * upto // whole for upto in itertools.accumulate(weights)]
    return [until - before for before, until in itertools.pairwise([0, *untils])]


@dataclass(slots=True, eq=False)
class Member:
    """One of the runs.

    Args:
        priority: Its part, in relation to the others'.
        share: What it spends from.
        credit: Of what others have left, by unit; below nothing where it has borrowed.
        step: What a generation takes, of what limits its share.
        short: What its next one lacks, while it waits for that.
        answer: What it will be granted, while it waits; of None: no more comes.
        is_done: Whether it takes no more.
    """

    priority: Fraction
    share: Share
    credit: Quantities = ZERO
    step: Quantities = ZERO
    short: Quantities = ZERO
    answer: asyncio.Future[Quantities | None] | None = None
    is_done: bool = False

    @property
    def nearness(self) -> Fraction:
        """How much of what it lacks its credit pays for."""
        return min(Fraction(has) / lacks for has, lacks in zip(self.credit, self.short, strict=True) if lacks)

    def wants(self, wanted: Amounts) -> bool:
        """Notes what a generation takes, and whether its share is too small for that."""
        free = [(getattr(wanted, unit), self.share.budget.free(unit)) for unit in UNITS]
        self.step = _row(0 if left is None else math.ceil(most) for most, left in free)
        self.short = _row(0 if left is None else max(0, math.ceil(most - left)) for most, left in free)
        return self.short != ZERO

    def whole_generations(self, has: Quantities) -> Quantities:
        """As much of what there is as pays for whole generations; the rest may be of use to others."""
        beyond = zip(less(has, self.short), self.step, strict=True)
        further = min(int(left // one) for left, one in beyond if one)
        return added(self.short, _row(further * math.ceil(one) for one in self.step))


class Pool:
    """The credits of all who run.

    Args:
        members: They.
        rest: What the budget holds beyond their shares; below nothing where they have spent each other's before.
    """

    def __init__(self, members: Iterable[Member], rest: Quantities = ZERO) -> None:
        every = list(members)
        self._running = dict(zip(every, _weights([member.priority for member in every]), strict=True))
        self._waiting = 0
        self._total = ZERO  # of all credits
        self._leave_to_others(rest)

    async def more(self, member: Member, wanted: Amounts) -> bool:
        """Whether a share has grown so that it pays for what is wanted; waits until that is known.

        At once, where it is not the share that is too small: nothing that others leave would help.
        """
        if member.is_done or not member.wants(wanted):
            return False
        answer: asyncio.Future[Quantities | None] = asyncio.get_running_loop().create_future()
        member.answer = answer
        self._waiting += 1
        self._settle(member)
        try:
            granted = await answer
        except asyncio.CancelledError:
            self._withdraw(member, answer)
            raise
        if granted is not None:
            await member.share.grow(granted)
        return granted is not None

    async def leave(self, member: Member) -> None:
        """A run has ended: what it has not spent goes to the others."""
        rest = await member.share.close()  # until then others may hope for it
        member.is_done = True
        self._running.pop(member, None)
        self._total = less(self._total, member.credit)
        self._leave_to_others(added(_row(map(math.floor, rest)), member.credit))
        self._settle(*self._running)

    def _leave_to_others(self, rest: Quantities) -> None:
        if not self._running or rest == ZERO:
            return
        parts = zip(*(_parts(int(amount), self._running.values()) for amount in rest), strict=True)
        for member, part in zip(self._running, parts, strict=True):
            member.credit = added(member.credit, _row(part))
        self._total = added(self._total, rest)

    def _settle(self, *asking: Member) -> None:
        """Grants what credits pay for and, where everybody waits, what all of them together pay for."""
        for member in [one for one in asking if one.answer is not None]:
            has = _least(member.credit, self._total)
            if not is_over(member.short, has):
                self._grant(member, member.whole_generations(has))
        if not self._running or self._waiting < len(self._running):
            return
        for member in sorted(self._running, key=lambda one: one.nearness, reverse=True):
            if not is_over(member.short, self._total):
                self._grant(member, member.short)
        if self._waiting == len(self._running):
            for member in self._running:
                member.is_done = True
                self._answer(member, None)
            self._running = {}

    def _grant(self, member: Member, amounts: Quantities) -> None:
        self._credit(member, less(ZERO, amounts))
        self._answer(member, amounts)

    def _credit(self, member: Member, amounts: Quantities) -> None:
        member.credit, self._total = added(member.credit, amounts), added(self._total, amounts)

    def _answer(self, member: Member, amounts: Quantities | None) -> None:
        answer, member.answer = member.answer, None
        self._waiting -= 1
        if answer is not None:
            answer.set_result(amounts)

    def _withdraw(self, member: Member, answer: asyncio.Future[Quantities | None]) -> None:
        """It waits no more; what it was granted and has not taken is its credit again."""
        if member.answer is answer:
            member.answer = None
            self._waiting -= 1
        elif not answer.cancelled() and (granted := answer.result()) is not None:
            self._credit(member, granted)


def _row(values: Iterable[int]) -> Quantities:
    calls, evaluations, tokens, nanousd = values
    return calls, evaluations, tokens, nanousd


def _least(one: Quantities, other: Quantities) -> Quantities:
    """The smaller amount of each unit, and nothing where that is below nothing."""
    calls, evaluations, tokens, nanousd = (max(0, min(a, b)) for a, b in zip(one, other, strict=True))
    return int(calls), evaluations, int(tokens), int(nanousd)
