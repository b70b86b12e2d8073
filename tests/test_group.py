"""Several runs that share one budget."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning_cases import DEV, SMALL, TEST, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import (
    Budget,
    GenerationDone,
    GroupResult,
    Limits,
    Optimizer,
    Preset,
    Price,
    RetryPolicy,
    Tuner,
    TunerGroup,
    TuningResult,
    open_ledger,
    verify_ledger,
)
from lmaas_sdk.errors import BudgetTooSmall, ServerFault
from lmaas_sdk.testing import Faults, run_virtual
from lmaas_sdk.tuning.events import Event
from lmaas_sdk.tuning.optimizer import Batch
from lmaas_sdk.tuning.pool import split
from lmaas_sdk.tuning.random_search import RandomSearch

PLATEAU: Preset = replace(SMALL, plateau=3)
GONE = Faults(plan=lambda attempt: "server_fault" if attempt.number >= 2 else None)
AWAY = Faults(plan=lambda attempt: "server_fault")
NO_PATIENCE = RetryPolicy(first_wait_s=0, outage_s=0, patience_s=0)


def generations(result: GroupResult) -> dict[str, int]:
    return {name: len(run.generations) for name, run in result.items()}


async def alone(evaluations: int, seed: int) -> TuningResult:
    tuner = Tuner(mock(), budget=Budget(evaluations=evaluations), preset=SMALL, seed=seed)
    return await tuner.fit(TRAIN, DEV, test=TEST)


async def test_each_ends_as_a_tuner_alone_with_its_share() -> None:
    """With priorities 1:2:3 of 480 evaluations: 10, 20 and 30 generations of 8, to the same bytes."""
    budget = Budget(evaluations=480)
    group = TunerGroup(budget=budget)
    for seed in (1, 2, 3):
        group.add(f"seed-{seed}", mock(), TRAIN, DEV, test=TEST, preset=SMALL, seed=seed, priority=seed)
    result = await group.fit()
    assert {"seed-1": 10, "seed-2": 20, "seed-3": 30} == generations(result)
    for seed in (1, 2, 3):
        one, found = await alone(80 * seed, seed), result[f"seed-{seed}"]
        assert (one.core.to_bytes(), one.test) == (found.core.to_bytes(), found.test)
    assert result.failures == {}
    assert 480 == budget.posted.evaluations == result.spent.evaluations


async def test_the_result_is_told_to_people_and_programs() -> None:
    """The dictionary is JSON, and the table has a row a run."""
    group = TunerGroup(budget=Budget(evaluations=160, usd="1.00"))
    for seed in (1, 2):
        group.add(f"seed-{seed}", mock(price=Price(400_000_000)), TRAIN, DEV, test=TEST, preset=SMALL, seed=seed)
    result = await group.fit()
    told = json.loads(json.dumps(result.to_dict()))
    assert ["seed-1", "seed-2"] == list(told["runs"])
    assert told["spend"]["total"]["nanousd"] == sum(run["spend"]["total"]["nanousd"] for run in told["runs"].values())
    assert {"evaluations": 160, "usd": 1.0} == {unit: told["budget"][unit] for unit in ("evaluations", "usd")}
    assert 3 == result.table().row_count


async def test_what_one_leaves_goes_to_those_who_still_run() -> None:
    """One fails after two generations of ten; its other eight are done by the others, by priority as far as may be."""
    budget = Budget(evaluations=8 * 40)
    group = TunerGroup(budget=budget)
    group.add("gone", mock(faults=GONE), TRAIN, preset=SMALL, retry=NO_PATIENCE)
    group.add("one", mock(), TRAIN, preset=SMALL)
    group.add("two", mock(), TRAIN, preset=SMALL, priority=2)
    result = await group.fit()
    assert result["gone"].stopped == "interrupted"
    assert isinstance(result["gone"].failure, ServerFault)
    found = generations(result)
    lost = result["gone"].spent.evaluations / 8 - 2  # by attempts whose outcome nobody knows
    assert (2, 38 - lost) == (found["gone"], found["one"] + found["two"])
    assert 2 * found["one"] == pytest.approx(found["two"], abs=2)
    assert 8 * 40 == budget.posted.evaluations


async def test_what_one_leaves_goes_on_in_a_ledger_file(tmp_path: Path) -> None:
    """The file adds up, and what was left is spent to less than a generation for each."""
    async with open_ledger(tmp_path / "ledger") as ledger:
        budget = Budget(evaluations=8 * 30, ledger=ledger)
        group = TunerGroup(budget=budget)
        early = replace(SMALL, dev_every=2)
        group.add("early", mock(), TRAIN, DEV, preset=early, target=0.0)
        group.add("one", mock(), TRAIN, DEV, preset=SMALL)
        group.add("two", mock(), TRAIN, DEV, preset=SMALL, seed=2)
        result = await group.fit()
        assert {"early": 2, "one": 14, "two": 14} == generations(result)
        assert 8 * 30 == budget.posted.evaluations
    found = await asyncio.to_thread(verify_ledger, tmp_path / "ledger")
    assert not found.discrepancies


async def test_rests_that_pay_for_nothing_alone_are_put_together() -> None:
    """A tenth of a generation for each of ten pays for one more of somebody's."""
    budget = Budget(evaluations=8 * 10 * 11)
    group = TunerGroup(budget=budget)
    group.add("away", mock(faults=AWAY), TRAIN, preset=SMALL, retry=NO_PATIENCE)
    for number in range(10):
        group.add(f"run-{number}", mock(), TRAIN, preset=SMALL, seed=number)
    result = await group.fit()
    lost = math.ceil(result.spend["away"].evaluations / 8)  # by attempts whose outcome nobody knows
    assert (["away"], 110 - lost) == (list(result.failures), sum(generations(result).values()))
    assert max(generations(result).values()) - min(generations(result).values()) == 1


