"""Whose unit is computed next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from served import WAIT_S, FakeLanes, SetClock, wait_for

from lmaas_backends.roberta.batcher import Batcher
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.idempotency import CallDroppedError
from lmaas_backends.roberta.waiting_room import Ticket
from lmaas_backends.roberta.wire_errors import RefusalError


class Log:
    """What happened to units, by name; computing them waits for the gate. An `Observer`."""

    def __init__(self) -> None:
        self.ready: list[str] = []
        self.done: list[str] = []
        self.began = threading.Semaphore(0)
        self.gate = threading.Event()
        self.waits_s: list[float] = []
        self.preparations = 0
        self.units: list[tuple[int, int]] = []

    def waited(self, seconds: float) -> None:
        self.waits_s.append(seconds)

    def prepared(self, seconds: float) -> None:
        self.preparations += 1

    def computed(self, positions: int, flops: int, seconds: float) -> None:
        self.units.append((positions, flops))


class FakeCall:
    """A call of some units, which fails where it is told to."""

    def __init__(self, log: Log, name: str, units: tuple[int, ...] = (10,), *, fails: str = "") -> None:
        self._log, self._name, self.units, self._fails = log, name, units, fails

    def flops(self, unit: int) -> int:
        return 1000 * self.units[unit]

    def prepare(self, unit: int) -> Callable[[], None]:
        self._log.ready.append(f"{self._name}{unit}")
        if self._fails == f"prepare {unit}":
            raise ValueError(self._name)
        return lambda: self._compute(unit)

    def _compute(self, unit: int) -> None:
        self._log.began.release()
        assert self._log.gate.wait(WAIT_S)
        if self._fails == f"compute {unit}":
            raise ValueError(self._name)
        self._log.done.append(f"{self._name}{unit}")

    def reply(self) -> str:
        return f"{self._name} done"


@asynccontextmanager
async def batching(
    *, lanes: int = 1, most_tokens: int | None = 100, unit_s: float = 1.0
) -> AsyncIterator[tuple[Batcher, Log]]:
    """A batcher that has seen units of ten positions take so long."""
    log = Log()
    async with EngineThread() as thread:
        batcher = Batcher(FakeLanes(lanes), thread, observer=log, clock=SetClock(), most_tokens=most_tokens)
        batcher.cost.observe(10, unit_s)
        async with batcher:
            try:
                yield batcher, log
            finally:
                log.gate.set()


async def until(true: Callable[[], bool]) -> None:
    """Lets the loop turn until it is so."""
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.to_thread(threading.Event().wait, 0)


async def test_clients_take_turns_by_what_they_were_served() -> None:
    """A long call of one client does not hold up the short ones of another; each client's calls come in order."""
    async with batching() as (batcher, log), asyncio.TaskGroup() as tasks:
        long = tasks.create_task(batcher.run("ann", FakeCall(log, "long", (10,) * 6)))
        await wait_for(log.began)
        others = [tasks.create_task(batcher.run("bob", FakeCall(log, name, (20,)))) for name in ("x", "y")]
        await until(lambda: len(log.ready) == 2)
        log.gate.set()
        assert ["long done", "x done", "y done"] == [await long, *[await other for other in others]]
    # Two of ann's were taken up when bob came, who starts level with her; his of 20 weigh as two of hers.
    assert ["long0", "long1", "x0", "long2", "y0", "long3", "long4", "long5"] == log.done


async def test_one_unit_is_ready_while_another_computes() -> None:
    """Beside one thread two units are under way, beside three four, and no more."""
    for lanes in (1, 3):
        async with batching(lanes=lanes) as (batcher, log), asyncio.TaskGroup() as tasks:
            tasks.create_task(batcher.run("ann", FakeCall(log, "a", (10,) * 9)))
            for _ in range(lanes):
                await wait_for(log.began)
            await until(lambda: len(log.ready) == lanes + 1)  # noqa: B023 - awaited here
            log.gate.set()
        assert sorted(log.done) == [f"a{unit}" for unit in range(9)]


@pytest.mark.parametrize("fails", ["prepare 0", "prepare 2", "compute 1"])
async def test_what_fails_is_raised_and_holds_nobody_up(fails: str) -> None:
    """The rest of that call is left out, and other calls are computed."""
    async with batching() as (batcher, log):
        log.gate.set()
        with pytest.raises(ValueError, match="bad"):
            await batcher.run("ann", FakeCall(log, "bad", (10,) * 9, fails=fails))
        assert "good done" == await batcher.run("ann", FakeCall(log, "good", (10, 10)))
        assert len(log.ready) <= 2 + 4


async def test_units_nobody_waits_for_are_not_computed() -> None:
    """Neither those that wait, nor one that was made ready; and the turn is the next call's."""
    async with batching() as (batcher, log), asyncio.TaskGroup() as tasks:
        dropped = threading.Event()
        first = tasks.create_task(batcher.run("ann", FakeCall(log, "a")))
        await wait_for(log.began)
        left = asyncio.create_task(batcher.run("ann", FakeCall(log, "b", (10, 10)), dropped.is_set))
        last = tasks.create_task(batcher.run("ann", FakeCall(log, "c")))
        await until(lambda: "b0" in log.ready)
        dropped.set()
        log.gate.set()
        with pytest.raises(CallDroppedError):
            await left
        assert ("a done", "c done") == (await first, await last)
        assert ["a0", "c0"] == log.done


