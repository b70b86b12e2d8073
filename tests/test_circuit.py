"""The circuit breaker, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from lmaas_backends.mock import MockBackend
from lmaas_sdk.errors import BackendUnavailable, CircuitOpen, InvalidQuery, RateLimited, ServerFault, ServerUntrusted
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.circuit import CircuitBreaker, breaker_of


def attempt(breaker: CircuitBreaker, error: Exception | None = None) -> str:
    """What an attempt that ends so comes out as."""
    try:
        with breaker.attempt():
            if error is not None:
                raise error
    except (BackendUnavailable, ServerFault, RateLimited, ServerUntrusted, InvalidQuery, CircuitOpen) as raised:
        return type(raised).__name__
    return "answered"


def test_so_many_failures_in_a_row_open_it_and_then_nothing_is_sent() -> None:
    """The attempt after the last failure fails at once, and tells what the last failure was."""

    async def main() -> None:
        breaker = CircuitBreaker(failures=3, outage_s=0)
        for number in range(3):
            assert not breaker.is_open
            attempt(breaker, ServerFault(f"number {number}"))
        with (
            pytest.raises(CircuitOpen, match=r"failed 3 times without an answer.*number 2") as refused,
            breaker.attempt(),
        ):
            pytest.fail("it let an attempt through")
        assert refused.value.retry_after_s == 1.0
        assert str(refused.value.last) == "number 2"

    run_virtual(main())


@pytest.mark.parametrize("neutral", [RateLimited("429"), ServerUntrusted("another certificate")])
def test_an_answer_begins_the_count_anew_and_what_is_neither_says_nothing(neutral: Exception) -> None:
    """A refusal is the answer of a healthy server; a 429, or a certificate that is not trusted, tells nothing."""

    async def main() -> list[bool]:
        breaker, states = CircuitBreaker(failures=2, outage_s=0), []
        for error in (ServerFault("1"), InvalidQuery("no"), ServerFault("1"), neutral, ServerFault("2")):
            attempt(breaker, error)
            states.append(breaker.is_open)
        return states

    assert run_virtual(main()) == [False, False, False, False, True]


def test_failures_that_come_back_at_once_are_no_outage() -> None:
    """Of fifty calls at once the thirty that fail may come back first: it takes five seconds of failures to open it."""

    async def main() -> list[bool]:
        breaker, states = CircuitBreaker(), []
        for pause_s in (0.0, 4.9, 0.2):
            await asyncio.sleep(pause_s)
            for _ in range(30):
                attempt(breaker, BackendUnavailable("down"))
            states.append(breaker.is_open)
        return states

    assert run_virtual(main()) == [False, False, True]


def test_one_probe_at_a_time_after_longer_and_longer_pauses() -> None:
    """1, 2, 4 ... up to 30 s; an answer to a probe closes the circuit and the next pause is short again."""

    async def main() -> list[float]:
        breaker, pauses_s = CircuitBreaker(failures=1, outage_s=0), []
        attempt(breaker, BackendUnavailable("down"))
        for _ in range(8):
            with pytest.raises(CircuitOpen) as refused, breaker.attempt():
                pass
            pauses_s.append(refused.value.retry_after_s)
            await asyncio.sleep(refused.value.retry_after_s)
            attempt(breaker, BackendUnavailable("down"))
        await asyncio.sleep(30)
        assert attempt(breaker) == "answered"
        assert not breaker.is_open
        attempt(breaker, BackendUnavailable("down"))
        with pytest.raises(CircuitOpen) as refused, breaker.attempt():
            pass
        return [*pauses_s, refused.value.retry_after_s]

    assert run_virtual(main()) == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 1.0]


def test_while_a_probe_is_on_its_way_others_fail() -> None:
    """A probe that is cancelled makes room for the next one."""

    async def main() -> list[str]:
        breaker = CircuitBreaker(failures=1, outage_s=0)
        attempt(breaker, BackendUnavailable("down"))
        await asyncio.sleep(1)

        async def probe() -> None:
            with breaker.attempt():
                await asyncio.sleep(60)

        task = asyncio.create_task(probe())
        await asyncio.sleep(5)
        outcomes = [attempt(breaker)]
        task.cancel()
        await asyncio.wait([task])
        return [*outcomes, attempt(breaker)]

    assert run_virtual(main()) == ["CircuitOpen", "answered"]


def test_stragglers_that_fail_after_it_opened_do_not_lengthen_the_pause() -> None:
    """They were sent before, and tell nothing new."""

    async def main() -> float:
        breaker = CircuitBreaker(failures=2, outage_s=0)

        async def slow() -> None:
            with breaker.attempt():
                await asyncio.sleep(0.1)
                raise BackendUnavailable("down")

        tasks = [asyncio.create_task(slow()) for _ in range(50)]
        await asyncio.wait(tasks)
        assert all(task.exception() is not None for task in tasks)
        with pytest.raises(CircuitOpen) as refused, breaker.attempt():
            pass
        return refused.value.retry_after_s

    assert run_virtual(main()) == 1.0


async def test_clients_of_one_backend_share_a_breaker() -> None:
    """Another backend has its own."""
    backend = MockBackend()
    assert breaker_of(backend) is breaker_of(backend)
    assert breaker_of(backend) is not breaker_of(MockBackend())
