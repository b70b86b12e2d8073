"""Whether there is budget for one more generation, and time."""

from __future__ import annotations

import asyncio

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.client import Client
from lmaas_sdk.traffic.concurrency import most_at_once
from lmaas_sdk.tuning.horizon import Horizon
from lmaas_sdk.tuning.interruption import unless_stopped
from lmaas_sdk.tuning.pace import spare_s
from lmaas_sdk.tuning.surroundings import Surroundings

__all__ = ["Outlook"]


class Outlook:
    """What a run can still do.

    Args:
        client: Pays for the search.
        horizon: How far the run goes.
        around: What it listens to, and whom it shares its budget with.
    """

    def __init__(self, client: Client, horizon: Horizon, around: Surroundings) -> None:
        self._client, self._horizon, self._around = client, horizon, around
        self._longest_s = 0.0

    def saw(self, generation_s: float) -> None:
        """A generation took so long."""
        self._longest_s = max(self._longest_s, generation_s)

    async def has_budget(self, done: int, *, candidates: int, worst: Amounts | None) -> bool:
        """Whether another generation can be paid for, by what other runs leave too; the arguments are `Horizon`'s."""
        while not (reaches := await self._horizon.reaches(done, candidates=candidates, worst=worst)):
            if not await self._gets_more(done):
                break
        return reaches

    @property
    def has_time(self) -> bool:
        """Whether there is time for another generation and what comes after it."""
        left_s = self._spare_s
        return left_s is None or left_s > 0

    async def _gets_more(self, done: int) -> bool:
        """Waits for what other runs leave of a budget that is shared, as long as another generation has time."""
        more, stop = self._around.sharing.more, self._around.stop
        if more is None:
            return False
        try:
            async with asyncio.timeout(self._spare_s):
                with self._client.waits.during("turn"):
                    has_more = await unless_stopped(more(self._horizon.wanted(done)), stop, grace_s=0)
        except TimeoutError:
            return False
        return has_more and not stop.is_set()

    @property
    def _spare_s(self) -> float | None:
        """Seconds beyond those that another generation and what comes after it take; None: time is not limited."""
        card = self._client.backend.card
        return spare_s(
            self._client.budget.remaining_s(),
            generation_s=self._longest_s,
            generation=self._horizon.costs.generation,
            after=self._horizon.costs.after,
            slots=self._client.limits("score").concurrency or most_at_once(card),
            servers=card.replicas,
        )
