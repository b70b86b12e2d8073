"""A run goes on from its journal as if nothing had happened."""

from __future__ import annotations

import asyncio
import operator
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cmaes
import numpy as np
import pytest
from tuning_cases import DEV, SMALL, TEST, TRAIN, examples, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import AskTell, Budget, Optimizer, Price, ScoreReply, Tuner, TuningResult, open_ledger
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.errors import BudgetTooSmall, JournalCorrupt, JournalError, JournalInUse, JournalMismatch
from lmaas_sdk.tuning.events import Event, GenerationDone, Resumed
from lmaas_sdk.tuning.journal_file import JournalFile

PRESET = replace(SMALL, dev_every=3)
BUDGET = {"evaluations": 80}


class Dying:
    """A backend whose client is gone at an attempt: before it is answered, or after the provider has billed it.

    What a provider keeps by key outlives its clients.
    """

    def __init__(self, inner: MockBackend, at: int | None, *, answers: bool = True) -> None:
        self.inner, self.card = inner, inner.card
        self._at, self._answers = at, answers
        self.asked = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def score(self, query, *, key):  # type: ignore[no-untyped-def]
        self.asked += 1
        if self.asked - 1 == self._at:
            if self._answers:
                await self.inner.score(query, key=key)
            raise _Killed
        reply: ScoreReply = await self.inner.score(query, key=key)
        return reply


class _Killed(BaseException):
    """No code of the run handles it, as none runs after a kill."""


def options(preset: object = PRESET) -> dict[str, object]:
    return {"preset": preset, "seed": 7}


async def fit(tuner: Tuner, **named: object) -> TuningResult:
    return await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True, **named)  # type: ignore[arg-type]


async def undisturbed(**named: object) -> TuningResult:
    return await fit(Tuner(mock(), budget=Budget(**BUDGET), **options(), **named))  # type: ignore[arg-type]


async def resumed(path: Path, backend: object, **named: object) -> Tuner:
    return await asyncio.to_thread(lambda: Tuner.resume(path, backend, **named))  # type: ignore[arg-type]


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize(
    ("at", "most_candidates"),
    [*((at, 64) for at in (0, 1, 5, 10, 13, 14, 15)), *((at, 3) for at in (0, 2, 4, 17, 31, 33, 34, 35))],
)
async def test_a_run_that_was_killed_ends_as_one_that_was_not(
    at: int, most_candidates: int, answers: bool, tmp_path: Path
) -> None:
    """Core, prompt and evaluations are the same bytes; the provider bills every key once, and so do the books."""
    expected, inner = await undisturbed(), mock(max_candidates=most_candidates)
    path = tmp_path / "run.journal"
    with pytest.raises((_Killed, BaseExceptionGroup)):
        await fit(Tuner(Dying(inner, at, answers=answers), budget=Budget(**BUDGET), journal=path, **options()))  # type: ignore[arg-type]
    result = await fit(await resumed(path, inner))
    assert expected.core.to_bytes() == result.core.to_bytes()
    assert expected.prompt.to_bytes() == result.prompt.to_bytes()
    assert (expected.test, expected.manual) == (result.test, result.manual)
    assert expected.spent.tokens == inner.book.tokens == result.spent.tokens
    assert (expected.spent.evaluations, 0) == (result.spent.evaluations, result.spend.unknown_outcomes)


async def journalled(path: Path, backend: MockBackend) -> TuningResult:
    """A run from beginning to end."""
    return await fit(Tuner(backend, budget=Budget(**BUDGET), journal=path, **options()))  # type: ignore[arg-type]


async def test_a_journal_that_ends_anywhere_is_gone_on_with(tmp_path: Path) -> None:
    """Cut after any line, or within one, it leads to the same bytes, and to the same bill."""
    inner, path = mock(max_candidates=4, max_texts=9), tmp_path / "run.journal"
    expected = await journalled(path, inner)
    lines = (await asyncio.to_thread(path.read_bytes)).splitlines(keepends=True)
    assert len(lines) > 80
    for count in range(1, len(lines) + 1, 3):
        part = b"".join(lines[:count]) + (lines[count][: 7 * count % len(lines[count])] if count < len(lines) else b"")
        await asyncio.to_thread(path.write_bytes, part)
        result = await fit(await resumed(path, inner))
        assert expected.core.to_bytes() == result.core.to_bytes()
        assert expected.prompt.to_bytes() == result.prompt.to_bytes()
        assert expected.spent.tokens == inner.book.tokens == result.spent.tokens
        assert [event.spent.evaluations for event in expected.generations] == [
            event.spent.evaluations for event in result.generations
        ]


