"""Benchmarks: what is done is not paid again, what was interrupted goes on, and one failure stops nobody else."""

from __future__ import annotations

import asyncio
import math
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_cases import (
    CALIBRATED,
    DATA,
    EVALUATIONS,
    MANUAL,
    SEARCH,
    SEEDS,
    HookedMock,
    cells,
    measured,
    records,
)
from tuning_cases import SMALL, TEST, examples, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import (
    PRESETS,
    AuthenticationFailed,
    Budget,
    Dataset,
    FeatureQuery,
    FeatureReply,
    JournalCorrupt,
    JournalMismatch,
    NotFinite,
    Predictor,
    RunFileError,
    ScoreQuery,
    ScoreReply,
    TaskError,
    Tuner,
    open_ledger,
    verify_ledger,
)
from lmaas_sdk.bench import (
    Benchmark,
    BenchReport,
    Configuration,
    ResultsFile,
    Setup,
    TaskData,
    black_box,
    open_results,
)
from lmaas_sdk.bench.measuring import unpacked
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.methods import FeatureLinear, ManualPredictor, ManualPrompt, TrainingRecord

TIMES = {"wall_s", "cpu_s", "fit_s", "search_s", "began_at", "sessions", "environment", "key"}
SPENT = {"spend", "spend_of_fit", "unknown_outcomes"}


def journals(folder: Path) -> int:
    return len(list((folder / "work").glob("*.journal")))


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in TIMES}


async def test_a_cell_is_what_its_method_finds(tmp_path: Path) -> None:
    """The record has the metric, every prediction, the budget and the spend of the run that the tuner makes."""
    await measured(tmp_path, mock(), [SEARCH], seeds=[1])
    (record,) = await records(tmp_path)
    train, dev = DATA.drawn(1)
    result = await Tuner(mock(), budget=Budget(evaluations=EVALUATIONS), preset=SMALL, seed=1).fit(train, dev)
    logits = await result.predictor.logits(DATA.test.fields)
    found = await result.evaluate(DATA.test)
    assert unpacked(record["test"]["predictions"]).tolist() == logits.argmax(axis=1).tolist()
    assert unpacked(record["test"]["labels"]).tolist() == DATA.test.labels.tolist()
    assert (record["test"]["value"], record["test"]["interval"]) == (found.value, list(found.interval or ()))
    assert (record["stopped"], record["evaluations"], record["evaluations_limit"]) == ("budget", 40, 40)
    assert record["spend_of_fit"]["train"]["evaluations"] == 40
    assert record["spend"]["test"]["calls"] == 1
    assert record["rows"] == {"train": 8, "dev": 8, "test": 30}
    assert result.choice.dev is not None
    assert record["dev"]["value"] == result.choice.dev.value
    assert record["test"]["majority_rate"] == 0.5
    assert record["environment"]["fingerprint"] == mock().card.fingerprint


async def test_every_kind_of_cell_says_the_same_things(tmp_path: Path) -> None:
    """One that searches nothing, too."""
    await measured(tmp_path, mock(), [MANUAL, CALIBRATED, SEARCH], seeds=[1])
    manual, calibrated, search = await records(tmp_path)
    assert manual.keys() == calibrated.keys()
    assert search.keys() - manual.keys() == {
        "chosen_by",
        "choice",
        "found_at",
        "dev_curve",
        "search_s",
        "warnings",
    }
    found = await Predictor.manual(mock(), DATA.task).evaluate(DATA.test)
    assert (manual["test"]["value"], manual["seed"], manual["evaluations"]) == (found.value, None, 0)
    assert (calibrated["seed"], calibrated["spend_of_fit"]["probe"]["calls"]) == (1, 1)


async def test_what_is_done_is_not_paid_again(tmp_path: Path) -> None:
    """A plan that grows costs what is new in it."""
    first, second = mock(), mock()
    await measured(tmp_path, first, [SEARCH], seeds=[1])
    ended = await measured(tmp_path, second, [MANUAL, SEARCH], seeds=[1])
    assert [one.cell.row for one in ended] == ["manual"]
    assert (second.book.attempts, len(await records(tmp_path))) == (2, 2)


