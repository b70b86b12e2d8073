"""Several runs go on from their journals."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from test_resume import Dying, _Killed
from tuning_cases import DEV, SMALL, TEST, TRAIN, mock

from lmaas_sdk import Budget, GenerationDone, GroupResult, TunerGroup, open_ledger
from lmaas_sdk.errors import JournalCorrupt, JournalMismatch
from lmaas_sdk.tuning.events import Event

EARLY = {"preset": replace(SMALL, dev_every=2), "target": 0.0}  # ends after two generations
EVALUATIONS = 8 * 40


def group_of(backend: object, *, budget: Budget, journals: Path | None, **first: object) -> TunerGroup:
    """Three runs; what is given is for the first of them."""
    group = TunerGroup(budget=budget, journals=journals)
    for seed, priority in ((1, 1), (2, 1), (3, 2)):
        settings = {"preset": SMALL, "seed": seed} | (first if seed == 1 else {})
        group.add(f"seed-{seed}", backend, TRAIN, DEV, test=TEST, priority=priority, **settings)  # type: ignore[arg-type]
    return group


async def undisturbed(**first: object) -> GroupResult:
    return await group_of(mock(), budget=Budget(evaluations=EVALUATIONS), journals=None, **first).fit()


def cores(result: GroupResult) -> dict[str, tuple[bytes, object]]:
    return {name: (run.core.to_bytes(), run.test) for name, run in result.items()}


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("at", [0, 2, 17, 33, 43, 45])
async def test_runs_that_were_killed_end_as_if_they_were_not(at: int, answers: bool, tmp_path: Path) -> None:
    """The same program, started again: cores, tests and the bill are those of runs that nobody disturbed."""
    expected, inner = await undisturbed(), mock()
    folder = tmp_path / "runs"
    with pytest.raises((_Killed, BaseExceptionGroup)):
        await group_of(Dying(inner, at, answers=answers), budget=Budget(evaluations=EVALUATIONS), journals=folder).fit()
    budget = Budget(evaluations=EVALUATIONS)
    result = await group_of(inner, budget=budget, journals=folder).fit()
    assert cores(expected) == cores(result)
    assert expected.spent.tokens == inner.book.tokens == result.spent.tokens == budget.posted.tokens
    assert EVALUATIONS == budget.posted.evaluations
    assert [one.tokens for one in expected.spend.values()] == [one.tokens for one in result.spend.values()]


@pytest.mark.parametrize("at", [2, 33, 45])
async def test_a_ledger_file_has_what_was_spent_already(at: int, tmp_path: Path) -> None:
    """It is counted once, and shares are what they were."""
    expected, inner, file = await undisturbed(), mock(), tmp_path / "ledger"
    async with open_ledger(file) as ledger:
        budget = Budget(evaluations=EVALUATIONS, ledger=ledger)
        with pytest.raises((_Killed, BaseExceptionGroup)):
            await group_of(Dying(inner, at), budget=budget, journals=tmp_path).fit()
    async with open_ledger(file) as ledger:
        budget = Budget(evaluations=EVALUATIONS, ledger=ledger)
        result = await group_of(inner, budget=budget, journals=tmp_path).fit()
        assert cores(expected) == cores(result)
        assert expected.spent.tokens == inner.book.tokens == result.spent.tokens == budget.posted.tokens


@pytest.mark.parametrize("at", [5, 15, 30, 40, 43])
async def test_what_one_had_of_another_is_counted_once(at: int, tmp_path: Path) -> None:
    """The first run ends early and the others have its rest: resumed, they keep it, and no more is spent in all."""
    inner = mock()
    with pytest.raises((_Killed, BaseExceptionGroup)):
        await group_of(Dying(inner, at), budget=Budget(evaluations=EVALUATIONS), journals=tmp_path, **EARLY).fit()
    budget = Budget(evaluations=EVALUATIONS)
    result = await group_of(inner, budget=budget, journals=tmp_path, **EARLY).fit()
    assert ["target", "budget", "budget"] == [run.stopped for run in result.values()]
    assert EVALUATIONS - 8 < budget.posted.evaluations <= EVALUATIONS
    assert inner.book.tokens == budget.posted.tokens
    again = await group_of(inner, budget=Budget(evaluations=EVALUATIONS), journals=tmp_path, **EARLY).fit()
    assert (cores(result), budget.posted.tokens) == (cores(again), inner.book.tokens)


async def test_a_group_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """In the same process, with the same budget, which is charged once."""
    budget, inner = Budget(evaluations=EVALUATIONS), mock()
    group = group_of(inner, budget=budget, journals=tmp_path)

    def heard(name: str, event: Event) -> None:
        if isinstance(event, GenerationDone) and event.generation == 4:
            group.stop()

    stopped = await group.fit(on_event=heard)
    assert {"interrupted"} == {run.stopped for run in stopped.values()}
    result = await group.fit()
    expected = await undisturbed()
    assert cores(expected) == cores(result)
    assert expected.spent.tokens == inner.book.tokens == budget.posted.tokens
    again = await group_of(inner, budget=Budget(evaluations=EVALUATIONS), journals=tmp_path).fit()
    assert (cores(expected), expected.spent.tokens) == (cores(again), inner.book.tokens)


async def test_a_larger_budget_goes_further(tmp_path: Path) -> None:
    """Each by its part."""
    inner = mock()
    before = await group_of(inner, budget=Budget(evaluations=EVALUATIONS), journals=tmp_path).fit()
    result = await group_of(inner, budget=Budget(evaluations=2 * EVALUATIONS), journals=tmp_path).fit()
    assert [10, 10, 20] == [len(run.generations) for run in before.values()]
    assert [20, 20, 40] == [len(run.generations) for run in result.values()]


async def test_a_journal_of_no_use_ends_its_own_run_only(tmp_path: Path) -> None:
    """One is damaged, one is of another run; and what the damaged one's run may have spent is spent by nobody else."""
    inner, budget = mock(), Budget(evaluations=EVALUATIONS)
    await group_of(inner, budget=Budget(evaluations=EVALUATIONS), journals=tmp_path).fit()
    path = tmp_path / "seed-2.journal"
    content = await asyncio.to_thread(path.read_bytes)
    await asyncio.to_thread(path.write_bytes, content.replace(b"told", b"Told", 1))
    result = await group_of(inner, budget=budget, journals=tmp_path, seed=9).fit()
    assert ["seed-3"] == list(result)
    assert [JournalMismatch, JournalCorrupt] == [type(error) for error in result.failures.values()]
    assert budget.posted.evaluations <= EVALUATIONS * 3 / 4
