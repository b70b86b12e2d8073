"""A run on a ledger file goes on though the ledger knew of an answer that the journal had not yet written down."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from test_resume import Dying, _Killed
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_sdk import Budget, Tuner, TuningResult, open_ledger, verify_ledger

PRESET = replace(SMALL, dev_every=3)
EVALUATIONS = 80


def without_last_answers(path: Path, count: int) -> None:
    """Cuts the journal before its last answers, which are the last lines that it has."""
    lines = path.read_bytes().splitlines(keepends=True)
    assert [True] * count == [b'"kind":"answer"' in line for line in lines[-count:]]
    path.write_bytes(b"".join(lines[:-count]))


def posted(path: Path) -> tuple[int, int]:
    """Evaluations and tokens that a ledger has posted."""
    with closing(sqlite3.connect(path)) as connection:
        ((evaluations, tokens),) = connection.execute(
            "SELECT posted_evaluations, posted_tokens FROM accounts WHERE path = 'run'"
        ).fetchall()
    return evaluations, tokens


async def run(path: Path, backend: object, journal: Path) -> TuningResult:
    """Begins the run on its ledger, or goes on with it."""
    async with open_ledger(path) as ledger:
        budget = Budget(evaluations=EVALUATIONS, name="run", ledger=ledger)
        if await asyncio.to_thread(journal.exists):
            tuner = await asyncio.to_thread(lambda: Tuner.resume(journal, backend, budget=budget))  # type: ignore[arg-type]
        else:
            tuner = Tuner(backend, budget=budget, preset=PRESET, seed=7, journal=journal)  # type: ignore[arg-type]
        return await tuner.fit(TRAIN, DEV)


@pytest.mark.parametrize(("at", "lost"), [(2, 2), (11, 1), (12, 2)])
async def test_an_answer_that_only_the_ledger_knew_is_not_booked_twice(at: int, lost: int, tmp_path: Path) -> None:
    """Killed between the two writes: the call is asked for again under its key, as a bare call."""
    inner, journal, ledger_file = mock(max_candidates=3), tmp_path / "run.journal", tmp_path / "spend.ledger"
    expected = await Tuner(mock(), budget=Budget(evaluations=EVALUATIONS), preset=PRESET, seed=7).fit(TRAIN, DEV)
    with pytest.raises((_Killed, BaseExceptionGroup)):
        await run(ledger_file, Dying(inner, at, answers=True), journal)
    await asyncio.to_thread(without_last_answers, journal, lost)
    result = await run(ledger_file, inner, journal)
    assert expected.core.to_bytes() == result.core.to_bytes()
    assert expected.prompt.to_bytes() == result.prompt.to_bytes()
    assert (EVALUATIONS, inner.book.tokens) == await asyncio.to_thread(posted, ledger_file)
    assert expected.spent.tokens == inner.book.tokens == result.spent.tokens
    assert (await asyncio.to_thread(verify_ledger, ledger_file)).is_right
