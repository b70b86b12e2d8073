"""The parts that an estimate plays runs with, against those of the client that they stand for."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk import (
    Amounts,
    BackendUnavailable,
    CircuitOpen,
    Failures,
    History,
    Latency,
    Limits,
    Outage,
    RetryPolicy,
    Scheduling,
)
from lmaas_sdk.planning.breaker import Breaker
from lmaas_sdk.planning.funds import Funds
from lmaas_sdk.planning.learned import drawn_latency
from lmaas_sdk.planning.traffic import Ended, Traffic
from lmaas_sdk.planning.work import Ask
from lmaas_sdk.planning.world import World, has_windows
from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.circuit import CircuitBreaker
from lmaas_sdk.traffic.quota import TwoDays
from lmaas_sdk.tuning.plan import Plan, RunCosts

STEPS = st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.integers(0, 9)), min_size=40, max_size=80)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(bit_generator(seed, "parts"))


def attempted(breaker: CircuitBreaker, *, fails: bool) -> float | None:
    """Seconds for which the client's own breaker refuses an attempt; None: it was made."""
    try:
        with suppress(BackendUnavailable), breaker.attempt():
            answer(fails=fails)
    except CircuitOpen as refusal:
        return refusal.retry_after_s
    return None


def answer(*, fails: bool) -> None:
    if fails:
        raise BackendUnavailable("nobody")


@given(STEPS)
def test_the_breaker_opens_and_closes_as_the_clients_does(steps: list[tuple[float, bool, int]]) -> None:
    """Through any sequence of attempts, of which nine in ten fail at least."""

    async def main() -> None:
        real, played = CircuitBreaker(), Breaker()
        for pause_s, may_answer, luck in steps:
            await asyncio.sleep(pause_s)
            now_s, fails = asyncio.get_running_loop().time(), not may_answer or luck > 0
            wait_s, is_probe = played.wait_s(now_s), played.is_open
            assert wait_s == pytest.approx(attempted(real, fails=fails))
            if wait_s is None and fails:
                played.failed(now_s, is_probe=is_probe)
            elif wait_s is None:
                played.answered(is_probe=is_probe)
            assert played.is_open == real.is_open

    run_virtual(main())


def test_few_measurements_leave_more_open_than_many() -> None:
    """Of many, what was seen is drawn again, a tail with it; of few, a log-normal around their median."""
    many = [1.0] * 95 + [20.0] * 5
    drawn = drawn_latency(many, chance())
    assert set(drawn.measured_s) == {1.0, 20.0}
    assert 0 < drawn.measured_s.count(20.0) / len(drawn.measured_s) < 0.15
    generator = chance()
    few = [drawn_latency([2.0, 2.2, 1.9], generator) for _ in range(400)]
    medians = np.array([one.median_s for one in few])
    assert np.median(medians) == pytest.approx(2.03, rel=0.02)
    assert 0.03 < np.std(np.log(medians)) < 0.2
    assert all(one.spread > 0 for one in few)


def test_few_attempts_leave_more_open_than_many() -> None:
    """The posterior of a rate narrows with what was seen, around it."""
    generator = chance()
    for answered, lost, width in ((8, 2, 0.11), (800, 200, 0.0126)):
        drawn = [History(answered, lost=lost).drawn(generator).timeout for _ in range(2000)]
        assert np.mean(drawn) == pytest.approx(0.2, abs=0.02)
        assert np.std(drawn) == pytest.approx(width, rel=0.1)


def world(**changes: object) -> World:
    settings: dict[str, object] = {
        "limits": Limits(),
        "most_at_once": 4,
        "policy": RetryPolicy(),
        "scheduling": Scheduling(),
        "bills_once": True,
        "latency": Latency(median_s=1.0),
        "failures": Failures(),
        "began_s": 0.0,
    }
    return World(**(settings | changes))  # type: ignore[arg-type]