@pytest.mark.parametrize("at", [1, 3, 6])
async def test_an_interrupted_cell_goes_on(tmp_path: Path, at: int) -> None:
    """To the same record as one that nobody interrupted, and with less to pay; its journal goes when it is done."""
    whole, parts, later = tmp_path / "whole", tmp_path / "parts", mock()
    for folder in (whole, parts):
        await asyncio.to_thread(folder.mkdir)
    async with open_results(parts / "results.jsonl") as results:
        backend = HookedMock(at, lambda: bench.stop())  # noqa: PLW0108  (it is not there yet)
        bench = Benchmark(backend, results, work=parts / "work")
        ended = await bench.run(cells(backend.card, seeds=SEEDS))
    assert [one.status for one in ended] == ["interrupted"]
    assert await asyncio.to_thread(journals, parts) == 1
    assert [one.status for one in await measured(parts, later)] == ["done", "done"]
    uninterrupted = mock()
    await measured(whole, uninterrupted)
    assert [*map(without_times, (await records(parts))[1:])] == [*map(without_times, (await records(whole)))]
    assert later.book.tokens + backend.book.tokens == uninterrupted.book.tokens
    assert ((await records(parts))[1]["sessions"], await asyncio.to_thread(journals, parts)) == (2, 0)


async def test_a_cell_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Nothing says that it was begun but its journal, from which it comes to the same, and pays for the rest."""
    async with open_results(tmp_path / "results.jsonl") as results:
        backend = HookedMock(4, lambda: task.cancel())  # noqa: PLW0108  (it is not there yet)
        bench = Benchmark(backend, results, work=tmp_path / "work")
        task = asyncio.create_task(bench.run(cells(backend.card, seeds=[1])))
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await records(tmp_path), await asyncio.to_thread(journals, tmp_path)) == ([], 1)
    later, whole = mock(), mock()
    await measured(tmp_path, later, seeds=[1])
    (resumed,) = await records(tmp_path)
    await asyncio.to_thread((tmp_path / "results.jsonl").unlink)
    await measured(tmp_path, whole, seeds=[1])
    (uninterrupted,) = await records(tmp_path)
    assert resumed["test"] == uninterrupted["test"]
    assert resumed["choice"] == uninterrupted["choice"]
    assert later.book.tokens < whole.book.tokens


async def begun(folder: Path) -> Path:
    """The journal of a cell that was killed."""
    async with open_results(folder / "results.jsonl") as results:
        backend = HookedMock(4, lambda: task.cancel())  # noqa: PLW0108  (it is not there yet)
        bench = Benchmark(backend, results, work=folder / "work")
        task = asyncio.create_task(bench.run(cells(backend.card, seeds=[1])))
        with pytest.raises(asyncio.CancelledError):
            await task
    (journal,) = await asyncio.to_thread(lambda: list((folder / "work").glob("*.journal")))
    return journal


async def test_a_journal_of_another_machinery_is_kept(tmp_path: Path) -> None:
    """Until whoever paid for it goes on by what began it, or says that changes do not matter."""
    journal = await begun(tmp_path)
    other = mock()
    other.card = replace(other.card, fingerprint="another engine")
    (ended,) = await measured(tmp_path, other, seeds=[1])
    assert (ended.status, type(ended.error)) == ("failed", JournalMismatch)
    assert await asyncio.to_thread(journal.exists)
    (ended,) = await measured(tmp_path, mock(), seeds=[1])
    assert ended.status == "done"


async def test_a_journal_that_is_damaged_is_dropped(tmp_path: Path) -> None:
    """The cell is on record as failed, and begins anew."""
    journal = await begun(tmp_path)
    content = await asyncio.to_thread(journal.read_bytes)
    await asyncio.to_thread(journal.write_bytes, content.replace(b"\n", b" \n", 1))
    (ended,) = await measured(tmp_path, mock(), seeds=[1])
    assert (ended.status, type(ended.error)) == ("failed", JournalCorrupt)
    (ended,) = await measured(tmp_path, mock(), seeds=[1])
    assert ended.status == "done"


async def test_a_slice_that_is_over_begins_nothing(tmp_path: Path) -> None:
    """Not even its first cell, where it has no time at all."""
    async with open_results(tmp_path / "results.jsonl") as results:
        bench = Benchmark(mock(), results, work=tmp_path / "work")
        bench.stop()
        assert await bench.run(cells(mock().card)) == []


@pytest.mark.parametrize("failure", [TaskError("no such luck"), AttributeError("a slip of the pen")])
async def test_a_failure_stops_nobody_else(tmp_path: Path, failure: Exception) -> None:
    """Whatever it is, it is on record, and tried again next time."""
    failing = True

    def make(setup: Setup) -> ManualPrompt:
        if failing:
            raise failure
        return ManualPrompt(setup.backend, budget=setup.budget)

    unlucky = Configuration("unlucky", "Unlucky", "unlucky", make, is_seeded=False)
    ended = await measured(tmp_path, mock(), [unlucky, MANUAL])
    assert [(one.cell.row, one.status, type(one.error)) for one in ended] == [
        ("unlucky", "failed", type(failure)),
        ("manual", "done", type(None)),
    ]
    assert [record["error"] for record in (await records(tmp_path))] == [f"{type(failure).__name__}: {failure}", None]
    failing = False
    ended = await measured(tmp_path, mock(), [unlucky, MANUAL])
    assert [(one.cell.row, one.status) for one in ended] == [("unlucky", "done")]


async def test_a_test_row_without_a_number_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cell has failed, in place of a metric over labels that nobody chose."""
    real = ManualPredictor.score

    async def score(predictor: ManualPredictor, items: Any, purpose: Any) -> Any:
        logits, shortened = await real(predictor, items, purpose)
        return (np.full_like(logits, np.nan) if purpose == "test" else logits), shortened

    monkeypatch.setattr(ManualPredictor, "score", score)
    (ended,) = await measured(tmp_path, mock(), [MANUAL])
    assert (ended.status, type(ended.error)) == ("failed", NotFinite)


