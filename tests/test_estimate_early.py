"""Estimates of runs that may end early, and of those that send slow calls twice."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
from rich.console import Console
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_sdk import (
    Budget,
    Conditions,
    Estimate,
    Failures,
    Latency,
    Limits,
    Price,
    Range,
    RetryPolicy,
    Scheduling,
    Tuner,
    TuningResult,
    estimate,
)
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.outside import of_a_simulation, within_outside
from lmaas_sdk.planning.plateau import expected_end
from lmaas_sdk.planning.traffic import Ended, Traffic
from lmaas_sdk.planning.work import Ask
from lmaas_sdk.planning.world import World
from lmaas_sdk.reporting.estimate_tables import estimate_table
from lmaas_sdk.testing import Faults, run_virtual

TAILED = Latency(1.0, 0.3, slow=0.1)
T = TypeVar("T")


def simulated(main: Callable[[], Coroutine[Any, Any, T]], seed: int) -> T:
    """In virtual time, in a world that repeats itself."""

    async def within() -> T:
        clock = asyncio.get_running_loop().time
        with within_outside(of_a_simulation(began_s=1_772_323_200.0, clock=clock, seed=seed)):
            return await main()

    return run_virtual(within())


def caption(found: Estimate) -> str:
    return str(estimate_table(found).caption)


async def test_a_plateau_may_end_a_run_early() -> None:
    """Low is the earliest end, high the budget's, and expected lies between, in all quantities alike."""
    preset = replace(SMALL, plateau=6, dev_every=3)
    found = await estimate(mock(), TRAIN, DEV, preset=preset, evaluations=160)
    end = expected_end(6, 9, 20)
    assert 9 < end < 20
    assert (found.generations.low, found.generations.high) == (9, 20)
    assert found.generations.expected == pytest.approx(end)
    assert (found.evaluations.low, found.evaluations.high) == (72, 160)
    assert found.evaluations.expected == pytest.approx(8 * end)
    assert found.by_purpose["train"].tokens.expected == pytest.approx(16 * 14 * 8 * end, rel=0.1)
    assert "plateau" in found.notes[0]
    short = await estimate(mock(price=Price(1)), TRAIN, DEV, preset=preset, evaluations=72)
    assert (short.evaluations, short.notes) == (Range.exactly(72), ())


async def test_where_a_plateau_may_end_a_run_chance_has_its_part() -> None:
    """The table says so; without a plateau it says that there is none."""
    preset = replace(SMALL, plateau=6, dev_every=3)
    assert "may end before its budget" in caption(await estimate(mock(), TRAIN, preset=preset, evaluations=160))
    assert "nothing is up to chance" in caption(await estimate(mock(), TRAIN, preset=SMALL, evaluations=160))


def test_the_expected_end_goes_by_the_measured_runs() -> None:
    """1240 of 8000 evaluations, with 20 candidates, a plateau of 40 and a look every 5; never beyond the budget."""
    assert 20 * expected_end(40, 45, 400) == pytest.approx(1240)
    assert 45 < expected_end(40, 45, 50) < 50
    assert expected_end(40, 45, 45) == 45
    ends = [expected_end(40, 45, planned) for planned in range(45, 200)]
    assert ends == sorted(ends)


