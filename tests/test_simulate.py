"""Simulations: the calendar, the spend, the waits and the quality of runs that never took place."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lmaas_sdk import Budget, BudgetTooSmall, Limits, Preset, Price, QuotaExceeded, RetryPolicy, Task, UnknownPrice
from lmaas_sdk.planning.conditions import Conditions, Failures, Latency, Outage
from lmaas_sdk.planning.scenario import Scenario, price_named
from lmaas_sdk.planning.simulate import SimulatedMoment, simulate, simulate_async, sweep, sweep_async
from lmaas_sdk.planning.simulation import Spread
from lmaas_sdk.planning.synthetic import SyntheticLandscape, SyntheticTexts
from lmaas_sdk.tuning.events import DevScored, GenerationDone, RunPlanned, Waiting

BERLIN = ZoneInfo("Europe/Berlin")
MARCH = datetime(2026, 3, 1, tzinfo=BERLIN)  # clocks go forward on the 29th
TEN_A_DAY = Limits(requests_per_day=10, day_time_zone="Europe/Berlin")
DAY_S, HOUR_S = 86_400.0, 3600.0
SMALL = Preset("small", d=10, prompt_tokens=4, population=8, covariance="diagonal", dev_every=4)


def scenario(**changes: Any) -> Scenario:
    """Ten generations on eight short texts, on a free model without any quota."""
    conditions = changes.pop("conditions", Conditions(began=MARCH))
    landscape = changes.pop("landscape", SyntheticLandscape(hidden_size=16))
    given = {"preset": SMALL, "budget": Budget(evaluations=80), "train": SyntheticTexts(8, 5), **changes}
    return Scenario(conditions=conditions, landscape=landscape, **given)


@pytest.mark.parametrize(("candidates", "calls", "days"), [(1, 800, 80), (20, 40, 4)])
def test_a_quota_of_days_ends_on_the_calendar_day_that_it_takes(candidates: int, calls: int, days: int) -> None:
    """Clocks go forward within the eighty days, so the last midnight comes an hour sooner than 79 times 24 hours."""
    quota = Conditions(quotas=TEN_A_DAY, began=MARCH)
    budget, preset = Budget(evaluations=800), Preset("tpa", covariance="diagonal", step_size="tpa", prompt_tokens=4)
    (run,) = simulate(scenario(conditions=quota, budget=budget, preset=preset, candidates_a_call=candidates)).runs
    assert (calls, calls, 800, days, "budget") == (run.calls, run.attempts, run.evaluations, run.day, run.stopped)
    assert (MARCH + timedelta(days=days - 1)).date() == run.ended.date()
    began_to_midnight_s = (days - 1) * DAY_S - (HOUR_S if days == 80 else 0)
    assert began_to_midnight_s == pytest.approx(run.elapsed_s, abs=1.0)
    assert {"quota": pytest.approx(run.elapsed_s, abs=1.0)} == run.waits


def test_what_waits_changes_when_a_run_ends_and_not_what_it_finds() -> None:
    """A quota that is waited for costs time alone; the search is the same, bit for bit."""
    (run,) = simulate(scenario(conditions=Conditions(quotas=TEN_A_DAY, began=MARCH), dev=SyntheticTexts(8, 5))).runs
    assert run.found is not None
    assert run.found.dev is not None
    assert run.unlimited == run.found
    assert 0.0 == run.behind


def test_a_quota_that_nobody_waits_for_costs_quality() -> None:
    """The run stops with what it has, behind the one that nothing stopped."""
    quota = Conditions(quotas=Limits(requests_per_day=30, day_time_zone="Europe/Berlin"), began=MARCH)
    (run,) = simulate(
        scenario(conditions=quota, candidates_a_call=2, budget=Budget(evaluations=800), max_wait_s=60)
    ).runs
    assert ("quota", 56, 30) == (run.stopped, run.evaluations, run.calls)
    assert run.behind is not None
    assert run.behind > 0


def test_money_limits_as_it_does_in_a_run() -> None:
    """What is billed is tokens times the price; an unlimited run is as long as the budget's evaluations say."""
    price = Price(input_nanousd_per_mtok=1_000_000_000)
    paid = Conditions(price=price, began=MARCH)
    budget = Budget(usd="0.005", evaluations=400)
    (run,) = simulate(scenario(conditions=paid, budget=budget)).runs
    assert run.spent.nanousd == run.spent.tokens * 1000
    assert 8 * 8 * (5 + 4 + 4 + 2) == run.spent.tokens / (run.evaluations / 8)  # text, template, prompt, two specials
    assert run.spent.nanousd <= 5_000_000 < run.spent.nanousd + 8 * 8 * 15 * 1000
    assert run.behind is not None
    assert run.behind >= 0