@pytest.mark.parametrize(("wait_s", "begun"), [(math.inf, 2), (60.0, 1)])
async def test_a_call_that_no_quota_ever_admits_is_its_cells_own_failure(
    tmp_path: Path, wait_s: float, begun: int
) -> None:
    """The others are measured; but where a quota is used up for now, none is begun."""

    def make(setup: Setup) -> ManualPrompt:
        raise QuotaExceeded("the call is too large", wait_s=wait_s)

    large = Configuration("large", "Large", "large", make, is_seeded=False)
    assert len(await measured(tmp_path, mock(), [large, MANUAL])) == begun


async def test_a_backend_that_fails_for_good_leaves_the_journal(tmp_path: Path) -> None:
    """What was answered before is not paid again."""

    def fail() -> None:
        raise AuthenticationFailed("the key is no longer good")

    failing, later, whole = HookedMock(4, fail), mock(), mock()
    (ended,) = await measured(tmp_path, failing, seeds=[1])
    assert (ended.status, type(ended.error), await asyncio.to_thread(journals, tmp_path)) == (
        "failed",
        AuthenticationFailed,
        1,
    )
    (ended,) = await measured(tmp_path, later, seeds=[1])
    assert (ended.status, ended.record["sessions"]) == ("done", 2)
    await asyncio.to_thread((tmp_path / "results.jsonl").unlink)
    await measured(tmp_path, whole, seeds=[1])
    assert failing.book.tokens + later.book.tokens == whole.book.tokens


async def test_all_spend_from_one_budget(tmp_path: Path) -> None:
    """Each through a child of its own; what is cut short does not count as done, and goes on to the same result."""
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    for folder in (parts, whole):
        await asyncio.to_thread(folder.mkdir)
    budget = Budget(evaluations=60)
    ended = await measured(parts, mock(), budget=budget)
    assert [(one.status, one.record["evaluations"]) for one in ended] == [("done", 40), ("cut", 16)]
    assert budget.posted.evaluations == 56
    more = mock()
    ended = await measured(parts, more, budget=Budget(evaluations=60))
    assert [(one.status, one.cell.seed, one.record["sessions"]) for one in ended] == [("done", 2, 2)]
    await measured(whole, mock())
    assert without_times((await records(parts))[-1])["choice"] == (await records(whole))[-1]["choice"]
    assert (await records(parts))[-1]["test"] == (await records(whole))[-1]["test"]


async def test_a_budget_that_pays_for_nothing_is_a_failure(tmp_path: Path) -> None:
    """And nothing else is begun."""
    ended = await measured(tmp_path, mock(), budget=Budget(evaluations=4))
    assert [(one.status, type(one.error).__name__) for one in ended] == [("failed", "BudgetTooSmall")]