@settings(max_examples=12, deadline=None)
@given(
    priorities=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=5),
    ends=st.lists(st.sampled_from(["budget", "plateau", "gone", "away"]), min_size=5, max_size=5),
    evaluations=st.integers(60, 700),
    tokens=st.sampled_from([None, 60_000, 200_000]),
)
def test_a_budget_is_never_exceeded_and_hardly_anything_of_it_is_lost(
    priorities: list[float], ends: list[str], evaluations: int, tokens: int | None
) -> None:
    """However runs end: at every event, and with at most a generation's rest for each of those who went on."""
    budget = Budget(evaluations=evaluations, tokens=tokens)
    group = TunerGroup(budget=budget)
    backends: list[MockBackend] = []
    for number, (priority, end) in enumerate(zip(priorities, ends, strict=False)):
        backends.append(mock(latency_s=1.0, faults={"gone": GONE, "away": AWAY}.get(end, Faults())))
        preset = PLATEAU if end == "plateau" else SMALL
        name = f"{end}-{number}"
        group.add(name, backends[-1], TRAIN, DEV, preset=preset, priority=priority, retry=NO_PATIENCE)

    least_left: list[float] = []

    def heard(name: str, event: Event) -> None:
        least_left.extend(float(left) for unit in ("evaluations", "tokens") if (left := budget.free(unit)) is not None)

    async def run() -> GroupResult | None:
        try:
            return await group.fit(on_event=heard)
        except (BudgetTooSmall, ServerFault):
            return None

    result = run_virtual(run())
    assert min(least_left, default=0.0) >= 0
    assert sum(backend.book.tokens for backend in backends) <= budget.posted.tokens
    assert budget.pending.calls == 0
    went_on = [] if result is None else [name for name, one in result.items() if one.stopped == "budget"]
    if went_on and tokens is None:
        assert evaluations - budget.posted.evaluations < 8 * len(went_on) + 8


async def test_failures_end_nobody_else() -> None:
    """A backend that is away and a share that is too small are told by name; what they have cost is told too."""
    group = TunerGroup(budget=Budget(evaluations=200))
    group.add("away", mock(faults=AWAY), TRAIN, preset=SMALL, retry=NO_PATIENCE)
    group.add("small", mock(), TRAIN, preset=SMALL, priority=0.01)
    group.add("well", mock(), TRAIN, preset=SMALL)
    result = await group.fit()
    assert (["well"], ["away", "small"]) == (list(result), list(result.failures))
    assert isinstance(result.failures["small"], BudgetTooSmall)
    assert 24 <= generations(result)["well"] <= 25
    assert 0 == result.spend["small"].calls < result.spend["away"].calls


