"""Warnings before a budget ends: who is told, how often, and what a callback cannot break."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import NOTHING

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget, BudgetWarning
from lmaas_sdk.accounting.ledger_file import open_ledger

ONE = Amounts(1)


class Stop(BaseException):
    """What no program should raise in a callback."""


@pytest.mark.parametrize("error", [asyncio.CancelledError, RuntimeError, Stop])
async def test_a_callback_that_fails_keeps_nobody_waiting(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever it raises, all others who wait for the same transaction are answered, and the booking stands."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    def fail(warning: BudgetWarning) -> None:
        raise error

    async with open_ledger(tmp_path / "ledger.db") as ledger, asyncio.timeout(10):
        team = Budget(calls=4, name="team", ledger=ledger, warn_at=(0.5,), on_warning=fail)
        first, second, third = await team.hold_all([ONE] * 3)
        first.post(ONE)
        second.post(ONE)
        (fourth,) = await team.hold_all([ONE])
        for hold in (third, fourth):
            hold.void()
        await ledger.flush()
        assert (ONE.times(2), NOTHING) == (team.posted, team.pending)


def test_the_result_of_a_cancelled_future_is_logged_as_any_error(caplog: pytest.LogCaptureFixture) -> None:
    """It is no cancellation of whoever posts."""

    def ask(warning: BudgetWarning) -> None:
        raise asyncio.CancelledError

    team = Budget(calls=1, name="team", on_warning=ask)
    team.reserve(ONE).post(ONE)
    assert ["on_warning of budget 'team' failed"] * 2 == [record.getMessage() for record in caplog.records]


async def _awaited(warning: BudgetWarning) -> None:
    raise AssertionError(warning)


class _Awaited:
    async def __call__(self, warning: BudgetWarning) -> None:
        raise AssertionError(warning)


@pytest.mark.parametrize("callback", [_awaited, functools.partial(_awaited), _Awaited()])
def test_a_coroutine_function_is_refused(callback: object) -> None:
    """Nobody would await it, and the warning would be lost."""
    with pytest.raises(TypeError, match="on_warning is called, not awaited: give a function that starts a task"):
        Budget(on_warning=callback)  # type: ignore[arg-type]


def test_a_coroutine_that_a_callback_returns_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It could not be seen before; it is closed, and the log says what to do."""

    def start(warning: BudgetWarning) -> object:
        return _awaited(warning)

    team = Budget(calls=1, name="team", warn_at=(1.0,), on_warning=start)
    team.reserve(ONE).post(ONE)
    assert "let it start a task instead" in caplog.text


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


@pytest.mark.usefixtures("hasty_threads")
def test_of_many_threads_one_is_told() -> None:
    """Each threshold once, however many post at the same moment."""
    for _ in range(200):
        told: list[float] = []
        team = Budget(calls=16, warn_at=(0.25, 0.5, 0.75), on_warning=lambda one, told=told: told.append(one.fraction))
        holds, together = team.reserve_all([ONE] * 16), threading.Barrier(8)

        def post(number: int, holds: list = holds, together: threading.Barrier = together) -> None:  # type: ignore[type-arg]
            together.wait()
            for hold in holds[2 * number : 2 * number + 2]:
                hold.post(ONE)

        threads = [threading.Thread(target=post, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [0.25, 0.5, 0.75] == sorted(told)


class Clock:
    """Seconds that move when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_parts_of_the_wall_time_are_told_too() -> None:
    """Once each, by the next reservation or attempt; here and in the budgets above."""
    clock, heard = Clock(), list[BudgetWarning]()
    team = Budget(wall_s=10, name="team", clock=clock, warn_at=(0.5, 0.9), on_warning=heard.append)
    run = team.child("run")
    run.start()
    clock.now_s = 4
    run.reserve(ONE)
    assert [] == heard
    clock.now_s = 9.5
    run.check_open()
    run.reserve(ONE)
    told = [(one.budget, one.unit, one.fraction, one.limit, one.posted) for one in heard]
    assert [("team", "wall_s", 0.5, 10, 9.5), ("team", "wall_s", 0.9, 10, 9.5)] == told


def test_parts_of_the_wall_time_are_logged_without_a_callback(caplog: pytest.LogCaptureFixture) -> None:
    """As those of every other limit."""
    clock = Clock()
    team = Budget(wall_s=10, name="team", clock=clock, warn_at=(0.5,))
    team.start()
    clock.now_s = 6
    with caplog.at_level(logging.WARNING, "lmaas_sdk.accounting"):
        team.reserve(ONE)
    assert ["budget 'team' has posted 6 of 10 wall_s"] == [record.getMessage() for record in caplog.records]
