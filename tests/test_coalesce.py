"""Identical calls at the same time, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from lmaas_sdk.errors import BackendUnavailable, BudgetExceeded
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.coalesce import Coalescer

OWN = BudgetExceeded("run", "calls", limit=1, posted=1, pending=0, asked=1)
Start = Callable[[], Awaitable[str]]


class Calls:
    """Calls that take a second, and what became of each."""

    def __init__(self, *outcomes: str | Exception) -> None:
        self._outcomes = list(outcomes)
        self.log: list[str] = []

    async def __call__(self) -> str:
        outcome = self._outcomes.pop(0)
        self.log.append("began")
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.log.append("told to end")
            await asyncio.sleep(1)
            self.log.append("ended")
            if isinstance(outcome, Exception):
                raise outcome from None
            raise
        if isinstance(outcome, Exception):
            raise outcome
        self.log.append("answered")
        return outcome


def asked(coalescer: Coalescer[str], start: Start, digest: str = "d") -> asyncio.Task[tuple[str, bool]]:
    """Somebody who asks, in a task."""
    return asyncio.create_task(coalescer.run(digest, start))


def test_identical_calls_are_one() -> None:
    """Three askers, one call; the one who came first started it."""

    async def main() -> None:
        coalescer, calls = Coalescer[str](), Calls("yes")
        askers = [asked(coalescer, calls) for _ in range(3)]
        assert [("yes", False), ("yes", True), ("yes", True)] == [await asker for asker in askers]
        assert (["began", "answered"], 0) == (calls.log, len(coalescer))

    run_virtual(main())


def test_different_calls_are_not_put_together() -> None:
    """Two digests, two calls."""

    async def main() -> None:
        coalescer, calls = Coalescer[str](), Calls("one", "two")
        askers = [asked(coalescer, calls, digest) for digest in ("d", "e")]
        assert [("one", False), ("two", False)] == [await asker for asker in askers]

    run_virtual(main())


def test_a_finished_call_is_made_again() -> None:
    """Only calls under way are shared; finished ones are the cache's."""

    async def main() -> None:
        coalescer, calls = Coalescer[str](), Calls("one", "two")
        assert ("one", False) == await coalescer.run("d", calls)
        assert ("two", False) == await coalescer.run("d", calls)

    run_virtual(main())


def test_cancelling_the_first_asker_does_not_cancel_the_others() -> None:
    """The call goes on for whoever joined it."""

    async def main() -> None:
        coalescer, calls = Coalescer[str](), Calls("yes")
        first, second = asked(coalescer, calls), asked(coalescer, calls)
        await asyncio.sleep(0.5)
        first.cancel()
        assert ("yes", True) == await second
        assert (True, ["began", "answered"]) == (first.cancelled(), calls.log)

    run_virtual(main())


def test_cancelling_the_last_asker_ends_the_call() -> None:
    """It is told to end, and its end is waited for, through more cancellations."""

    async def main() -> None:
        coalescer, calls = Coalescer[str](), Calls("yes")
        askers = [asked(coalescer, calls) for _ in range(2)]
        await asyncio.sleep(0.5)
        for asker in askers:
            asker.cancel()
        await asyncio.sleep(0.5)
        assert [False, True] == sorted(asker.done() for asker in askers)  # the other one waits for the call
        for asker in askers:
            asker.cancel()
        await asyncio.wait(askers)
        assert ["began", "told to end", "ended"] == calls.log
        assert (1.5, 0, 1) == (asyncio.get_running_loop().time(), len(coalescer), len(asyncio.all_tasks()))
        assert all(asker.cancelled() for asker in askers)

    run_virtual(main())


def test_a_time_limit_of_the_last_asker_is_a_time_out() -> None:
    """Cancelling and waiting do not hide whose cancellation it was."""

    async def main() -> None:
        coalescer, calls = Coalescer[str](), Calls("yes")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await coalescer.run("d", calls)
        assert ["began", "told to end", "ended"] == calls.log

    run_virtual(main())


@pytest.mark.parametrize("ending", ["cancelled", BackendUnavailable("lost by the cancellation")], ids=str)
def test_who_comes_while_an_abandoned_call_ends_starts_again(ending: str | Exception) -> None:
    """Two of a digest are never under way, and the end of the first is no answer to the second."""

    async def main() -> None:
        coalescer, calls = Coalescer[str](), Calls(ending, "yes")
        first = asked(coalescer, calls)
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.sleep(0.5)
        assert ("yes", False) == await coalescer.run("d", calls)
        assert ["began", "told to end", "ended", "began", "answered"] == calls.log
        assert first.cancelled()

    run_virtual(main())


def test_an_error_is_everybodys() -> None:
    """A call that fails fails for all who wait for it."""

    async def main() -> None:
        coalescer, calls = Coalescer[str]((BudgetExceeded,)), Calls(BackendUnavailable("down"))
        askers = [asked(coalescer, calls) for _ in range(3)]
        failures = await asyncio.gather(*askers, return_exceptions=True)
        assert ["down"] * 3 == [str(failure) for failure in failures]
        assert ["began"] == calls.log

    run_virtual(main())