async def test_evaluations_too_few_for_a_search_are_its_own_failure(tmp_path: Path) -> None:
    """Nothing is spent of what all share, and the others go on, in this slice as in the next one."""
    poor = replace(SEARCH, evaluations=4)
    for left in ([MANUAL, CALIBRATED], []):
        budget = Budget(evaluations=60)
        ended = await measured(tmp_path, mock(), [poor, MANUAL, CALIBRATED], budget=budget, seeds=[1])
        assert [(one.cell.row, one.status, type(one.error).__name__) for one in ended] == [
            ("black-box:small@4", "failed", "BudgetTooSmall"),
            *((one.name, "done", "NoneType") for one in left),
        ]
        assert (budget.posted.evaluations, [one.ends_all for one in ended]) == (0, [False] * len(ended))


async def test_a_head_that_wall_time_ends_is_cut(tmp_path: Path) -> None:
    """It has predictions, and is not done: it begins anew when there is more time, and nothing else does before."""
    now_s = 0.0

    class Slow(MockBackend):
        async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
            nonlocal now_s
            now_s = 1 - 1e-9
            return await super().features(query, key=key)

    def make(setup: Setup) -> FeatureLinear:
        return FeatureLinear(setup.backend, epochs=3, seed=setup.seed, **setup.connection)

    plan = [Configuration("head", "Head", "feature-linear", make), MANUAL]
    budget = Budget(wall_s=1, clock=lambda: now_s)
    ended = await measured(tmp_path, Slow(), plan, seeds=[1], budget=budget)
    assert [(one.cell.row, one.status, one.record["stopped"]) for one in ended] == [("head", "cut", "budget")]
    ended = await measured(tmp_path, mock(), plan, seeds=[1])
    assert [(one.cell.row, one.status, one.record["stopped"]) for one in ended] == [
        ("head", "done", "done"),
        ("manual", "done", "done"),
    ]


@pytest.mark.parametrize(("stopped", "status"), [("done", "done"), ("plateau", "done"), ("budget", "cut")])
async def test_a_training_that_wall_time_ends_is_cut(tmp_path: Path, stopped: Any, status: str) -> None:
    """As its record says."""

    class Trained(ManualPredictor):
        training = TrainingRecord(3, 6, 60, (1.0, 0.9, 0.8), chosen=3, dev=None, stopped=stopped)

    class Training(ManualPrompt):
        async def fit(self, train: Dataset, dev: Dataset | None = None, **more: Any) -> ManualPredictor:
            made = await super().fit(train, dev, **more)
            return Trained(made.client, made.task)

    plan = Configuration("trained", "Trained", "trained", lambda setup: Training(setup.backend, **setup.connection))
    (ended,) = await measured(tmp_path, mock(), [plan], seeds=[1])
    assert (ended.status, ended.record["training"]["stopped"], ended.ends_all) == (status, stopped, status == "cut")


async def test_a_ledger_file_has_every_cell(tmp_path: Path) -> None:
    """What an earlier try has spent is not taken from a new one's share; one that goes on has its own."""
    found = []
    for limit in (64, 64, 90):
        async with open_ledger(tmp_path / "ledger.db") as ledger:
            budget = Budget(evaluations=limit, name=f"bench {limit}", ledger=ledger)
            (ended,) = await measured(tmp_path, mock(), budget=budget, seeds=[1], evaluations=EVALUATIONS)
            found.append((ended.status, ended.record["evaluations"], budget.posted.evaluations))
        if len(found) == 1:  # as if it had never been
            await asyncio.to_thread((tmp_path / "results.jsonl").unlink)
    assert found == [("done", 40, 40), ("cut", 24, 64), ("done", 40, 16)]
    assert (await asyncio.to_thread(verify_ledger, tmp_path / "ledger.db")).is_right


class DyingMock(MockBackend):
    """At one of its scorings it puts into a folder what a process that is killed then leaves in another."""

    def __init__(self, folder: Path, then: Path, account: str, *, at: int = 3) -> None:
        super().__init__()
        self.account, self._scorings, self._at = account, 0, at  # as of a backend behind a URL
        self._left_behind = partial(leave_behind, folder, then)

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        self._scorings += 1
        if self._scorings == self._at:
            await asyncio.to_thread(self._left_behind)
        return await super().score(query, key=key)