async def test_a_run_that_has_ended_is_told_again_for_nothing(tmp_path: Path) -> None:
    """Its journal has every answer, the test set's too."""
    inner, path = mock(), tmp_path / "run.journal"
    expected = await journalled(path, inner)
    received = inner.book.received
    result = await fit(await resumed(path, inner))
    assert (expected.core.to_bytes(), received) == (result.core.to_bytes(), inner.book.received)
    assert expected.spend.to_dict() == result.spend.to_dict()
    assert (expected.test, expected.manual, expected.stopped) == (result.test, result.manual, result.stopped)


async def test_a_larger_budget_goes_further(tmp_path: Path) -> None:
    """The curve of the run before is the beginning of the one after."""
    inner, path = mock(), tmp_path / "run.journal"
    before = await journalled(path, inner)
    result = await fit(await resumed(path, inner, budget=Budget(evaluations=160)))
    assert (10, 20) == (len(before.generations), len(result.generations))
    assert before.core.losses == result.core.losses[:10]
    whole = await fit(Tuner(mock(), budget=Budget(evaluations=160), **options()))  # type: ignore[arg-type]
    assert whole.core.losses == result.core.losses


async def test_a_budget_that_is_too_small_for_what_was_spent_says_so(tmp_path: Path) -> None:
    """How much that was, what it allows, and that it counts; nothing is sent, and nothing posted."""
    inner, path = mock(price=Price(1_000_000_000)), tmp_path / "run.journal"
    before = await journalled(path, inner)
    received, money = inner.book.received, format_usd(before.spent.nanousd)
    for limits, said in (
        (
            {"evaluations": 79},
            "allows 79 evaluations: 0 posted.* has spent 80 evaluations before, which counts: .*than",
        ),
        ({"usd": "0.000001"}, rf"allows \$0.000001: .* has spent {re.escape(money)} before, which counts"),
    ):
        budget = Budget(**limits)  # type: ignore[arg-type]
        with pytest.raises(BudgetTooSmall, match=said):
            await fit(await resumed(path, inner, budget=budget))
        assert (Amounts(), Amounts(), received) == (budget.posted, budget.pending, inner.book.received)


async def test_a_budget_of_the_same_process_is_charged_once(tmp_path: Path) -> None:
    """The run goes on with what is left of it, whatever it was interrupted by; so does one below another."""
    inner, above = mock(), Budget(evaluations=100)
    budget = above.child("run", Budget(evaluations=80))
    expected = await undisturbed()

    def breaks(event: Event) -> None:
        if isinstance(event, GenerationDone) and event.generation in (2, 5):
            raise ZeroDivisionError

    tuner = Tuner(inner, budget=budget, journal=tmp_path / "run.journal", **options())  # type: ignore[arg-type]
    for done in (24, 48):
        with pytest.raises(ZeroDivisionError):
            await fit(tuner, on_event=breaks)
        assert (done, done) == (budget.posted.evaluations, above.posted.evaluations)
        tuner = await resumed(tmp_path / "run.journal", inner, budget=budget)
    result = await fit(tuner)
    assert expected.core.to_bytes() == result.core.to_bytes()
    assert expected.spent.tokens == result.spent.tokens == budget.posted.tokens == above.posted.tokens


async def test_a_budget_that_has_a_part_of_the_spend_is_refused(tmp_path: Path) -> None:
    """Gone on with elsewhere, or from below: it is told to be of no use, before anything is counted twice."""
    inner, path, old = mock(), tmp_path / "run.journal", Budget(evaluations=80)
    await fit(Tuner(inner, budget=old, journal=path, **options()))  # type: ignore[arg-type]
    await fit(await resumed(path, inner, budget=Budget(evaluations=160)))
    posted, received = old.posted, inner.book.received
    for budget in (old, old.child("run")):
        with pytest.raises(JournalError, match=r"count it twice: give Tuner\.resume a fresh budget"):
            await fit(await resumed(path, inner, budget=budget))
    assert (posted, received) == (old.posted, inner.book.received)