async def test_a_caller_that_is_cancelled_leaves_no_work_behind() -> None:
    """Its waiting units are left out, and the one that was made ready."""
    async with batching() as (batcher, log):
        running = asyncio.create_task(batcher.run("ann", FakeCall(log, "a", (10,) * 5)))
        await wait_for(log.began)
        await until(lambda: len(log.ready) == 2)
        running.cancel()
        log.gate.set()
        assert "b done" == await batcher.run("ann", FakeCall(log, "b"))
        assert ["a0", "b0"] == log.done


async def test_what_is_computed_is_told() -> None:
    """Wait, positions, useful operations; and the cost model has learned from it."""
    async with batching() as (batcher, log):
        log.gate.set()
        await batcher.run("ann", FakeCall(log, "a", (10, 30)))
        assert ([0.0], [(10, 10_000), (30, 30_000)]) == (log.waits_s, sorted(log.units))
        assert 2 == log.preparations
        assert batcher.cost.a_s < 0.1
        assert 50 / 3 == pytest.approx(batcher.cost.usual_positions, rel=0.02)


async def test_a_full_queue_refuses_with_a_time_and_room_comes_back() -> None:
    """Refused before any work, by 429; what leaves makes room."""
    async with batching(most_tokens=100, unit_s=0.5) as (batcher, _):
        place = batcher.enter(Ticket("ann", "a"), 100)
        with pytest.raises(
            RefusalError, match="100 tokens are waiting or being computed, and this call has 60"
        ) as refused:
            batcher.enter(Ticket("ann", "b"), 60)
        assert (429, "overloaded", 3.0) == (
            refused.value.kind.status,
            refused.value.kind.name,
            refused.value.retry_after_s,
        )
        batcher.leave(place)
        assert 60 == batcher.enter(Ticket("ann", "b"), 60).tokens


async def test_without_a_bound_the_queue_holds_what_takes_half_a_minute() -> None:
    """By the speed that was measured."""
    async with batching(most_tokens=None, lanes=2, unit_s=0.01) as (batcher, _):
        assert 60_000 == batcher.enter(Ticket("ann", "a"), 60_000).tokens
        with pytest.raises(RefusalError):
            batcher.enter(Ticket("ann", "b"), 1)


async def test_units_that_take_no_time_share_a_turn() -> None:
    """Where a thousand positions take a millisecond, units of ten are handed over together; others one by one."""
    for seconds, turns in ((1e-5, 1), (1.0, 4)):
        async with batching(lanes=3, unit_s=seconds) as (batcher, log), asyncio.TaskGroup() as tasks:
            tasks.create_task(batcher.run("ann", FakeCall(log, "a", (10,) * 4)))
            await wait_for(log.began)
            await until(lambda: len(log.ready) == 4)
            assert turns == 4 - batcher._free_places
            log.gate.set()
        assert ["a0", "a1", "a2", "a3"] == sorted(log.done)


async def test_a_client_that_empties_its_queue_pays_for_what_it_had() -> None:
    """One call at a time, each as large as four of the other's, gets one turn to its four."""
    async with batching() as (batcher, log):
        log.gate.set()

        async def calls(client: str, units: int, size: int) -> None:
            for number in range(units):
                await batcher.run(client.split(maxsplit=1)[0], FakeCall(log, f"{client}{number}.", (size,)))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(calls("big", 30, 40))
            for name in ("small w", "small x", "small y", "small z"):
                tasks.create_task(calls(name, 50, 10))
    early = log.done[:100]
    assert 15 <= sum(name.startswith("big") for name in early) <= 25


async def test_calls_whose_askers_have_gone_hold_no_room_for_long() -> None:
    """They are left out when another is refused for want of it, though their turn has not come."""
    async with batching(most_tokens=100) as (batcher, log):
        first = asyncio.create_task(batcher.run("ann", FakeCall(log, "a", (10,) * 5)))
        await wait_for(log.began)
        gone = threading.Event()
        waiting = asyncio.create_task(batcher.run("ann", FakeCall(log, "b", (90,)), gone.is_set))
        await asyncio.sleep(0)  # it is in the queue now
        place = batcher.enter(Ticket("ann", "b"), 90)
        await until(lambda: len(log.ready) == 2)
        with pytest.raises(RefusalError):
            batcher.enter(Ticket("ann", "c"), 50)
        gone.set()
        batcher._swept_at = -1.0
        with pytest.raises(RefusalError):
            batcher.enter(Ticket("ann", "d"), 50)
        with pytest.raises(CallDroppedError):
            await waiting
        batcher.leave(place)
        assert 50 == batcher.enter(Ticket("ann", "e"), 50).tokens
        log.gate.set()
        await first


async def test_an_observer_that_fails_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    """The call is answered, its place is free again, and the loop has logged what went wrong."""

    def fail(positions: int, flops: int, seconds: float) -> None:
        raise ZeroDivisionError

    async with batching() as (batcher, log):
        log.gate.set()
        log.computed = fail  # type: ignore[method-assign]
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        assert ["a done", "b done"] == [await batcher.run("ann", FakeCall(log, name)) for name in "ab"]
        assert [ZeroDivisionError] * 2 == [type(error) for error in told]


async def test_after_the_end_nothing_is_begun() -> None:
    """A unit that outlasts its batcher ends by itself, and no other follows it."""
    async with EngineThread() as thread:
        log = Log()
        batcher = Batcher(FakeLanes(), thread, observer=log, clock=SetClock())
        async with batcher:
            running = asyncio.create_task(batcher.run("ann", FakeCall(log, "a", (5000,) * 4)))
            await wait_for(log.began)
            await until(lambda: len(log.ready) == 2)
        running.cancel()
        log.gate.set()
        await until(lambda: bool(log.done))
    assert (["a0", "a1"], ["a0"]) == (log.ready, log.done)  # the threads have ended