def leave_behind(folder: Path, then: Path) -> None:
    """The ledger, if there is one, and the journals of what is under way."""
    then.mkdir()
    shutil.copytree(folder / "work", then / "work")
    if not (folder / "ledger.db").exists():
        return
    with (
        closing(sqlite3.connect(folder / "ledger.db")) as ledger,
        closing(sqlite3.connect(then / "ledger.db")) as copy,
    ):
        ledger.backup(copy)


@pytest.mark.parametrize("kills", [1, 2])
@pytest.mark.parametrize(("account", "lost"), [("", 0), ("a server that knows no key", 8)])
async def test_what_a_killed_try_lost_is_not_taken_from_its_cell(
    tmp_path: Path, account: str, lost: int, kills: int
) -> None:
    """The budget of all pays for a loss; the search is as it would have been, and other cells are measured."""
    found = []
    for number in range(kills + 1):
        folder, then = tmp_path / str(number), tmp_path / str(number + 1)
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        backend = DyingMock(folder, then, f"{account} {number}" if account else "")
        async with open_ledger(folder / "ledger.db") as ledger:
            budget = Budget(evaluations=100, name="bench", ledger=ledger)
            ended = await measured(folder, backend, [SEARCH, MANUAL], budget=budget, seeds=[1])
        assert [(one.status, one.record["evaluations"]) for one in ended] == [("done", EVALUATIONS), ("done", 0)]
        spent = ended[0].record["spend"]["total"]["evaluations"]
        assert (spent, budget.posted.evaluations) == (EVALUATIONS + number * lost,) * 2
        assert ended[0].record["unknown_outcomes"] == (number if lost else 0)
        assert (await asyncio.to_thread(verify_ledger, folder / "ledger.db")).is_right
        found.append({name: value for name, value in without_times(ended[0].record).items() if name not in SPENT})
    assert all(one == found[0] for one in found)


async def test_a_cell_whose_own_evaluations_are_used_up_is_done(tmp_path: Path) -> None:
    """Those that were lost count, where nothing but memory holds the spend and a repeated call is billed again."""
    folders = tmp_path / "killed", tmp_path / "after"
    await asyncio.to_thread(folders[0].mkdir)
    for folder, then in pairwise([*folders, tmp_path / "last"]):
        backend = DyingMock(folder, then, "")
        backend.card = replace(backend.card, capabilities=replace(backend.card.capabilities, idempotent=False))
        ended = await measured(folder, backend, [SEARCH, MANUAL], seeds=[1])
        assert [one.status for one in ended] == ["done", "done"]
    first, last = [await records(folder) for folder in folders]
    assert (first[0]["evaluations"], last[0]["evaluations"], last[0]["unknown_outcomes"]) == (40, 32, 1)


async def test_a_cell_that_failed_goes_on_in_the_same_process(tmp_path: Path) -> None:
    """On the same budget in memory, and pays for nothing again."""

    def refuse() -> None:
        raise AuthenticationFailed("the key is not known")

    backend, uninterrupted = HookedMock(3, refuse), mock()
    async with open_results(tmp_path / "results.jsonl") as results:
        bench = Benchmark(backend, results, work=tmp_path / "work")
        plan = cells(backend.card, seeds=[1])
        ended = [one.status for _ in range(2) for one in await bench.run(plan)]
    (tmp_path / "other").mkdir()
    await measured(tmp_path / "other", uninterrupted, seeds=[1])
    assert ended == ["failed", "done"]
    assert backend.book.tokens == uninterrupted.book.tokens


async def test_a_ledger_file_takes_over_what_memory_began(tmp_path: Path) -> None:
    """A search that goes on in it twice makes no more evaluations than its own."""
    found, benches = [], list[Benchmark]()

    def stop() -> None:
        benches[-1].stop()

    for at in (3, 3, 100):
        async with open_ledger(tmp_path / "ledger.db") as ledger, open_results(tmp_path / "results.jsonl") as results:
            budget = Budget(evaluations=200, name="bench", ledger=ledger) if found else None
            backend = HookedMock(at, stop)
            benches.append(Benchmark(backend, results, work=tmp_path / "work", budget=budget))
            (ended,) = await benches[-1].run(cells(backend.card, seeds=[1]))
            found.append((ended.status, ended.record.get("evaluations")))
    assert found == [("interrupted", None), ("interrupted", None), ("done", EVALUATIONS)]