async def test_a_ledger_file_that_takes_a_run_over_counts_it_once(tmp_path: Path) -> None:
    """Begun on a budget in memory, gone on with twice on one in a file, each time by another process."""
    inner, path = mock(), tmp_path / "run.journal"
    await journalled(path, inner)
    for _ in range(2):
        async with open_ledger(tmp_path / "ledger") as ledger:
            budget = Budget(evaluations=120, ledger=ledger)
            result = await fit(await resumed(path, inner, budget=budget))
            assert (120, 15) == (budget.posted.evaluations, len(result.generations))
            assert inner.book.tokens == budget.posted.tokens == result.spent.tokens


async def test_what_is_replayed_is_told_once(tmp_path: Path) -> None:
    """A listener hears that the run is resumed, and then what is new; the history has all of it."""
    inner, path, events = mock(), tmp_path / "run.journal", list[Event]()
    with pytest.raises((_Killed, BaseExceptionGroup)):
        await fit(Tuner(Dying(inner, 9, answers=True), budget=Budget(**BUDGET), journal=path, **options()))  # type: ignore[arg-type]
    result = await fit(await resumed(path, inner), on_event=events.append)
    done = [event.generation for event in events if isinstance(event, GenerationDone)]
    (told,) = [event for event in events if isinstance(event, Resumed)]
    assert (told.generations, list(range(told.generations, 10))) == (done[0], done)
    assert 10 == len(result.generations)


@pytest.mark.parametrize("inner", [mock(capabilities=replace(mock().card.capabilities, idempotent=False))])
async def test_where_keys_bill_twice_the_books_say_so(inner: MockBackend, tmp_path: Path) -> None:
    """What was on its way may have been charged: it counts as an unknown outcome, and the run is that much shorter."""
    path = tmp_path / "run.journal"
    with pytest.raises((_Killed, BaseExceptionGroup)):
        await fit(Tuner(Dying(inner, 2, answers=True), budget=Budget(**BUDGET), journal=path, **options()))  # type: ignore[arg-type]
    result = await fit(await resumed(path, inner))
    assert (1, 9) == (result.spend.unknown_outcomes, len(result.generations))
    assert inner.book.tokens == result.spent.tokens


async def test_other_data_or_settings_are_refused(tmp_path: Path) -> None:
    """It would be another run; nothing is sent."""
    inner, path = mock(), tmp_path / "run.journal"
    await journalled(path, inner)
    received = inner.book.received
    with pytest.raises(JournalMismatch, match="train set"):
        await (await resumed(path, inner)).fit(examples(2, 16), DEV, test=TEST, compare_manual=True)
    with pytest.raises(JournalMismatch, match=r"dev set.*none"):
        await (await resumed(path, inner)).fit(TRAIN, test=TEST, compare_manual=True)
    with pytest.raises(JournalMismatch, match="give fit the same target="):
        await fit(await resumed(path, inner), target=0.5)
    assert received == inner.book.received


async def test_another_engine_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    """The message names both; asked for all the same, the result says that it may differ."""
    inner, path = mock(), tmp_path / "run.journal"
    await journalled(path, inner)
    other = mock()
    other.card = replace(other.card, fingerprint="another engine")
    with pytest.raises(JournalMismatch, match=r"engine was .* and is another engine"):
        await fit(await resumed(path, other))
    result = await fit(await resumed(path, other, despite_changes=True))
    assert 1 == sum("the result may differ" in warning for warning in result.warnings)


async def test_one_run_at_a_time_has_a_journal(tmp_path: Path) -> None:
    """A second one is refused while the first is under way, and let in when it has ended."""
    inner, path = mock(latency_s=0.01), tmp_path / "run.journal"
    errors = []

    def listener(event: Event) -> None:
        if isinstance(event, GenerationDone) and event.generation == 3:
            started.set()

    started = asyncio.Event()
    tuner = Tuner(inner, budget=Budget(**BUDGET), journal=path, **options())  # type: ignore[arg-type]
    first = asyncio.create_task(fit(tuner, on_event=listener))
    await started.wait()
    try:
        await fit(await resumed(path, inner))
    except JournalInUse as error:
        errors.append(str(error))
    expected, after = await first, await fit(await resumed(path, inner))
    assert ["in use" in error for error in errors] == [True]
    assert expected.core.to_bytes() == after.core.to_bytes()