def asks(count: int, tokens: int = 10) -> tuple[Ask, ...]:
    return tuple(Ask("train", Amounts(1, 1, tokens, 0), 4, 1) for _ in range(count))


def test_calls_go_side_by_side_as_far_as_places_and_quota_reach() -> None:
    """Ten calls, four at once: three rounds; three a minute, and the rest of them wait for it."""
    free = Traffic(world(), chance())
    assert len(free.volley(asks(10), lambda amounts: None)) == 10
    assert free.now_s == 3.0
    bound = Traffic(world(limits=Limits(requests_per_minute=3)), chance())
    bound.volley(asks(7), lambda amounts: None)
    assert bound.now_s == pytest.approx(2 * 60.25 + 1)


def test_an_attempt_that_was_lost_is_paid_for_again() -> None:
    """As a call where a key bills once, else in full; and a budget that has no more ends the run."""
    failures = Failures(timeout=0.3)
    for bills_once, price in ((True, Amounts(1)), (False, Amounts(1, 1, 10, 0))):
        asked: list[Amounts] = []
        traffic = Traffic(world(failures=failures, bills_once=bills_once), chance())
        traffic.volley(asks(20), asked.append)
        assert asked
        assert set(asked) == {price}
        assert traffic.tally.attempts.total() == 20 + len(asked)
        assert traffic.tally.bare.total() == (len(asked) if bills_once else 0)

    def nothing_left(amounts: Amounts) -> None:
        raise Ended("budget")

    with pytest.raises(Ended, match="budget"):
        Traffic(world(failures=failures), chance()).volley(asks(20), nothing_left)


def test_an_outage_is_outlived_or_ends_the_run() -> None:
    """Nobody answers at first: a tuner waits for two minutes."""
    short = Traffic(world(failures=Failures(outages=(Outage(0, 30),))), chance())
    assert len(short.volley(asks(3), lambda amounts: None)) == 3
    assert 30 < short.now_s < 100
    with pytest.raises(Ended, match="interrupted"):
        Traffic(world(failures=Failures(outages=(Outage(0, 600),))), chance()).volley(asks(3), lambda amounts: None)


def test_patience_for_a_quota_ends_a_run() -> None:
    """As `max_wait_s` says; and what never fits is not waited for."""
    limits = Limits(requests_per_minute=3)
    with pytest.raises(Ended, match="quota"):
        Traffic(world(limits=limits, policy=RetryPolicy(max_wait_s=10)), chance()).volley(asks(7), lambda amounts: None)
    with pytest.raises(Ended, match="quota"):
        Traffic(world(limits=Limits(tokens_per_minute=5)), chance()).volley(asks(1), lambda amounts: None)


def test_funds_reach_as_far_as_the_plan_and_what_was_saved() -> None:
    """Evaluations for three generations of ten; one that took less leaves enough for a fourth."""
    costs = RunCosts(Amounts(1, 10, 100, 0), Amounts(), 10, Amounts())
    free = {"calls": None, "evaluations": 39, "tokens": None, "nanousd": None}
    funds = Funds(free, costs, Plan(3, Amounts()))
    for _ in range(3):
        funds.for_search(costs.generation)
    assert (funds.reaches(2), funds.reaches(3)) == (True, False)
    funds.give_back(Amounts(evaluations=1))
    assert funds.reaches(3)
    assert funds.generations == 4
    funds.for_search(costs.generation)
    with pytest.raises(Ended, match="budget"):
        funds.for_search(Amounts(evaluations=1))
    assert Funds(dict.fromkeys(free), costs, Plan(None, Amounts())).reaches(10**9)


def test_windows_are_limits_of_a_stretch_of_time() -> None:
    """Concurrency is none."""
    limits = [Limits(), Limits(concurrency=3), Limits(tokens_per_minute=9), Limits(requests_per_day=9)]
    assert [has_windows(one) for one in limits] == [False, False, True, True]
    assert has_windows(TwoDays(other_per_day=9))