async def test_a_raced_search_goes_on_exactly(tmp_path: Path) -> None:
    """What is left of its evaluations is counted in parts of one."""
    raced = black_box(replace(SMALL, name="raced", racing="on"))
    data = TaskData(examples(0, 80), TEST, shots=12)
    found = []
    for number in range(2):
        folder, then = tmp_path / str(number), tmp_path / str(number + 1)
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        backend = DyingMock(folder, then, "", at=7)
        async with open_ledger(folder / "ledger.db") as ledger:
            budget = Budget(evaluations=100, name="bench", ledger=ledger)
            (ended,) = await measured(folder, backend, [raced], budget=budget, seeds=[1], evaluations=26, tasks=[data])
        found.append((ended.status, ended.record["evaluations"]))
    assert found == [("done", 24.5)] * 2


async def test_a_search_that_grew_ends_by_its_own_evaluations(tmp_path: Path) -> None:
    """It is done where nothing is shared, though the generation that did not fit was larger than any before it."""
    grown = black_box(replace(PRESETS["ipop"], name="grown", d=4, prompt_tokens=2, population=4, sigma0=1e-3))
    ended = await measured(tmp_path, mock(), [grown, MANUAL], seeds=[1], evaluations=571)
    assert [(one.status, one.ends_all) for one in ended] == [("done", False)] * 2


async def test_cells_run_side_by_side(tmp_path: Path) -> None:
    """As many as there are jobs, to the same results."""
    one, many = tmp_path / "one", tmp_path / "many"
    for folder in (one, many):
        await asyncio.to_thread(folder.mkdir)
    configurations = [SEARCH, black_box(replace(SMALL, name="other", d=10))]
    await measured(one, mock(), configurations)
    await measured(many, mock(), configurations, jobs=3)
    by_key = [{record["key"]: without_times(record) for record in (await records(folder))} for folder in (one, many)]
    assert by_key[0] == by_key[1]
    assert BenchReport.of(await records(one)).accuracy == BenchReport.of(await records(many)).accuracy


async def test_a_search_that_ended_by_itself_is_known_for_other_budgets(tmp_path: Path) -> None:
    """It would come to the same; one that its budget ended is not, and neither is one that got farther."""
    settled, one, other = black_box(replace(SMALL, plateau=4, dev_every=1)), tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        await asyncio.to_thread(folder.mkdir)
    backend = mock()
    await measured(one, mock(), [settled], seeds=[1], evaluations=400)
    await measured(one, backend, [settled], seeds=[1], evaluations=600)
    await measured(other, mock(), [settled], seeds=[1], evaluations=600)
    (first, known), (run,) = await records(one), await records(other)
    assert (backend.book.attempts, known.pop("known_from")) == (0, first["key"])
    assert (first["stopped"], known["evaluations_limit"]) == ("plateau", 600)
    assert (known["key"], without_times(known)) == (run["key"], without_times(run))
    fewer = int(first["evaluations"]) - 8
    await measured(one, backend, [settled], seeds=[1], evaluations=fewer)
    last = (await records(one))[-1]
    assert (last["stopped"], last["evaluations"], "known_from" in last) == ("budget", fewer, False)
    await measured(one, backend, [settled], seeds=[1], evaluations=fewer - 8)
    assert "known_from" not in (await records(one))[-1]


async def test_a_search_is_not_paid_for_twice_by_two_jobs(tmp_path: Path) -> None:
    """With another budget it waits for the one under way, while others are measured, and is known then."""
    settled, backend = black_box(replace(SMALL, name="settled", plateau=4, dev_every=1)), mock()
    plan = [
        cell for evaluations in (400, 600) for cell in cells(backend.card, [settled, SEARCH], evaluations=evaluations)
    ]
    plan.sort(key=lambda cell: (cell.seed, cell.configuration.name == SEARCH.name))  # so both budgets come together
    async with open_results(tmp_path / "results.jsonl") as results, asyncio.timeout(60):
        await Benchmark(backend, results, work=tmp_path / "work", jobs=3).run(plan)
    found = await records(tmp_path)
    assert Counter((one["configuration"], "known_from" in one) for one in found) == {
        (settled.name, False): len(SEEDS),
        (settled.name, True): len(SEEDS),
        (SEARCH.name, False): 2 * len(SEEDS),
    }
    by_key = {one["key"]: one for one in found}
    same = {"evaluations_limit": None, "known_from": None}
    for one in found:
        if "known_from" in one:
            assert without_times(one) | same == without_times(by_key[one["known_from"]]) | same


