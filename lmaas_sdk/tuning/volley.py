"""Calls that go out together: what becomes of those that fail, and of those that take far longer than the rest."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any

from lmaas_sdk.accounting.budget import Reservation
from lmaas_sdk.errors import BackendError, BudgetExceeded, OutcomeUnknown, ProtocolError, QuotaExceeded
from lmaas_sdk.tuning.parts import Part, Read
from lmaas_sdk.tuning.scheduler import Scheduler, first_failure
from lmaas_sdk.tuning.scheduling import LatencyRecord, Scheduling

__all__ = ["Answer", "Volley"]

# An answer that is of no use, or one that never comes though others are answered, is the candidates' own failure; any
# other error is the run's.
_OWN_FAILURES = (ProtocolError, OutcomeUnknown)

Answer = Any
"""What was learned from a call (an array), the error by which it failed, or None: nobody waited for it."""
_Ask = Callable[[int, Part, Reservation | None], Awaitable[Answer]]
_TICK_S = 0.001


class Volley:
    """Sends the calls of one generation.

    Args:
        scheduler: Sends.
        scheduling: What to do about the slow and the failed.
        latencies: How long calls usually take.
        read: What is learned from an answer.
        is_enough: Whether the generation can go on with the calls of these numbers.
        label: Of the calls.
        keeps: Whether each answer is written down by itself, as there are others to wait for.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        scheduling: Scheduling,
        *,
        latencies: LatencyRecord,
        read: Read,
        is_enough: Callable[[Collection[int]], bool],
        label: str,
        keeps: bool = True,
    ) -> None:
        self._scheduler, self._scheduling, self._keeps = scheduler, scheduling, keeps
        self._latencies, self._read, self._is_enough = latencies, read, is_enough
        self._label = label
        self._clock = asyncio.get_running_loop().time
        self._sent_s: dict[int, float] = {}
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unclaimed: set[Reservation] = set()
        self.keys: list[str] = []

    async def send(self, parts: Sequence[Part], holds: Sequence[Reservation | None]) -> list[Answer]:
        """What came of each call; none is under way when this returns.

        Raises:
            LmaasError: The first failure that is not a candidate's own.
        """
        self.keys += [part.call.key for part in parts]
        self._latencies.calls += len(parts)
        tasks: list[asyncio.Task[Answer]] = []
        self._unclaimed.update(hold for hold in holds if hold is not None)
        try:
            if len(parts) == 1 and not self._cuts_short:  # it needs no task of its own
                return [await self._outcome(0, parts[0], holds[0])]
            async with asyncio.TaskGroup() as group:
                for number, (part, hold) in enumerate(zip(parts, holds, strict=True)):
                    tasks.append(group.create_task(self._outcome(number, part, hold)))
                if self._cuts_short:
                    await self._cut_short(tasks)
        except BaseExceptionGroup as failures:
            first = first_failure(failures)
            raise first from first.__cause__
        finally:
            for hold in self._unclaimed:  # a task that was cancelled before it began never saw its reservation
                hold.void()
        return [None if task.cancelled() else task.result() for task in tasks]

    async def _outcome(self, number: int, part: Part, hold: Reservation | None) -> Answer:
        ask = self._hedged if self._scheduling.stragglers == "hedge" else self._asked
        try:
            return await ask(number, part, hold)
        except _OWN_FAILURES as error:
            return error

    async def _asked(self, number: int, part: Part, hold: Reservation | None) -> Answer:
        """The answer to a call; one of no use is asked for again, under another key, while the budget allows."""
        tries, error = self._scheduling.tries, ProtocolError("an earlier answer to this call was of no use")
        for again in itertools.count():
            if self._scheduler.is_known_useless(part):
                tries += 1
            else:
                try:
                    return await self._timed(number, part, hold)
                except ProtocolError as useless:
                    error = useless
            if again == tries:
                break
            try:
                part, hold = await self._another(part, f"again {again}")
            except BudgetExceeded:
                break
        raise error

    async def _timed(self, number: int, part: Part, hold: Reservation | None, *, apart: bool = False) -> Answer:
        sent_s: float | None = None

        def on_sent() -> None:
            nonlocal sent_s
            sent_s = self._clock()
            if not apart:
                self._sent_s[number] = sent_s
                self._tell_news()

        if hold is not None:
            self._unclaimed.discard(hold)
        values = await self._scheduler.answer(
            part, hold, read=self._read, keep=self._keeps, apart=apart, on_sent=on_sent
        )
        if sent_s is not None:
            self._latencies.add(self._clock() - sent_s)
            self._tell_news()
        return values

    async def _another(self, part: Part, why: str) -> tuple[Part, Reservation | None]:
        """The same call under another key, reserved and journalled.

        Raises:
            BudgetExceeded: It cannot be paid for.
        """
        label = f"{self._label}/{why} {part.span}"
        other = self._scheduler.under_another_key(part, label)
        self.keys.append(other.call.key)
        (hold,) = await self._scheduler.open([other], label=label, late=False)
        if hold is not None:
            self._unclaimed.add(hold)
        return other, hold

    # -- stragglers

    @property
    def _cuts_short(self) -> bool:
        return self._scheduling.stragglers == "drop" or bool(self._scheduling.over_ask)

    async def _cut_short(self, tasks: Sequence[asyncio.Task[Answer]]) -> None:
        """Waits until the calls are answered, or the generation can do without those that are late."""
        pending = [number for number, task in enumerate(tasks) if not task.done()]
        while pending:
            wait_s = max((self._until_late_s(number) for number in pending), default=0.0)
            await self._wait([tasks[number] for number in pending], wait_s)
            answered = [number for number, task in enumerate(tasks) if _has_answer(task)]
            pending = [number for number in pending if not tasks[number].done()]
            is_late = self._scheduling.over_ask or not any(map(self._until_late_s, pending))
            if is_late and self._is_enough(answered):
                self._give_up(tasks, pending)
                return

    def _give_up(self, tasks: Sequence[asyncio.Task[Answer]], pending: Sequence[int]) -> None:
        for number in pending:
            if number in self._sent_s:
                self._latencies.add(self._clock() - self._sent_s[number])
            tasks[number].cancel()

    def _until_late_s(self, number: int) -> float:
        """Seconds until a call is late, 0 when it is; infinite while nobody can tell."""
        usual_s, sent_s = self._latencies.usual_s, self._sent_s.get(number)
        if usual_s is None or sent_s is None:
            return math.inf
        return max(0.0, sent_s + self._scheduling.late_s(usual_s) - self._clock())

    async def _wait(self, tasks: Sequence[asyncio.Task[Answer]], wait_s: float) -> None:
        """Waits until one of the tasks is done, a call is sent or answered, or so many seconds have gone by."""
        # one that is late already is waited for as such; a timer may fire a tick before its time
        timeout = max(wait_s, _TICK_S) if 0 < wait_s < math.inf else None
        await asyncio.wait([*tasks, self._news], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _tell_news(self) -> None:
        """A call was sent, or answered: who is late may be another now."""
        if not self._news.done():
            self._news.set_result(None)
        self._news = asyncio.get_running_loop().create_future()

    async def _hedged(self, number: int, part: Part, hold: Reservation | None) -> Answer:
        """The answer of whichever is first: the call, or the same one sent again because it is late."""
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_caught(self._asked, number, part, hold))
            while not first.done() and (wait_s := self._until_late_s(number)):
                await self._wait([first], wait_s)
            second = None if first.done() else await self._sent_again(number, part, group)
            answer = await first if second is None else await _first_answer(first, second)
        return _raised(answer)

    async def _sent_again(self, number: int, part: Part, group: asyncio.TaskGroup) -> asyncio.Task[Answer] | None:
        """A second call for the same; None: that is not allowed, or cannot be paid for."""
        if not self._latencies.take_hedge(self._scheduling.most_hedged):
            return None
        try:
            other, hold = await self._another(part, "hedge")
        except BudgetExceeded:
            self._latencies.hedged -= 1
            return None
        return group.create_task(_caught(partial(self._timed, apart=True), number, other, hold))


async def _caught(ask: _Ask, number: int, part: Part, hold: Reservation | None) -> Answer:
    """Errors as values: a failure of one of two calls is no reason to cancel the other."""
    try:
        return await ask(number, part, hold)
    except (BackendError, BudgetExceeded, QuotaExceeded) as error:
        return error


async def _first_answer(first: asyncio.Task[Answer], second: asyncio.Task[Answer]) -> Answer:
    """The first that is no error, else the error of the first call; the other call is cancelled."""
    pending: set[asyncio.Task[Answer]] = {first, second}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        answered = [task for task in (first, second) if task in done and _has_answer(task)]
        if answered:
            for task in pending:
                task.cancel()
            return answered[0].result()
    return first.result()


def _raised(answer: Answer) -> Answer:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _has_answer(task: asyncio.Task[Answer]) -> bool:
    return (
        task.done()
        and not task.cancelled()
        and task.exception() is None
        and not isinstance(task.result(), BaseException)
    )
