"""Calls that go out together: what becomes of those that fail, and of those that take far longer than the rest."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from lmaas_sdk.accounting.budget import Reservation
from lmaas_sdk.errors import BackendError, BudgetExceeded, OutcomeUnknown, ProtocolError, QuotaExceeded
from lmaas_sdk.tuning.scheduler import Part, Read, Scheduler, first_failure
from lmaas_sdk.tuning.scheduling import LatencyRecord, Scheduling

__all__ = ["Answer", "Volley"]

# An answer that is of no use, or one that never comes though others are answered, is the candidates' own failure; any
# other error is the run's.
_OWN_FAILURES = (ProtocolError, OutcomeUnknown)
_POLLS = 4  # looks a deadline at calls that still wait to be sent

Answer = Any
"""What was learned from a call (an array), the error by which it failed, or None: nobody waited for it."""


class Volley:
    """Sends the calls of one generation.

    Args:
        scheduler: Sends.
        scheduling: What to do about the slow and the failed.
        latencies: How long calls usually take.
        read: What is learned from an answer.
        is_enough: Whether the generation can go on with the calls of these numbers.
        label: Of the calls.
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
    ) -> None:
        self._scheduler, self._scheduling = scheduler, scheduling
        self._latencies, self._read, self._is_enough = latencies, read, is_enough
        self._label = label
        self._clock = asyncio.get_running_loop().time
        self._sent_s: dict[int, float] = {}
        self.keys: list[str] = []
        self._hedged_calls = 0

    async def send(self, parts: Sequence[Part], holds: Sequence[Reservation | None]) -> list[Answer]:
        """What came of each call; none is under way when this returns.

        Raises:
            LmaasError: The first failure that is not a candidate's own.
        """
        self.keys += [part.call.key for part in parts]
        tasks: list[asyncio.Task[Answer]] = []
        unclaimed = {hold for hold in holds if hold is not None}
        try:
            async with asyncio.TaskGroup() as group:
                for number, (part, hold) in enumerate(zip(parts, holds, strict=True)):
                    tasks.append(group.create_task(self._outcome(number, part, hold, unclaimed)))
                if self._scheduling.stragglers == "drop" or self._scheduling.over_ask:
                    await self._cut_short(tasks)
        except BaseExceptionGroup as failures:
            first = first_failure(failures)
            raise first from first.__cause__
        finally:
            for hold in unclaimed:  # a task that was cancelled before it began never saw its reservation
                hold.void()
        return [None if task.cancelled() else task.result() for task in tasks]

    async def _outcome(self, number: int, part: Part, hold: Reservation | None, unclaimed: set[Reservation]) -> Answer:
        if hold is not None:
            unclaimed.discard(hold)
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
        def on_sent() -> None:
            self._sent_s[number] = self._clock()

        values = await self._scheduler.answer(part, hold, read=self._read, apart=apart, on_sent=on_sent)
        if number in self._sent_s:
            self._latencies.add(self._clock() - self._sent_s[number])
        return values

    async def _another(self, part: Part, why: str) -> tuple[Part, Reservation | None]:
        """The same call under another key, reserved and journalled.

        Raises:
            BudgetExceeded: It cannot be paid for.
        """
        label = f"{self._label}/{why} {part.span}"
        other = self._scheduler.under_another_key(part, label)
        self.keys.append(other.call.key)
        (hold,) = await self._scheduler.open([other], label=label)
        return other, hold

    # -- stragglers

    async def _cut_short(self, tasks: Sequence[asyncio.Task[Answer]]) -> None:
        """Waits until the calls are answered, or the generation can do without those that are late."""
        pending = set(tasks)
        while pending:
            _, pending = await asyncio.wait(
                pending, timeout=self._look_again_s(tasks, pending), return_when=asyncio.FIRST_COMPLETED
            )
            answered = [number for number, task in enumerate(tasks) if _has_answer(task)]
            late = self._scheduling.over_ask or all(self._is_late(number) for number in _numbers(tasks, pending))
            if pending and late and self._is_enough(answered):
                for number in _numbers(tasks, pending):
                    if number in self._sent_s:
                        self._latencies.add(self._clock() - self._sent_s[number])
                for task in pending:
                    task.cancel()
                return

    def _is_late(self, number: int) -> bool:
        slow_s, sent_s = self._latencies.slow_s, self._sent_s.get(number)
        return slow_s is not None and sent_s is not None and self._clock() - sent_s >= slow_s

    def _look_again_s(
        self, tasks: Sequence[asyncio.Task[Answer]], pending: Collection[asyncio.Task[Answer]]
    ) -> float | None:
        """Seconds until the last of those under way is late; None: nobody can tell yet."""
        slow_s = self._latencies.slow_s
        if slow_s is None:
            return None
        now_s = self._clock()
        sent_s = [self._sent_s.get(number, math.inf) for number in _numbers(tasks, pending)]
        left_s = [max(0.0, one_s + slow_s - now_s) for one_s in sent_s]
        return slow_s / _POLLS if max(left_s) == math.inf or not max(left_s) else max(left_s)

    async def _hedged(self, number: int, part: Part, hold: Reservation | None) -> Answer:
        """The answer of whichever is first: the call, or the same one sent again because it is late."""
        async with asyncio.TaskGroup() as group:
            first = group.create_task(self._caught(self._asked(number, part, hold)))
            await self._until_late(number, first)
            if first.done() or not self._may_hedge():
                return _raised(await first)
            try:
                other, its_hold = await self._another(part, "hedge")
            except (BudgetExceeded, QuotaExceeded):
                return _raised(await first)
            self._hedged_calls += 1
            second = group.create_task(self._caught(self._timed(number, other, its_hold, apart=True)))
            return _raised(await _first_answer(first, second))

    async def _caught(self, answer: Any) -> Answer:
        """Errors as values: a failure of one of two calls is no reason to cancel the other."""
        try:
            return await answer
        except BackendError as error:
            return error

    async def _until_late(self, number: int, task: asyncio.Task[Answer]) -> None:
        while not task.done() and not self._is_late(number):
            slow_s, sent_s = self._latencies.slow_s, self._sent_s.get(number)
            wait_s = None if slow_s is None else slow_s / _POLLS
            if slow_s is not None and sent_s is not None:
                wait_s = max(sent_s + slow_s - self._clock(), slow_s / 1000)
            await asyncio.wait([task], timeout=_A_WHILE_S if wait_s is None else wait_s)

    def _may_hedge(self) -> bool:
        return self._hedged_calls < max(1, math.floor(self._scheduling.most_hedged * len(self.keys)))


_A_WHILE_S = 0.1


async def _first_answer(first: asyncio.Task[Answer], second: asyncio.Task[Answer]) -> Answer:
    """The first that is no error, else the last error; the other call is cancelled."""
    pending: set[asyncio.Task[Answer]] = {first, second}
    answer: Answer = None
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        answer = next((task.result() for task in done if _has_answer(task)), next(iter(done)).result())
        if not isinstance(answer, BaseException):
            break
    for task in pending:
        task.cancel()
    return answer


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


def _numbers(tasks: Sequence[asyncio.Task[Answer]], some: Collection[asyncio.Task[Answer]]) -> list[int]:
    return [number for number, task in enumerate(tasks) if task in some]