@pytest.mark.parametrize("statuses", [["failed", "done"], ["interrupted"]])
async def test_what_waits_for_a_search_that_fails_is_measured(tmp_path: Path, statuses: list[str]) -> None:
    """Nobody is there to know it from; and a slice that ends while it waits begins it no more."""

    def hook() -> None:
        if statuses == ["interrupted"]:
            bench.stop()
        else:
            raise AuthenticationFailed("the key is no longer good")

    backend, settled = HookedMock(4, hook), black_box(replace(SMALL, plateau=4, dev_every=1))
    plan = [cell for most in (400, 600) for cell in cells(backend.card, [settled], seeds=[1], evaluations=most)]
    async with open_results(tmp_path / "results.jsonl") as results, asyncio.timeout(60):
        bench = Benchmark(backend, results, work=tmp_path / "work", jobs=2)
        ended = await bench.run(plan)
    assert [one.status for one in ended] == statuses


async def test_nothing_is_begun_after_a_listener_has_failed(tmp_path: Path) -> None:
    """Nor what had waited for the cell that it was told of."""
    settled, backend = black_box(replace(SMALL, plateau=4, dev_every=1)), mock()
    plan = [cell for most in (400, 600) for cell in cells(backend.card, [settled], seeds=[1], evaluations=most)]

    def listener(_: object) -> None:
        raise RuntimeError("no screen")

    async with open_results(tmp_path / "results.jsonl") as results:
        bench = Benchmark(backend, results, work=tmp_path / "work", jobs=2, on_cell=listener)
        with pytest.raises(RuntimeError, match="no screen"):
            await bench.run(plan)
    assert len(await records(tmp_path)) == 1


async def test_a_search_that_knows_no_plateau_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """It tells nothing of other budgets, so both are measured at once."""
    seen: list[int] = []
    backend = HookedMock(4, lambda: seen.append(len(bench._under_way)))
    plan = [cell for most in (400, 600) for cell in cells(backend.card, [SEARCH], seeds=[1], evaluations=most)]
    async with open_results(tmp_path / "results.jsonl") as results:
        bench = Benchmark(backend, results, work=tmp_path / "work", jobs=2)
        await bench.run(plan)
    assert seen == [2]


@pytest.mark.parametrize("despite_changes", [False, True])
async def test_a_search_that_ended_on_another_engine_is_not_known(tmp_path: Path, despite_changes: bool) -> None:
    """With another budget it is run, on the engine that there is."""
    settled, backend = black_box(replace(SMALL, plateau=4, dev_every=1)), mock()
    await measured(tmp_path, mock(), [settled], seeds=[1], evaluations=400)
    backend.card = replace(backend.card, fingerprint="another engine")
    async with open_results(tmp_path / "results.jsonl") as results:
        bench = Benchmark(backend, results, work=tmp_path / "work", despite_changes=despite_changes)
        await bench.run(cells(backend.card, [settled], seeds=[1], evaluations=600))
    first, run = await records(tmp_path)
    assert (first["stopped"], "known_from" in run, backend.book.attempts > 0) == ("plateau", False, True)
    assert run["environment"]["fingerprint"] == "another engine"


async def test_another_engine_is_told(tmp_path: Path) -> None:
    """Rather than mixed in silence; whoever says so has both, and the tables tell."""
    backend = mock()
    await measured(tmp_path, backend, [MANUAL])
    backend.card = replace(backend.card, fingerprint="another engine")
    with pytest.raises(RunFileError, match=r"measured on another engine: .*this one is another engine"):
        await measured(tmp_path, backend, [MANUAL, SEARCH])
    async with open_results(tmp_path / "results.jsonl") as results:
        bench = Benchmark(backend, results, work=tmp_path / "work", despite_changes=True)
        await bench.run(cells(backend.card, [MANUAL, SEARCH]))
    (note,) = BenchReport.of(await records(tmp_path)).accuracy.notes
    assert note.startswith("measured on 2 engines: ")


def test_there_is_at_least_one_job(tmp_path: Path) -> None:
    """None would never end."""
    with ResultsFile(tmp_path / "results.jsonl") as results, pytest.raises(ValueError, match="1 or more, not 0"):
        Benchmark(mock(), results, work=tmp_path, jobs=0)