class _Broken(Exception):
    """What somebody's own code raises."""


class _Breaking(RandomSearch):
    """A search that breaks when it is told its third generation."""

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        if generation == 2:
            raise _Broken("no third generation")
        super().tell(generation, values)


def breaking(d: int, seed: int) -> Optimizer:
    return _Breaking(d, population=8, sigma0=1.0, seed=seed)


async def test_a_search_that_breaks_costs_nobody_else_anything() -> None:
    """Its error stands beside the others' results, and is the cause where its own is asked for; its rest goes on."""
    budget = Budget(evaluations=8 * 30)
    group = TunerGroup(budget=budget)
    group.add("well", mock(), TRAIN, preset=SMALL)
    group.add("broken", mock(), TRAIN, preset=SMALL, optimizer=breaking)
    group.add("too", mock(), TRAIN, preset=SMALL)
    result = await group.fit()
    assert (["well", "too"], ["broken"]) == (list(result), list(result.failures))
    assert isinstance(result.failures["broken"], _Broken)
    assert "_Broken: no third generation" == result.to_dict()["failures"]["broken"]  # type: ignore[index]
    with pytest.raises(KeyError, match=r"'broken' has failed.*no third generation") as raised:
        result["broken"]
    assert result.failures["broken"] is raised.value.__cause__
    assert (None, False) == (result.get("broken"), "broken" in result)
    assert (24, 27) == (result.spend["broken"].evaluations, sum(generations(result).values()))
    assert (8 * 30, 0) == (budget.posted.evaluations, budget.pending.calls)


class _Exhausted(RandomSearch):
    """A search that has an iterator come to its end."""

    def ask(self, extra: int = 0) -> Batch:
        return next(iter([]))


async def test_a_search_that_comes_to_the_end_of_an_iterator_is_heard_of() -> None:
    """No future carries a StopIteration, and nobody may wait for one for ever."""
    tuner = Tuner(mock(), preset=SMALL, optimizer=lambda d, seed: _Exhausted(d, population=8, sigma0=1.0, seed=seed))
    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await tuner.fit(TRAIN)


class _Short(RandomSearch):
    """A search that has three generations and no more."""

    def ask(self, extra: int = 0) -> Batch:
        batch = super().ask(extra)
        if batch.generation == 3:
            raise _Broken("no fourth generation")
        return batch


@pytest.mark.parametrize(("evaluations", "ends"), [(24, True), (32, False)])
async def test_a_search_without_another_generation_ends_only_who_comes_to_it(evaluations: int, ends: bool) -> None:
    """It is asked for the next one as soon as it is told, also by a run whose budget has ended."""
    tuner = Tuner(
        mock(),
        budget=Budget(evaluations=evaluations),
        preset=SMALL,
        optimizer=lambda d, seed: _Short(d, population=8, sigma0=1.0, seed=seed),
    )
    if ends:
        assert ("budget", 24) == ((result := await tuner.fit(TRAIN)).stopped, result.evaluations)
    else:
        with pytest.raises(_Broken, match="no fourth generation"):
            await tuner.fit(TRAIN)


async def test_a_listener_that_breaks_ends_the_group() -> None:
    """It is the caller's own, and no run's; what was sent is booked."""

    def heard(name: str, event: Event) -> None:
        if name == "two" and isinstance(event, GenerationDone) and event.generation == 1:
            raise _Broken(name)

    budget = Budget(evaluations=8 * 20)
    group = TunerGroup(budget=budget)
    group.add("one", mock(), TRAIN, preset=SMALL)
    group.add("two", mock(), TRAIN, preset=SMALL)
    with pytest.raises(_Broken, match="two"):
        await group.fit(on_event=heard)
    assert 0 == budget.pending.evaluations
    assert 8 * 3 <= budget.posted.evaluations