def test_failures_are_paid_and_waited_for_as_they_are_in_a_run() -> None:
    """More attempts than calls, and waits for the causes there were."""
    failures = Failures(rate_limit=0.1, server_fault=0.05, charged=True)
    flaky = Conditions(failures=failures, latency=Latency(median_s=1.0, spread=0.3), began=MARCH)
    (run,) = simulate(scenario(conditions=flaky, candidates_a_call=2, budget=Budget(evaluations=400))).runs
    assert run.calls < run.spent.calls < run.attempts
    assert {"rate_limit", "retry"} == set(run.waits)
    assert run.elapsed_s > 50


def test_an_outage_is_waited_out() -> None:
    """Nothing is answered for an hour, and the run goes on after it with nothing lost."""
    away = Conditions(failures=Failures(outages=(Outage(30.0, HOUR_S),)), latency=Latency(median_s=10.0), began=MARCH)
    steady = Conditions(latency=Latency(median_s=10.0), began=MARCH)
    (with_it,), (without,) = (simulate(scenario(conditions=each)).runs for each in (away, steady))
    assert 100.0 == without.elapsed_s
    assert HOUR_S <= with_it.elapsed_s - without.elapsed_s < HOUR_S + 120
    assert (without.evaluations, without.found) == (with_it.evaluations, with_it.found)


def test_a_wait_for_the_quota_of_tomorrow_takes_nothing_from_the_patience_with_an_outage() -> None:
    """A call that waited for midnight meets a provider that is away for an hour of the new day."""
    failures = Failures(outages=(Outage(DAY_S, HOUR_S),))
    away = Conditions(quotas=TEN_A_DAY, failures=failures, began=MARCH)
    (run,) = simulate(scenario(conditions=away, candidates_a_call=1), compare=False).runs
    assert ("budget", 80, 8) == (run.stopped, run.evaluations, run.day)


def test_a_run_that_gets_nowhere_says_why() -> None:
    """It has an end and a failure, and found nothing."""
    gone = Conditions(failures=Failures(refused=1.0), began=MARCH)
    simulation = simulate(scenario(conditions=gone, retry=RetryPolicy(patience_s=10)), compare=False)
    (run,) = simulation.runs
    assert ("interrupted", None, 0) == (run.stopped, run.found, run.spent.calls)
    assert "no server took" in (run.failure or "")
    assert "no server took" in str(simulation)


def test_more_at_once_takes_less_time() -> None:
    """Eight calls of ten seconds a generation, one after another or four side by side."""
    slow = Conditions(latency=Latency(median_s=10.0), began=MARCH)
    swept = sweep(scenario(conditions=slow, candidates_a_call=1), concurrency=[1, 4], compare=False)
    assert [800.0, 200.0] == [simulation.runs[0].elapsed_s for simulation in swept.simulations]