async def test_a_journal_is_not_written_over(tmp_path: Path) -> None:
    """A second run of the same name is refused with what to do; one that had not begun is no run."""
    inner, path = mock(), tmp_path / "run.journal"
    await asyncio.to_thread(path.write_bytes, b"0123456789abcdef {")
    await journalled(path, inner)
    with pytest.raises(JournalError, match=r"Tuner\.resume"):
        await journalled(path, inner)
    with pytest.raises(JournalError, match=r"no journal|cannot read"):
        await resumed(tmp_path / "none", inner)
    with pytest.raises(JournalError, match="make the folder"):
        await journalled(tmp_path / "nowhere" / "run.journal", inner)


@pytest.mark.parametrize("folder", ["/proc", "/sys"])
async def test_a_place_that_takes_no_file_is_not_said_to_be_in_use(folder: str) -> None:
    """The message has the path and the reason of the system, by which nobody looks for another run."""
    if not await asyncio.to_thread(Path(folder).is_dir):
        pytest.skip(f"no {folder} here")
    with pytest.raises(JournalError, match=f"{folder}/x.journal cannot be kept there: [A-Z]") as raised:
        await journalled(Path(folder, "x.journal"), mock())
    assert (JournalError, True) == (type(raised.value), isinstance(raised.value.__cause__, OSError))


@pytest.mark.parametrize("damage", ["changed", "lost", "moved", "doubled"])
async def test_damage_before_the_end_is_refused(damage: str, tmp_path: Path) -> None:
    """No line can be changed, lost, moved or doubled without notice; nothing is sent then."""
    inner, path = mock(), tmp_path / "run.journal"
    await journalled(path, inner)
    received = inner.book.received
    lines = (await asyncio.to_thread(path.read_bytes)).splitlines(keepends=True)
    damaged: dict[str, Callable[[], list[bytes]]] = {
        "changed": lambda: [*lines[:5], lines[5].replace(b"1", b"2", 1), *lines[6:]],
        "lost": lambda: lines[:5] + lines[6:],
        "moved": lambda: [*lines[:5], lines[6], lines[5], *lines[7:]],
        "doubled": lambda: [*lines[:6], lines[5], *lines[6:]],
    }
    await asyncio.to_thread(path.write_bytes, b"".join(damaged[damage]()))
    with pytest.raises(JournalCorrupt, match="line"):
        await fit(await resumed(path, inner))
    assert received == inner.book.received


Forge = Callable[[list[dict[str, Any]]], object]
FORGED: dict[str, tuple[int, Forge]] = {
    "a header without a plan": (1, lambda records: records[0].pop("plan")),
    "a plan without generations": (1, lambda records: records[0]["plan"].pop("generations")),
    "a budget without limits": (1, lambda records: records[0]["budget"].pop("limits")),
    "data that are none": (1, lambda records: records[0]["settings"].update(data=["train"])),
    "versions that are none": (1, lambda records: records[0].update(versions=7)),
    "a setting that nobody knows": (1, lambda records: records[0]["settings"]["preset"].update(mood="good")),
    "no kind": (3, lambda records: records[2].pop("kind")),
    "a list in the place of a kind": (3, lambda records: records[2].update(kind=["told"])),
    "no object": (3, lambda records: operator.setitem(records, 2, [])),  # type: ignore[arg-type, func-returns-value]
    "no keys": (2, lambda records: records[1].pop("keys")),
    "amounts that are none": (2, lambda records: records[1].update(worst=[None])),
    "spans of words": (2, lambda records: records[1].update(spans=[["a", "b"]])),
    "values that are none": (3, lambda records: records[2].update(values=[["0", None]])),
    "a part of nothing": (3, lambda records: records[2].update(evaluations="1/0")),
}


async def forged(path: Path, backend: MockBackend, forge: Forge) -> Path:
    """The journal of a whole run with something changed in it, and check sums that are right."""
    await journalled(path, backend)
    other = path.with_name("forged.journal")

    def written() -> None:
        with closing(JournalFile(path, exists=True)) as file:
            records = list(file.records())
        forge(records)
        with closing(JournalFile(other, exists=False)) as file:
            file.append(records, durable=False)

    await asyncio.to_thread(written)
    return other