def test_the_first_askers_own_affair_is_no_answer_to_the_others() -> None:
    """Who joined starts again; one of them does, and the rest joins that."""

    async def main() -> None:
        coalescer, calls = Coalescer[str]((BudgetExceeded,)), Calls(OWN, "yes")
        askers = [asked(coalescer, calls) for _ in range(3)]
        outcomes = await asyncio.gather(*askers, return_exceptions=True)
        assert [OWN, ("yes", False), ("yes", True)] == outcomes

    run_virtual(main())


def test_a_call_that_is_cancelled_from_within_is_no_cancellation_of_those_who_joined() -> None:
    """They start again; the first asker has the outcome of its own call."""

    async def main() -> None:
        coalescer = Coalescer[str]()

        async def breaks_off() -> str:
            await asyncio.sleep(1)
            raise asyncio.CancelledError

        first, second = asked(coalescer, breaks_off), asked(coalescer, Calls("yes"))
        assert ("yes", False) == await second
        assert first.cancelled()

    run_virtual(main())


def test_who_asks_in_the_instant_of_an_end_has_an_answer() -> None:
    """The task is done, and nobody was told yet: the newcomer is, and does not ask in circles."""

    async def main() -> None:
        coalescer, late = Coalescer[str]((BudgetExceeded,)), []

        async def fails_at_once() -> str:
            late.append(asked(coalescer, Calls("yes")))  # its first step comes right after the end of this call
            raise OWN

        with pytest.raises(BudgetExceeded):
            await coalescer.run("d", fails_at_once)
        assert ("yes", False) == await late[0]

    run_virtual(main())


def test_an_error_that_nobody_waits_for_is_not_reported_as_lost() -> None:
    """The last asker is cancelled in the instant in which the call fails."""
    reports: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        coalescer = Coalescer[str]()

        async def fails() -> str:
            asker.cancel()
            raise BackendUnavailable("down")

        asker = asked(coalescer, fails)
        await asyncio.wait([asker])
        assert asker.cancelled()

    run_virtual(main())
    gc.collect()
    assert [] == reports


class Crowd:
    """Askers at random: they come, wait, lose patience, and are told things; every rule is checked as it goes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.coalescer = Coalescer[str]((BudgetExceeded,))
        self.under_way: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        self.reports: list[object] = []

    async def call(self, digest: str, asker: int) -> str:
        """One call: quick or slow, with any end; told to end, it may do so late, or in another way."""
        self.under_way[digest] += 1
        self.started[digest] += 1
        assert self.under_way[digest] == 1
        try:
            await self._work()
        except asyncio.CancelledError:
            await self._work()
            if self.random.random() < 0.3:
                raise BackendUnavailable(digest) from None
            if self.random.random() < 0.5:
                raise
        finally:
            self.under_way[digest] -= 1
        kind = self.random.random()
        if kind < 0.15:
            raise BackendUnavailable(digest)
        if kind < 0.3:
            raise BudgetExceeded(str(asker), "calls", limit=0, posted=0, pending=0, asked=1)
        return digest

    async def _work(self) -> None:
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(self.random.choice([0, 0, 1, 2]))

    async def ask(self, asker: int, digest: str) -> str:
        """One asker: its outcome in a word."""
        await self._work()
        try:
            answer, _ = await self.coalescer.run(digest, lambda: self.call(digest, asker))
        except BackendUnavailable as error:
            return "failed" if str(error) == digest else "another's error"
        except BudgetExceeded as error:
            return "its own affair" if error.budget == str(asker) else "another's affair"
        return "answered" if answer == digest else "another's answer"

    async def disturb(self, askers: list[asyncio.Task[str]]) -> list[asyncio.Task[str]]:
        """Cancels some, some of them more than once, at any time."""
        told = []
        for _ in range(self.random.randrange(len(askers) * 2)):
            await asyncio.sleep(self.random.choice([0, 0, 0, 1]))
            asker = self.random.choice(askers)
            if asker.cancel():
                told.append(asker)
        return told

    async def run(self) -> Counter[str]:
        """How many askers ended in which way."""
        asyncio.get_running_loop().set_exception_handler(lambda _, report: self.reports.append(report))
        digests = [str(number) for number in range(self.random.randint(1, 3))]
        count = self.random.randint(1, 12)
        askers = [asyncio.create_task(self.ask(asker, self.random.choice(digests))) for asker in range(count)]
        told = await self.disturb(askers)
        await asyncio.wait(askers)
        assert all(asker in told for asker in askers if asker.cancelled())
        await asyncio.sleep(0)
        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert (0, 0) == (len(self.coalescer), self.under_way.total())
        return Counter("cancelled" if asker.cancelled() else asker.result() for asker in askers)


@pytest.mark.parametrize(
    "seeds", [range(300), pytest.param(range(300, 20_000), marks=pytest.mark.long)], ids=["some", "many"]
)
def test_any_interleaving_gives_everybody_an_answer_an_error_or_its_own_cancellation(seeds: range) -> None:
    """Never two calls of a digest at once, nothing of another's, and nothing left at the end."""
    ends: Counter[str] = Counter()
    for seed in seeds:
        crowd = Crowd(seed)
        ends += run_virtual(crowd.run())
        assert [] == crowd.reports
    assert {"answered", "failed", "its own affair", "cancelled"} == set(ends)
