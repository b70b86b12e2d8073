"""What a run will come to: against the run itself, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tuning_cases import DEV, SMALL, TEST, TRAIN, examples, mock

from benchmarks.estimate_coverage import draw, run
from lmaas_sdk import (
    Budget,
    BudgetTooSmall,
    Conditions,
    Estimate,
    Failures,
    History,
    Latency,
    Limits,
    OnPaper,
    Price,
    Range,
    Registration,
    RetryPolicy,
    Scheduling,
    ScoreQuery,
    Tuner,
    TuningResult,
    UnknownPrice,
    estimate,
    open_ledger,
    read_history,
)
from lmaas_sdk.outside import of_a_simulation, within_outside
from lmaas_sdk.planning.spread import range_of
from lmaas_sdk.testing import Faults, run_virtual

PRICE = Price(400_000_000)
SECOND = Conditions(latency=Latency(median_s=1.0))
T = TypeVar("T")
FOUR_A_DAY = Conditions(
    quotas=Limits(requests_per_day=4, day_time_zone="Europe/Berlin"),
    began=datetime(2026, 3, 28, 11, tzinfo=UTC),  # noon there, and the day after has an hour less
)
QUANTITIES = ("calls", "evaluations", "attempts", "tokens", "cost_usd", "wall_s")


def simulated(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """In virtual time, in a world that repeats itself."""

    async def within() -> T:
        clock = asyncio.get_running_loop().time
        with within_outside(of_a_simulation(began_s=1_772_323_200.0, clock=clock, seed=1)):  # 2026-03-01, 00:00 UTC
            return await main()

    return run_virtual(within())


def exactly(found: Estimate, **values: float) -> bool:
    return all(getattr(found, name) == Range.exactly(value) for name, value in values.items())


@pytest.mark.parametrize("number", range(8))
def test_where_nothing_can_vary_the_estimate_is_what_comes(number: int) -> None:
    """Calls, tokens, money, and the time to the millisecond, under quotas of all kinds and budgets of all units."""
    found = run(draw(number, is_certain=True))
    assert found is not None
    for name in QUANTITIES:
        assert found[name]["low"] == found[name]["high"]
        assert found[name]["expected"] == pytest.approx(found[name]["actual"], abs=0.001 if name == "wall_s" else 1e-12)
        assert found[name]["is_within"] is True
    assert found["draws"] == 1


def test_where_calls_fail_the_intervals_hold_most_runs() -> None:
    """Of four runs, three at least end within; the benchmark counts hundreds."""
    rows = [row for number in range(502, 506) if (row := run(draw(number))) is not None]
    assert len(rows) == 4
    for name in ("wall_s", "cost_usd", "attempts"):
        assert sum(row[name]["is_within"] for row in rows) >= 3
    assert all(row["wall_s"]["low"] < row["wall_s"]["high"] for row in rows)


async def test_the_same_seed_tells_the_same() -> None:
    """To the last digit."""
    conditions = Conditions(
        latency=Latency(1.0, 0.4), failures=Failures(timeout=0.05), began=datetime(2026, 3, 1, tzinfo=UTC)
    )
    backend = mock(price=PRICE, max_candidates=2)
    found = [await estimate(backend, TRAIN, DEV, evaluations=80, preset=SMALL, conditions=conditions) for _ in range(2)]
    assert found[0].to_dict() == found[1].to_dict()


class Silent:
    """A backend that has a card and counts tokens, and nothing else."""

    def __init__(self, inner: object) -> None:
        self.card = inner.card  # type: ignore[attr-defined]
        self._inner, self.asked = inner, 0

    async def register(self, texts: object, subspace: object = None) -> Registration:
        self.asked += 1
        return await self._inner.register(texts, subspace)  # type: ignore[attr-defined, no-any-return]

    async def score(self, query: ScoreQuery, *, key: str) -> None:
        raise AssertionError("an estimate sent a call")

    features = score

    async def aclose(self) -> None:
        pass


async def test_nothing_is_sent() -> None:
    """Texts are counted, once a set, and no call goes out."""
    silent = Silent(mock(price=PRICE))
    found = await estimate(silent, TRAIN, DEV, test=TEST, evaluations=80, preset=SMALL)  # type: ignore[arg-type]
    assert silent.asked == 3
    assert exactly(found, evaluations=80, generations=10, calls=10 + 1 + 1)


async def test_every_purpose_has_its_own_figures() -> None:
    """They add up to the whole, to the token, and are those of the run."""
    backend = mock(price=PRICE)
    tuner = Tuner(backend, budget=Budget(evaluations=80), preset=replace(SMALL, dev_every=4))
    found = await tuner.estimate(TRAIN, DEV, test=TEST, compare_manual=True)
    result = await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True)
    of_purposes = {purpose: one.tokens.expected for purpose, one in found.by_purpose.items()}
    assert of_purposes == {purpose: one.tokens for purpose, one in result.spend.by_purpose.items()}
    assert found.tokens.expected == sum(of_purposes.values()) == result.spent.tokens
    assert found.by_purpose["dev"].calls == Range.exactly(3)  # after 4, 8 and all 10


async def test_a_result_carries_what_was_expected_of_it() -> None:
    """Worked out by `fit` itself: everything but the time; predictions afterwards are no part of it."""
    backend = mock(price=PRICE)
    result = await Tuner(backend, budget=Budget(evaluations=80), preset=SMALL).fit(TRAIN, DEV)
    before = result.to_dict()["estimate"]
    await result.predict(["a lovely thing"])
    assert result.to_dict()["estimate"] == before
    assert isinstance(before, dict)
    assert list(before) == list(QUANTITIES)
    assert before["wall_s"] is None
    for name in QUANTITIES[:-1]:
        assert before[name]["low"] == before[name]["actual"] == before[name]["high"]
        assert before[name]["is_within"] is True
    assert before["evaluations"]["actual"] == 80


async def test_a_result_says_what_is_unknown() -> None:
    """The time; and where an attempt failed that nobody foresaw, the actual is outside, which a note tells."""
    faults = Faults(script=["server_fault"])
    result = await Tuner(mock(faults=faults), budget=Budget(evaluations=80), preset=SMALL).fit(TRAIN)
    found = result.to_dict()["estimate"]
    assert isinstance(found, dict)
    assert found["wall_s"] is None
    assert result.estimate is not None
    assert any("without failures" in note for note in result.estimate.notes)
    assert (found["attempts"]["expected"], found["attempts"]["actual"], found["attempts"]["is_within"]) == (
        10,
        11,
        False,
    )
    assert found["tokens"]["is_within"] is True


def test_the_core_knows_nothing_of_estimates() -> None:
    """Whether one is given changes no byte of what repeats."""

    async def core(*, given: bool) -> TuningResult:
        tuner = Tuner(mock(), budget=Budget(evaluations=80), preset=SMALL)
        foreseen = await tuner.estimate(TRAIN, DEV, conditions=SECOND) if given else None
        return await tuner.fit(TRAIN, DEV, estimate=foreseen)

    with_one, without = run_virtual(core(given=True)), run_virtual(core(given=False))
    assert with_one.core.to_bytes() == without.core.to_bytes()
    assert with_one.estimate is not None
    assert with_one.estimate.wall_s == Range.exactly(11.0)  # ten generations and one look


async def test_what_is_no_estimate_is_refused_before_anything_is_sent() -> None:
    """The coroutine of one that nobody awaited, say: at the end of the run it would be too late."""
    backend = mock()
    tuner = Tuner(backend, budget=Budget(evaluations=80), preset=SMALL)
    forgotten = tuner.estimate(TRAIN)
    with pytest.raises(TypeError, match="await tuner"):
        await tuner.fit(TRAIN, estimate=forgotten)  # type: ignore[arg-type]
    forgotten.close()
    assert backend.book.attempts == 0


async def test_what_fits_into_money_is_what_that_buys() -> None:
    """The run within it does as many evaluations, and a cent more or less is another answer."""
    backend = mock(price=PRICE)
    tuner = Tuner(backend, preset=SMALL, budget=Budget(evaluations=8000))
    found = await tuner.estimate(TRAIN, DEV)
    fits = found.fits(usd="0.01")
    assert fits.cost_usd is not None
    assert fits.cost_usd.high <= 0.01
    result = await Tuner(backend, preset=SMALL, budget=Budget(usd="0.01")).fit(TRAIN, DEV)
    assert fits.evaluations == Range.exactly(float(result.evaluations))
    with pytest.raises(BudgetTooSmall):
        found.fits(usd="0.00001")
    with pytest.raises(ValueError, match="fit into"):
        found.fits()


async def test_a_model_whose_card_has_no_price_is_free() -> None:
    """Of a real one that is what the card says; of one on paper nobody knows, and both tell so."""
    free = await estimate(mock(), TRAIN, preset=SMALL)
    assert free.cost_usd == Range.exactly(0)
    assert any("it is free" in note for note in free.notes)
    with pytest.raises(ValueError, match="costs nothing"):
        free.fits(usd="5")
    assert (await asyncio.to_thread(free.budget_for, 80)).limits["nanousd"] is None
    result = await Tuner(mock(), budget=Budget(evaluations=80), preset=SMALL).fit(TRAIN)
    assert result.actual["cost_usd"] == 0
    assert result.to_dict()["estimate"]["cost_usd"]["is_within"] is True  # type: ignore[index]
    unknown = await estimate(OnPaper("ada", tokens_a_text=28), TRAIN, preset=SMALL)
    assert (unknown.cost_usd, unknown.notes) == (None, ())
    with pytest.raises(ValueError, match="no price is known"):
        unknown.fits(usd="5")


@pytest.mark.parametrize("failures", [Failures(), Failures(server_fault=0.05, timeout=0.05)], ids=["none", "some"])
def test_a_budget_for_so_many_evaluations_reaches_them(failures: Failures) -> None:
    """With what failures take beside them, of a provider that bills what it lost; without any it is not a call more."""
    forgets = replace(mock().card.capabilities, idempotent=False)

    async def main() -> tuple[Budget, TuningResult]:
        backend = mock(price=PRICE, faults=Faults(seed=3, **failures.chances), capabilities=forgets)  # type: ignore[arg-type]
        conditions = Conditions(failures=failures)
        found = await estimate(backend, TRAIN, DEV, preset=SMALL, evaluations=8, conditions=conditions)
        budget = await asyncio.to_thread(found.budget_for, 160)
        return budget, await Tuner(backend, preset=SMALL, budget=budget).fit(TRAIN, DEV)

    budget, result = simulated(main)
    assert result.evaluations >= 160
    assert (budget.posted == result.spent, budget.overrun) == (True, False)
    if not failures.total:
        assert (budget.limits["calls"], budget.limits["evaluations"], budget.free("nanousd")) == (22, 160, 0)


async def test_models_are_compared_at_their_prices() -> None:
    """In the proportion of these, for the same tokens; an unknown one is told."""
    found = await estimate(mock(), TRAIN, DEV, preset=SMALL, evaluations=80)
    priced = await asyncio.to_thread(partial(found.priced, ["ada", "davinci"], on=date(2022, 1, 31)))
    ada, davinci = (priced[name].cost_usd for name in ("ada", "davinci"))
    assert ada is not None
    assert davinci is not None
    assert ada.expected == pytest.approx(found.tokens.expected * 0.0008 / 1000)
    assert davinci.expected == pytest.approx(75 * ada.expected)
    assert davinci.is_exact
    with pytest.raises(UnknownPrice):
        await asyncio.to_thread(found.priced, ["nobody's"])


async def test_where_money_ends_a_run_a_dearer_model_does_less() -> None:
    """The budget of the estimate holds at every price."""
    found = await estimate(mock(price=PRICE), TRAIN, preset=SMALL, budget=Budget(usd="1"))
    priced = await asyncio.to_thread(partial(found.priced, ["ada", "davinci"], on=date(2022, 1, 31)))
    ada, davinci = priced.values()
    assert ada.evaluations.expected > 70 * davinci.evaluations.expected > 0
    assert davinci.cost_usd is not None
    assert davinci.cost_usd.high <= 1


async def test_a_quota_alone_gives_a_lower_bound_of_the_time() -> None:
    """As if answers took no time; that is said. Without either, the time is unknown."""
    found = await estimate(mock(), TRAIN, preset=SMALL, evaluations=80, conditions=FOUR_A_DAY)
    assert found.quota_days == Range.exactly(3)
    assert found.wall_s is not None
    assert found.wall_s.is_exact
    assert found.wall_s.expected == pytest.approx((12 + 23) * 3600, abs=1)
    assert found.ends is not None
    assert "quota alone" in found.notes[0]
    unknown = await estimate(mock(price=PRICE), TRAIN, preset=SMALL, evaluations=80)
    assert (unknown.wall_s, unknown.quota_days, unknown.ends, unknown.notes) == (None, None, None, ())


async def test_time_can_be_what_ends_a_run() -> None:
    """By the latency; without one nobody can tell how far it gets."""
    budget = Budget(wall_s=20.5)
    found = await estimate(mock(), TRAIN, preset=SMALL, budget=budget, conditions=SECOND)
    assert found.evaluations == Range.exactly(160)
    with pytest.raises(ValueError, match="only time"):
        await estimate(mock(), TRAIN, preset=SMALL, budget=budget)
    with pytest.raises(ValueError, match="only time"):
        await estimate(mock(), TRAIN, preset=SMALL, budget=budget, conditions=Conditions(latency=Latency()))


async def test_the_patience_of_a_run_is_told_to_its_estimate() -> None:
    """As it is told to `fit`: the day's four calls are made, and the next day is not waited for."""
    tuner = Tuner(mock(max_candidates=8), preset=SMALL, budget=Budget(evaluations=160))
    found = await tuner.estimate(TRAIN, conditions=FOUR_A_DAY, max_wait_s=60.0)
    assert found.calls == Range.exactly(4)
    assert (await tuner.estimate(TRAIN, conditions=FOUR_A_DAY)).calls == Range.exactly(20)