@pytest.mark.parametrize("what", FORGED)
async def test_records_that_are_none_are_refused_with_their_place(what: str, tmp_path: Path) -> None:
    """Whatever is wrong with what a right check sum stands before; nothing is sent."""
    inner, (line, forge) = mock(), FORGED[what]
    path = await forged(tmp_path / "run.journal", inner, forge)
    received = inner.book.received
    with pytest.raises(JournalCorrupt, match=rf"forged\.journal, line {line}: "):
        await fit(await resumed(path, inner))
    assert received == inner.book.received


async def test_a_record_of_a_newer_version_is_not_passed_over(tmp_path: Path) -> None:
    """What it says might matter; nothing is sent."""
    inner = mock()
    path = await forged(tmp_path / "run.journal", inner, lambda records: records[3].update(kind="thought"))
    received = inner.book.received
    with pytest.raises(JournalMismatch, match=r"line 4: .*'thought': was it written by a newer version"):
        await fit(await resumed(path, inner))
    assert received == inner.book.received


def own(d: int, seed: int, *, population: int = 8) -> Optimizer:
    """A search that is not the preset's."""
    return AskTell(cmaes.CMA(np.zeros(d), 0.5, seed=seed, population_size=population), d=d, population=population)


async def test_another_search_is_refused(tmp_path: Path) -> None:
    """A search of one's own has to be given again, and to ask for the same candidates; nothing is sent else."""
    inner, path = mock(), tmp_path / "run.journal"
    expected = await fit(Tuner(inner, budget=Budget(**BUDGET), journal=path, optimizer=own, **options()))  # type: ignore[arg-type]
    received = inner.book.received
    with pytest.raises(JournalMismatch, match=r"give Tuner\.resume the optimizer="):
        await fit(await resumed(path, inner))
    with pytest.raises(JournalMismatch, match="asks for other candidates in generation 0"):
        await fit(await resumed(path, inner, optimizer=lambda d, seed: own(d, seed + 1)))
    again = await fit(await resumed(path, inner, optimizer=own))
    assert (expected.core.to_bytes(), received) == (again.core.to_bytes(), inner.book.received)


@pytest.mark.parametrize("content", [b'{"notes": "mine"}', b"one line\nanother\n", b"\x00\xff", b"0123456789abcdef\n"])
async def test_a_file_that_is_no_journal_is_left_alone(content: bytes, tmp_path: Path) -> None:
    """It is neither written over nor gone on with, and the message says what it is not."""
    path = tmp_path / "notes"
    await asyncio.to_thread(path.write_bytes, content)
    with pytest.raises(JournalError, match="no journal"):
        await journalled(path, mock())
    with pytest.raises(JournalError, match="no journal"):
        await resumed(path, mock())
    assert content == await asyncio.to_thread(path.read_bytes)


async def test_a_run_that_had_sent_nothing_can_be_begun_again(tmp_path: Path) -> None:
    """A search that cannot be made leaves a journal with one line, which holds nothing yet."""
    path = tmp_path / "run.journal"
    with pytest.raises(ZeroDivisionError):
        await fit(Tuner(mock(), budget=Budget(**BUDGET), journal=path, optimizer=lambda d, seed: d // 0, **options()))  # type: ignore[arg-type]
    assert 10 == len((await journalled(path, mock())).generations)


async def test_a_link_is_the_journal_that_it_leads_to(tmp_path: Path) -> None:
    """Two names, one lock."""
    path, link, inner = tmp_path / "run.journal", tmp_path / "link", mock()
    await asyncio.to_thread(link.symlink_to, path)
    await journalled(path, inner)
    file = await asyncio.to_thread(lambda: JournalFile(path, exists=True))
    with pytest.raises(JournalInUse):
        await fit(await resumed(link, inner))
    await asyncio.to_thread(file.close)


async def test_what_was_gone_on_with_is_not_forgotten(tmp_path: Path) -> None:
    """A result says of every process whose engine was another, also when the last one's is the first one's again."""
    path, other = tmp_path / "run.journal", mock()
    other.card = replace(other.card, fingerprint="another engine")
    await journalled(path, mock())
    await fit(await resumed(path, other, budget=Budget(evaluations=160), despite_changes=True))
    result = await fit(await resumed(path, mock(), budget=Budget(evaluations=240)))
    assert 1 == sum("another engine" in warning for warning in result.warnings)