@pytest.mark.parametrize(
    "failures", [Failures(), Failures(timeout=0.03, refused=0.03, rate_limit=0.03)], ids=["none", "some"]
)
def test_calls_that_are_sent_twice_are_foreseen(failures: Failures) -> None:
    """They take from the evaluations of the budget and from the time; six runs end within, and around the middle."""
    preset, hedging = replace(SMALL, population=10), Scheduling("hedge")

    def once(seed: int) -> TuningResult:
        async def main() -> TuningResult:
            faults = Faults(seed=seed, **failures.chances)  # type: ignore[arg-type]
            backend = mock(max_candidates=1, latency_s=TAILED, seed=seed, faults=faults)
            tuner = Tuner(backend, budget=Budget(evaluations=200), preset=preset, scheduling=hedging)
            return await tuner.fit(TRAIN, estimate=foreseen)

        return simulated(main, seed)

    async def told(scheduling: Scheduling) -> Estimate:
        conditions = Conditions(latency=TAILED, failures=failures)
        tuner = Tuner(mock(max_candidates=1), budget=Budget(evaluations=200), preset=preset, scheduling=scheduling)
        return await tuner.estimate(TRAIN, conditions=conditions)

    foreseen, waiting = run_virtual(told(hedging)), run_virtual(told(Scheduling()))
    results = [once(seed) for seed in range(6)]
    for name in ("calls", "evaluations", "tokens", "wall_s"):
        rows = [result.to_dict()["estimate"][name] for result in results]  # type: ignore[index]
        assert sum(row["is_within"] for row in rows) >= 5
        found: Range = getattr(foreseen, name)
        assert found.low < found.high
        spread = 0.3 if name == "wall_s" else 0.02
        assert statistics.mean(row["actual"] for row in rows) == pytest.approx(found.expected, rel=spread)
    assert foreseen.wall_s is not None
    assert waiting.wall_s is not None
    assert foreseen.wall_s.expected < 0.7 * waiting.wall_s.expected
    assert foreseen.evaluations.high < waiting.evaluations.low
    assert not any("sent twice" in note for note in foreseen.notes)


async def test_without_a_latency_nobody_knows_how_many_are_sent_twice() -> None:
    """Low is with as many as the run allows; a note says so, and `fit` has the same."""
    tuner = Tuner(mock(), budget=Budget(evaluations=160), preset=SMALL, scheduling=Scheduling("hedge"))
    found = await tuner.estimate(TRAIN)
    assert found.evaluations == Range(144, 160, 160)
    assert any("sent twice" in note for note in found.notes)
    assert "may end before its budget" in caption(found)
    result = await tuner.fit(TRAIN)
    assert result.estimate is not None
    assert result.estimate.evaluations == found.evaluations
    patient = replace(SMALL, plateau=30)
    unreached = Tuner(mock(), budget=Budget(evaluations=160), preset=patient, scheduling=Scheduling("hedge"))
    assert not any("plateau" in note for note in (await unreached.estimate(TRAIN)).notes)


class Sent:
    """Forty calls that go out together, of which some take a hundred times as long as the rest."""

    def __init__(
        self,
        *,
        slow: float,
        slow_factor: float = 100,
        most_hedged: float = 1.0,
        failures: Failures | None = None,
        policy: RetryPolicy | None = None,
        limits: Limits | None = None,
    ) -> None:
        world = World(
            limits=limits or Limits(),
            most_at_once=64,
            policy=policy or RetryPolicy(),
            scheduling=Scheduling("hedge", most_hedged=most_hedged),
            bills_once=False,
            latency=Latency(1.0, slow=slow, slow_factor=slow_factor),
            failures=failures or Failures(),
            began_s=0.0,
        )
        self.traffic = Traffic(world, np.random.Generator(np.random.Philox(3)))
        self.asks = tuple(Ask("train", Amounts(1, 1, 10, 0), 1, 1) for _ in range(40))
        self.paid = 0

    def volley(self, allowance: float = float("inf"), *, wanted: float | None = float("inf")) -> list[Ask]:
        def pay(amounts: Amounts) -> None:
            if self.paid + amounts.calls > allowance:
                raise Ended("budget")
            self.paid += amounts.calls

        return self.traffic.volley(self.asks, pay, wanted=wanted)


def test_a_late_call_is_sent_beside_itself_and_both_are_billed() -> None:
    """It goes out after one and a half times the usual second, and is answered a second later."""
    sent = Sent(slow=0.05)
    assert sent.volley() == list(sent.asks)
    assert sent.traffic.now_s == pytest.approx(2.5)
    assert sent.paid > 0
    assert sent.traffic.tally.attempts["train"] == len(sent.asks) + sent.paid
    assert sent.traffic.tally.billed.total() == len(sent.asks) + sent.paid