def test_the_same_seeds_have_the_same_outcome() -> None:
    """With chance everywhere; other seeds have another."""
    chance = Conditions(
        quotas=Limits(requests_per_minute=30),
        failures=Failures(refused=0.05, timeout=0.05, rate_limit=0.05, outages=(Outage(100, 400),)),
        latency=Latency(median_s=1.0, spread=0.5, slow=0.05),
        began=MARCH,
    )
    played = scenario(conditions=chance, candidates_a_call=1, landscape=SyntheticLandscape(noise=0.1, hidden_size=16))
    first, again = (simulate(played, seeds=[3, 4]) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    assert first.runs[0].elapsed_s != first.runs[1].elapsed_s
    assert str(first) == str(again)


def test_a_summary_has_the_median_and_the_range_of_the_seeds() -> None:
    """Of every quantity that there is."""
    simulation = simulate(scenario(dev=SyntheticTexts(8, 5)), seeds=[1, 2, 3])
    losses = sorted(run.found.loss for run in simulation.runs if run.found is not None)
    assert Spread(*losses) == simulation.summary["loss"]
    assert {"dev", "unlimited_dev", "behind", "days", "cost_usd"} <= set(simulation.summary)
    assert "median" in str(simulation)


def test_a_sweep_plays_each_value_with_each() -> None:
    """In order; what a seed finds with nothing in its way is worked out once for those that share the search."""
    moments: list[SimulatedMoment] = []
    quota = Conditions(quotas=TEN_A_DAY, began=MARCH)
    played = scenario(conditions=quota)
    swept = sweep(played, candidates_a_call=[1, 4], population=[8, 10], on_moment=moments.append)
    assert [
        {"candidates_a_call": 1, "population": 8},
        {"candidates_a_call": 1, "population": 10},
        {"candidates_a_call": 4, "population": 8},
        {"candidates_a_call": 4, "population": 10},
    ] == list(swept.settings)
    assert [8, 8, 2, 3] == [simulation.runs[0].day for simulation in swept.simulations]
    begun = [moment for moment in moments if moment.is_unlimited and isinstance(moment.event, RunPlanned)]
    assert [8, 10] == [moment.event.population for moment in begun if isinstance(moment.event, RunPlanned)]
    assert [row["setting"] for row in swept.to_dict()["sweep"]] == list(swept.settings)  # type: ignore[attr-defined]
    assert str(swept).count("candidates_a_call") == 4


def test_every_event_is_told_with_its_moment() -> None:
    """In the time of the run, whose zone is the quota's."""
    moments: list[SimulatedMoment] = []
    quota = Conditions(quotas=TEN_A_DAY, began=MARCH.astimezone(UTC))
    (run,) = simulate(
        scenario(conditions=quota, dev=SyntheticTexts(4, 5)), compare=False, on_moment=moments.append
    ).runs
    assert {RunPlanned, GenerationDone, DevScored, Waiting} == {type(moment.event) for moment in moments}
    assert sorted(moments, key=lambda moment: moment.at) == moments
    assert (MARCH, run.ended) == (moments[0].at, moments[-1].at)
    assert {BERLIN} == {moment.at.tzinfo for moment in moments}


def test_real_data_are_played_as_they_are() -> None:
    """Their texts are what is scored and billed."""
    task = Task("things", template="{text} It was <mask> .", labels=["no", "yes"], words=["bad", "great"])
    train = task.examples([("a dull thing", "no"), ("a lovely day out", "yes")])
    (run,) = simulate(scenario(train=train, dev=train), compare=False).runs
    assert 8 * ((3 + 10) + (4 + 10)) * 10 == run.spent.tokens - 3 * 2 * 27  # three looks at two candidates
    assert run.found is not None
    assert run.found.dev is not None


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done with sockets, the loop's own pair apart; nothing sleeps in real time meanwhile."""
    seen: list[str] = []
    hear = threading.Event()
    hear.set()

    def audit(event: str, _args: object) -> None:
        if hear.is_set() and event.startswith("socket.") and event not in ("socket.__new__", "socket.socketpair"):
            seen.append(event)

    def sleep(_seconds: float) -> None:
        seen.append("sleep")

    sys.addaudithook(audit)
    monkeypatch.setattr(time, "sleep", sleep)
    yield seen
    hear.clear()  # a hook stays for good


def test_nothing_is_connected_and_nothing_sleeps(sockets: list[str]) -> None:
    """Weeks of quota, failures and an outage, and not one socket was bound, connected or looked up."""
    failures = Failures(refused=0.05, timeout=0.05, outages=(Outage(DAY_S, HOUR_S),))
    played = scenario(conditions=Conditions(quotas=TEN_A_DAY, failures=failures, began=MARCH), candidates_a_call=1)
    (run,) = simulate(played).runs
    assert run.elapsed_s > 7 * DAY_S
    assert [] == sockets


async def test_it_works_inside_a_running_loop() -> None:
    """On a thread of its own; awaited, the loop goes on."""
    expected = simulate(scenario()).to_dict()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert expected == (await simulate_async(scenario())).to_dict()
    assert ticks > 0
    swept = await sweep_async(scenario(), population=[8])
    assert expected == swept.simulations[0].to_dict()
    ticking.cancel()


async def test_one_that_is_cancelled_ends() -> None:
    """Its thread comes to an end within the run, long before it were over."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    generations: list[int] = []

    def listen(moment: SimulatedMoment) -> None:
        if isinstance(moment.event, GenerationDone):
            generations.append(moment.event.generation)
            loop.call_soon_threadsafe(begun.set)

    long = scenario(budget=Budget(evaluations=800_000))
    task = asyncio.create_task(simulate_async(long, on_moment=listen))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(generations) < 100_000


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: scenario(train=32), "train is a Dataset or SyntheticTexts"),
        (lambda: scenario(dev="dev.tsv"), "dev is a Dataset or SyntheticTexts"),
        (lambda: scenario(budget="5.00"), "budget is a Budget"),
        (lambda: scenario(candidates_a_call=0), "candidates_a_call"),
        (lambda: scenario(concurrency=0), "concurrency"),
        (lambda: scenario(population=2), "population"),
        (lambda: scenario(max_wait_s=-1), "max_wait_s"),
        (lambda: scenario(preset="best"), "preset"),
        (lambda: Scenario(landscape=SyntheticLandscape(ruggedness=-1.0)), "ruggedness"),
        (lambda: Scenario(landscape=SyntheticLandscape(effective_dim=0)), "effective_dim"),
        (lambda: scenario(conditions=Conditions(began=datetime(9999, 12, 31, tzinfo=UTC))), "2999, not 9999"),
        (lambda: scenario(conditions=Conditions(began=datetime(1969, 12, 31, tzinfo=UTC))), "2999, not 1969"),
        (lambda: SyntheticTexts(1), "count"),
        (lambda: SyntheticTexts(8, 0), "tokens"),
        (lambda: SyntheticTexts(8, (5, 513)), "tokens is at most 512"),
        (lambda: SyntheticTexts(100_000, (5, 16)), "count times tokens"),
        (lambda: SyntheticTexts(8, ()), "tokens has"),
        (lambda: SyntheticTexts(8, classes=9), "classes"),
        (lambda: Price(input_nanousd_per_mtok=-1), "negative"),
        (lambda: Conditions(quotas=Limits(requests_per_day=0)), "requests_per_day"),
        (lambda: Conditions(quotas=Limits(requests_per_day=1, day_time_zone="Mars/Olympus")), "Mars/Olympus"),
        (lambda: simulate(scenario(), seeds=[]), "at least one"),
        (lambda: simulate(scenario(), seeds=[1, 1]), "twice"),
        (lambda: sweep(scenario(), colour=["red"]), "colour"),
        (lambda: sweep(scenario(), population="8"), "list of values"),
        (lambda: sweep(scenario(), population=[8, 16, 8]), "population twice"),
        (lambda: sweep(scenario()), "at least one setting"),
    ],
)
def test_bad_settings_are_named(make: Any, named: str) -> None:
    """Before anything starts."""
    with pytest.raises((ValueError, TypeError), match=named):
        make()


def test_a_run_that_goes_on_for_longer_than_there_are_dates_is_told() -> None:
    """In words, not by the date that cannot be made."""

    class Late(Scenario):
        def began(self) -> datetime:
            return datetime(9999, 12, 31, 23, 59, tzinfo=UTC)

    with pytest.raises(ValueError, match="before the year 10000"):
        simulate(Late(conditions=Conditions(latency=Latency(60.0)), budget=Budget(evaluations=100)), compare=False)


def test_what_cannot_be_paid_or_let_through_is_refused_before_anything_is_played() -> None:
    """A budget below a generation, and a call above what a minute allows: of any setting of a sweep."""
    moments: list[SimulatedMoment] = []
    with pytest.raises(BudgetTooSmall):
        sweep(scenario(budget=Budget(evaluations=80)), population=[8, 100], on_moment=moments.append)
    few = Conditions(quotas=Limits(tokens_per_minute=10))
    with pytest.raises(QuotaExceeded, match="10 a minute"):
        sweep(scenario(conditions=few), candidates_a_call=[1, 8], on_moment=moments.append)
    assert [] == moments


def test_prices_are_known_by_name() -> None:
    """Those of a sheet hold whatever day it is."""
    assert 60_000_000_000 == price_named("gpt3-2022/davinci").input_nanousd_per_mtok
    assert price_named("gpt3-2022/Ada") == price_named("ada")
    with pytest.raises(UnknownPrice, match="davinca"):
        price_named("gpt3-2022/davinca")


def test_the_quota_of_2021_is_known_by_name() -> None:
    """A hundred calls a day, of Shanghai's days."""
    wudao = scenario(
        conditions=Conditions(quotas="wudao-2021", began=MARCH), budget=Budget(evaluations=240), candidates_a_call=1
    )
    (run,) = simulate(wudao, compare=False).runs
    assert ("Asia/Shanghai", 3) == (str(run.ended.tzinfo), run.day)