async def test_where_all_fail_the_first_error_is_raised() -> None:
    """It says of the others, too."""
    group = TunerGroup(budget=Budget(evaluations=10))
    group.add("first", mock(), TRAIN, preset=SMALL)
    group.add("second", mock(), TRAIN, preset=SMALL)
    with pytest.raises(BudgetTooSmall) as raised:
        await group.fit()
    assert ["'first'" in note for note in raised.value.__notes__] == [True, False]
    assert "second: " in raised.value.__notes__[1]


async def test_of_many_failures_some_are_noted() -> None:
    """A thousand lines help nobody."""
    group = TunerGroup(budget=Budget(evaluations=10))
    for number in range(30):
        group.add(f"run-{number}", mock(), TRAIN, preset=SMALL)
    with pytest.raises(BudgetTooSmall) as raised:
        await group.fit()
    assert 12 == len(raised.value.__notes__)
    assert "and 19 more" == raised.value.__notes__[-1]


async def test_what_makes_no_sense_is_refused_at_once() -> None:
    """Names, priorities and data are checked when a run is added."""
    group = TunerGroup(budget=Budget(evaluations=80))
    group.add("one", mock(), TRAIN, preset=SMALL)
    for name, priority in (
        ("one", 1.0),
        ("", 1.0),
        ("a/b", 1.0),
        ("..", 1.0),
        ("x", 0.0),
        ("x", float("inf")),
        ("x", -1),
    ):
        with pytest.raises(ValueError, match=r"run|priority"):
            group.add(name, mock(), TRAIN, preset=SMALL, priority=priority)
    with pytest.raises(ValueError, match="test set, and there is none"):
        group.add("x", mock(), TRAIN, DEV, preset=SMALL, compare_manual=True)
    for name, priority, named in (
        (7, 1.0, "name is a string.* 7 of int"),
        (None, 1.0, "name is a string.*None of NoneType"),
        ("x", "high", "priority is a finite number above 0.*'high' of str"),
        ("x", None, "priority is a finite number above 0.*None of NoneType"),
        ("x", True, "priority is a finite number above 0.*True of bool"),
    ):
        with pytest.raises(TypeError, match=named):
            group.add(name, mock(), TRAIN, preset=SMALL, priority=priority)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"journals is the path of a folder.* 7 of int"):
        TunerGroup(budget=Budget(), journals=7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dev set"):
        group.add("x", mock(), TRAIN, [("text", 0)], preset=SMALL)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="budget"):
        TunerGroup(budget=80)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no runs"):
        await TunerGroup(budget=Budget(evaluations=80)).fit()


async def test_stop_ends_all_of_them() -> None:
    """Those who wait for a turn or for more as well as those who are at work; what they have found is returned."""
    group = TunerGroup(budget=Budget(evaluations=8 * 300))
    for number in range(3):
        group.add(f"run-{number}", mock(), TRAIN, DEV, test=TEST, preset=SMALL, priority=0.01 if number == 0 else 1)

    def heard(name: str, event: Event) -> None:
        if name == "run-1" and isinstance(event, GenerationDone) and event.generation == 50:
            group.stop()

    result = await group.fit(on_event=heard)
    assert {"interrupted"} == {run.stopped for run in result.values()}
    assert 1 == generations(result)["run-0"]
    assert 51 == generations(result)["run-1"]


def test_stop_is_heard_by_those_who_wait_for_a_turn() -> None:
    """Ten on one place: each does the generation that it is at, and none another one."""

    async def run() -> tuple[GroupResult, float]:
        group = TunerGroup(budget=Budget(evaluations=8 * 1000))
        backend = mock(latency_s=60.0, limits=Limits(concurrency=1))
        for number in range(10):
            group.add(f"run-{number}", backend, TRAIN, preset=SMALL)
        asyncio.get_running_loop().call_later(1000, group.stop)
        return await group.fit(), asyncio.get_running_loop().time()

    result, ended_s = run_virtual(run())
    assert {"interrupted"} == {one.stopped for one in result.values()}
    assert (16, 1010) == (sum(generations(result).values()), pytest.approx(ended_s, abs=1))