async def test_an_end_beyond_the_calendar_is_not_told() -> None:
    """The time still is."""
    conditions = replace(SECOND, began=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    found = await estimate(mock(), TRAIN, preset=SMALL, budget=Budget(evaluations=160), conditions=conditions)
    assert found.wall_s is not None
    assert (found.ends, found.to_dict()["ends"]) == (None, None)


@pytest.mark.parametrize(
    "scheduling", [Scheduling(stragglers="drop"), Scheduling(over_ask=2)], ids=["drop", "over_ask"]
)
def test_a_run_that_does_not_wait_for_the_slowest_is_foreseen(scheduling: Scheduling) -> None:
    """Dropped calls shorten it, and it ends within."""
    latency = Latency(1.0, 0.2, slow=0.05, slow_factor=20)

    async def both() -> tuple[TuningResult, Estimate]:
        backend = mock(max_candidates=1, latency_s=latency, seed=5)
        tuner = Tuner(backend, budget=Budget(evaluations=240), preset=SMALL, scheduling=scheduling)
        waiting = await Tuner(backend, budget=Budget(evaluations=240), preset=SMALL).estimate(
            TRAIN, conditions=Conditions(latency=latency)
        )
        foreseen = await tuner.estimate(TRAIN, conditions=Conditions(latency=latency))
        return await tuner.fit(TRAIN, estimate=foreseen), waiting

    result, waiting = simulated(both)
    foreseen = result.estimate
    assert foreseen is not None
    assert foreseen.wall_s is not None
    assert waiting.wall_s is not None
    assert foreseen.wall_s.high < waiting.wall_s.low
    assert result.actual["wall_s"] == pytest.approx(foreseen.wall_s.expected, rel=0.3)
    assert result.spent.tokens == pytest.approx(foreseen.tokens.expected, rel=0.02)


def test_a_probe_is_sent_counted_and_learned_from() -> None:
    """Its calls are booked in the budget under a purpose of their own and are no evaluations; the time follows."""

    async def main() -> tuple[Budget, Estimate, TuningResult]:
        backend = mock(price=PRICE, latency_s=2.0)
        budget = Budget(evaluations=80, calls=100)
        tuner = Tuner(backend, budget=budget, preset=SMALL)
        found = await tuner.estimate(TRAIN, DEV, probe=3)
        spent = budget.posted
        assert backend.book.attempts == 3
        assert found.probed == spent
        return budget, found, await tuner.fit(TRAIN, DEV, estimate=found)

    budget, found, result = simulated(main)
    assert found.probed is not None
    assert (found.probed.calls, found.probed.evaluations, budget.posted.calls) == (3, 0, 3 + 11)
    assert found.wall_s is not None
    assert found.wall_s.low < 22.0 < found.wall_s.high
    assert found.wall_s.expected == pytest.approx(22.0, rel=0.2)
    assert exactly(found, calls=11, evaluations=80)
    assert result.actual["calls"] == 11


async def test_a_probe_that_cannot_be_paid_for_is_not_sent() -> None:
    """Nor one for a run that cannot be, nor one after which there is no money for the run; a call takes 1792 tokens."""
    backend = mock(price=PRICE)
    with pytest.raises(BudgetTooSmall):
        await estimate(backend, TRAIN, preset=SMALL, budget=Budget(evaluations=4), probe=3)
    for calls, tokens in ((1, 10**6), (3, 10**6), (100, 4 * 1792 - 1)):
        with pytest.raises(BudgetTooSmall, match="probe and one generation"):
            await estimate(backend, TRAIN, preset=SMALL, budget=Budget(calls=calls, tokens=tokens), probe=3)
    just = Budget(calls=4, tokens=4 * 1792)
    assert (await estimate(mock(price=PRICE), TRAIN, preset=SMALL, budget=just, probe=3)).calls == Range.exactly(1)
    with pytest.raises(ValueError, match="leave one of them out"):
        await estimate(backend, TRAIN, preset=SMALL, conditions=SECOND, probe=3)
    with pytest.raises(ValueError, match="probe"):
        await estimate(backend, TRAIN, preset=SMALL, probe=-1)
    assert backend.book.attempts == 0


def test_history_teaches_how_often_attempts_fail(tmp_path: Path) -> None:
    """A run on a ledger file leaves it, and the next estimate knows; little of it says little."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        with within_outside(of_a_simulation(began_s=1_772_323_200.0, clock=clock, seed=1)):
            await learn()

    async def learn() -> None:
        faults = Faults(seed=1, refused=0.1, timeout=0.1)
        async with open_ledger(tmp_path / "spend.ledger") as ledger:
            budget, at_once = Budget(evaluations=240, ledger=ledger), RetryPolicy(first_wait_s=0, budget_floor=100)
            await Tuner(mock(max_candidates=1, faults=faults), budget=budget, preset=SMALL, retry=at_once).fit(TRAIN)
        seen = await asyncio.to_thread(read_history, tmp_path / "spend.ledger")
        total = seen.answered + seen.refused + seen.lost
        assert (seen.answered, len(seen.measured_s)) == (240, 240)
        assert seen.refused / total == pytest.approx(0.1, abs=0.04)
        assert seen.lost / total == pytest.approx(0.1, abs=0.04)
        found = await estimate(mock(max_candidates=1), TRAIN, preset=SMALL, evaluations=80, history=seen)
        assert found.attempts.low > 80
        few = History(answered=8, refused=1, lost=1)
        unsure = await estimate(mock(max_candidates=1), TRAIN, preset=SMALL, evaluations=80, history=few)
        assert unsure.attempts.high - unsure.attempts.low > found.attempts.high - found.attempts.low

    asyncio.run(main())


def test_history_is_of_attempts(tmp_path: Path) -> None:
    """None in the ledger, or none at this endpoint, is told; so are counts that are none."""

    async def main() -> None:
        async with open_ledger(tmp_path / "spend.ledger") as ledger:
            await Budget(calls=1, ledger=ledger).ready()

    asyncio.run(main())
    with pytest.raises(ValueError, match="no attempt"):
        read_history(tmp_path / "spend.ledger")
    with pytest.raises(ValueError, match="no attempt at 'x'"):
        read_history(tmp_path / "spend.ledger", endpoint="x")
    with pytest.raises(ValueError, match="counts attempts"):
        History(answered=0)


async def test_a_model_on_paper_needs_no_server() -> None:
    """The arithmetic of the paper's SST-2 run."""
    paper = OnPaper("davinci", tokens_a_text=28, max_candidates=1)
    found = await estimate(paper, examples(0, 32), preset="paper", evaluations=8000)
    assert exactly(found, calls=8000, evaluations=8000, tokens=8000 * 32 * (28 + 50))
    assert found.is_counted is False
    with pytest.raises(ValueError, match="tokens_a_text"):
        OnPaper("davinci", tokens_a_text=0)


async def test_bad_settings_are_told_before_anything_starts() -> None:
    """By name, and without a call."""
    backend = mock()
    cases = [
        ({"evaluations": 0}, "evaluations"),
        ({"evaluations": 80, "budget": Budget(calls=9)}, "give one of the two"),
        ({"preset": "nobody's"}, "preset"),
    ]
    for options, named in cases:
        with pytest.raises(ValueError, match=named):
            await estimate(backend, TRAIN, **options)  # type: ignore[arg-type]
    with pytest.raises(BudgetTooSmall):
        await estimate(backend, TRAIN, preset=SMALL, budget=Budget(evaluations=7))
    assert backend.book.attempts == 0


async def test_planning_leaves_no_trace_in_a_budget() -> None:
    """What is left is planned with, and stays as it is."""
    budget = Budget(evaluations=100)
    hold = budget.reserve(budget.posted.__class__(evaluations=20))
    found = await estimate(mock(), TRAIN, preset=SMALL, budget=budget)
    assert found.evaluations == Range.exactly(80)
    assert (budget.free("evaluations"), budget.pending.evaluations) == (Fraction(80), 20)
    hold.void()


async def test_a_budget_that_is_spent_says_what_it_had() -> None:
    """Its limit and what was posted, not what is left of it; a probe's likewise."""
    budget = Budget(evaluations=100, calls=50)
    budget.reserve(budget.posted.__class__(calls=2, evaluations=96)).post(
        budget.posted.__class__(calls=2, evaluations=96)
    )
    with pytest.raises(BudgetTooSmall, match="allows 100 evaluations: 96 posted, 0 pending, 8 more asked"):
        await estimate(mock(), TRAIN, preset=SMALL, budget=budget)
    few = Budget(calls=10)
    few.reserve(budget.posted.__class__(calls=8)).post(budget.posted.__class__(calls=8))
    with pytest.raises(BudgetTooSmall, match="allows 10 calls: 8 posted, 0 pending, 3 more asked"):
        await estimate(mock(), TRAIN, preset=SMALL, budget=few, probe=2)


def test_quantiles_of_many_and_student_of_few() -> None:
    """The interval of equal draws has no width; of few it is as wide as t says (n = 5: 2.132 * sqrt(1.2))."""
    assert range_of([3, 3, 3]) == Range.exactly(3)
    few = range_of([9.0, 10.0, 11.0, 10.0, 10.0])
    assert few.high - 10 == pytest.approx(2.132 * (0.5**0.5) * (1.2**0.5), rel=0.005)
    many = range_of(list(range(1, 200)))
    assert (many.low, many.expected, many.high) == pytest.approx((10, 100, 190))
    assert range_of([0.0] * 9 + [1.0]).low == 0


def test_the_end_is_in_calendar_time() -> None:
    """From the first moment on, which a simulation brings."""

    async def main() -> Estimate:
        return await estimate(mock(), TRAIN, preset=SMALL, evaluations=80, conditions=SECOND)

    assert simulated(main).ends == datetime(2026, 3, 1, 0, 0, 10, tzinfo=UTC)