@pytest.mark.parametrize("allowed", ["share", "money", "generation"])
def test_a_late_call_is_waited_for_where_it_cannot_be_sent_again(allowed: str) -> None:
    """Beyond the share that the run allows, without money, and beside the search."""
    sent = Sent(slow=0.05, most_hedged=0.0 if allowed == "share" else 1.0)
    wanted = None if allowed == "generation" else float("inf")
    assert sent.volley(0 if allowed == "money" else float("inf"), wanted=wanted) == list(sent.asks)
    assert sent.traffic.now_s == pytest.approx(100)
    assert sent.traffic.tally.attempts["train"] == len(sent.asks)


def test_the_share_of_calls_that_are_sent_again_is_kept() -> None:
    """One in forty of these, once."""
    sent = Sent(slow=0.1, most_hedged=1 / 40)
    sent.volley()
    assert (sent.paid, sent.traffic.now_s) == (1, pytest.approx(100))


def test_a_call_that_could_not_be_paid_for_takes_nothing_of_the_share() -> None:
    """One in forty: none in the first volley, which has no money, and so two after the second."""
    sent = Sent(slow=0.1, most_hedged=1 / 40)
    sent.volley(0)
    sent.volley()
    assert sent.paid == 2


def test_what_waits_for_the_quota_is_given_up_with_its_twin() -> None:
    """The slow come in after three seconds, and what was reserved for second calls that were not sent is free again."""
    sent = Sent(slow=0.1, slow_factor=3, limits=Limits(requests_per_minute=41))
    assert sent.volley() == list(sent.asks)
    assert sent.traffic.now_s == pytest.approx(3)
    assert sent.traffic.tally.attempts["train"] == 41
    assert sent.traffic.unused.calls == sent.paid - 1 > 0


def test_a_volley_with_failures_and_hedges_ends_with_every_call_answered() -> None:
    """Whichever of the two fails for a while, the other is waited for, and what was sent is what was paid."""
    sent = Sent(slow=0.1, failures=Failures(timeout=0.2, refused=0.1, rate_limit=0.1))
    assert sent.volley() == list(sent.asks)
    tally = sent.traffic.tally
    unused = sent.traffic.unused.calls
    assert tally.billed.total() == len(sent.asks) + sent.paid - unused
    assert tally.attempts["train"] > tally.billed.total()


@pytest.mark.parametrize("attempts", [1, 2], ids=["given up", "unpaid"])
def test_a_call_that_fails_for_good_is_answered_by_its_twin(attempts: int) -> None:
    """The first is lost after two seconds, and nobody asks or pays for it again; the second comes in at 2.5."""
    policy = RetryPolicy(attempts=attempts, first_wait_s=0.0, patience_s=0.0, attempt_timeout_s=2.0)
    sent = Sent(slow=0.05, policy=policy)
    late = Sent(slow=0.05)
    late.volley()
    assert sent.volley(late.paid) == list(sent.asks)
    assert sent.traffic.now_s == pytest.approx(2.5)
    assert sent.traffic.tally.billed.total() == len(sent.asks) + late.paid


def test_a_call_that_fails_twice_over_is_not_answered() -> None:
    """With four in ten slow, both of some pairs are lost, and nobody is kept waiting for them."""
    policy = RetryPolicy(attempts=1, patience_s=0.0, attempt_timeout_s=2.0)
    sent = Sent(slow=0.4, policy=policy)
    answered = sent.volley()
    assert 0 < len(answered) < len(sent.asks)
    assert sent.traffic.now_s == pytest.approx(3.5)


def test_the_table_of_a_played_run_says_how_often_it_was() -> None:
    """And nothing of chance, which its width shows."""
    found = run_virtual(estimate(mock(), TRAIN, preset=SMALL, evaluations=80, conditions=Conditions(latency=TAILED)))
    console = Console(width=120)
    with console.capture() as shown:
        console.print(estimate_table(found))
    assert f"of {found.draws} runs played through" in shown.get()