async def test_cancelling_leaves_no_task_and_nothing_pending() -> None:
    """Wherever the runs are."""
    before = asyncio.all_tasks()
    budget, backend = Budget(evaluations=8 * 1000), mock(latency_s=0.005, limits=Limits(concurrency=2))
    group = TunerGroup(budget=budget)
    for number in range(6):
        group.add(f"run-{number}", backend, TRAIN, preset=SMALL)
    reached = asyncio.Event()

    def heard(name: str, event: Event) -> None:
        if isinstance(event, GenerationDone) and event.generation == 3:
            reached.set()

    task = asyncio.create_task(group.fit(on_event=heard))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (before, 0) == (asyncio.all_tasks(), budget.pending.calls)


def test_a_quota_is_shared_by_priority() -> None:
    """Three runs on one backend of 60 requests a minute: after ten minutes 1:2:4, and no request was refused."""

    async def run() -> tuple[Counter[str], MockBackend]:
        backend = mock(latency_s=0.5, limits=Limits(requests_per_minute=60))
        group = TunerGroup(budget=Budget(evaluations=8 * 7000))
        for name, priority in (("a", 1), ("b", 2), ("c", 4)):
            group.add(name, backend, TRAIN, preset=SMALL, priority=priority)
        done: Counter[str] = Counter()

        def heard(name: str, event: Event) -> None:
            done[name] += isinstance(event, GenerationDone)

        asyncio.get_running_loop().call_later(600, group.stop)
        await group.fit(on_event=heard)
        return done, backend

    done, backend = run_virtual(run())
    assert [done[name] for name in "abc"] == pytest.approx([600 / 7, 1200 / 7, 2400 / 7], rel=0.05)
    assert 0 == backend.book.limited


def test_many_small_runs() -> None:
    """100 runs on one backend end with all of their generations."""

    async def run() -> GroupResult:
        backend = mock(latency_s=1.0, limits=Limits(requests_per_minute=3000, concurrency=50))
        group = TunerGroup(budget=Budget(evaluations=8 * 3 * 100))
        for number in range(100):
            group.add(f"run-{number}", backend, TRAIN, preset=SMALL, seed=number)
        return await group.fit()

    assert {3} == set(generations(run_virtual(run())).values())


def test_time_that_ends_leaves_those_who_wait_for_more_their_test() -> None:
    """One that has come to its end does not wait so long for the others that no time is left for what comes after."""

    async def run() -> tuple[GroupResult, float]:
        clock = asyncio.get_running_loop().time
        group = TunerGroup(budget=Budget(evaluations=8 * 1000, wall_s=500, clock=clock))
        group.add("early", mock(latency_s=1.0), TRAIN, DEV, test=TEST, preset=SMALL, priority=0.01)
        group.add("late", mock(latency_s=1.0), TRAIN, DEV, test=TEST, preset=SMALL)
        return await group.fit(), clock()

    result, ended_s = run_virtual(run())
    assert 490 < ended_s <= 500
    assert 9 == generations(result)["early"]
    assert None not in {one.test for one in result.values()}


async def test_predictions_are_paid_from_what_is_left() -> None:
    """Shares end with the runs."""
    budget = Budget(evaluations=80, calls=100)
    group = TunerGroup(budget=budget)
    group.add("one", mock(), TRAIN, preset=SMALL)
    group.add("two", mock(), TRAIN, preset=SMALL)
    result = await group.fit()
    for number in range(60):
        await result["one"].predict([f"a lovely thing, number {number}"])
    assert 70 == budget.posted.calls


@given(
    total=st.integers(-(10**12), 10**12),
    priorities=st.lists(st.fractions(min_value="1/100", max_value=100), min_size=1, max_size=30),
)
def test_parts_add_up(total: int, priorities: list) -> None:  # type: ignore[type-arg]
    """Each is its exact part to less than one, and nothing is lost."""
    parts = split(total, priorities)
    assert total == sum(parts)
    assert all(abs(part - total * one / sum(priorities)) < 1 for part, one in zip(parts, priorities, strict=True))
