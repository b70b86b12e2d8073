"""A run as its journal tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_cases import saved, tuned

from lmaas_sdk import JournalCorrupt, JournalError, Price, read_run
from lmaas_sdk.tuning.journal import Journal
from lmaas_sdk.tuning.run_record import RunRecord

PRICE = Price(400_000_000)


def curve(run: RunRecord) -> list[tuple[object, ...]]:
    return [
        (r.generation, r.evaluations, r.best_loss, r.median_loss, r.lowest_loss, r.spent, r.elapsed_s)
        for r in run.generations
    ]


async def test_a_journal_and_a_run_file_tell_the_same(tmp_path: Path) -> None:
    """The same curve, the same spend by purpose, the same end; no metric, and a note that says so."""
    result = await tuned(price=PRICE, journal=tmp_path / "a.journal")
    by_file = read_run(saved(result, tmp_path / "a.run.json"))
    by_journal = read_run(tmp_path / "a.journal")
    assert curve(by_file) == curve(by_journal)
    assert 10 == len(by_journal.generations)
    assert (by_file.spend, by_file.budget) == (by_journal.spend, by_journal.budget)
    assert ("budget", "small", 7, 80) == (
        by_journal.stopped,
        by_journal.preset,
        by_journal.seed,
        by_journal.evaluations,
    )
    assert ((), None, None) == (by_journal.dev, by_journal.tuned, by_journal.metric)
    assert ["a journal tells when"] == [warning[:20] for warning in by_journal.warnings]


async def test_a_run_that_was_killed_is_told_as_far_as_it_came(tmp_path: Path) -> None:
    """Half of the file, and half of a line: the whole lines count, it has not ended, and the file stays as it is."""
    await tuned(price=PRICE, journal=tmp_path / "a.journal")
    lines = (tmp_path / "a.journal").read_bytes().splitlines(keepends=True)
    told = [n for n, line in enumerate(lines) if b'"kind":"told"' in line]
    begun = b"".join(lines[: told[3] + 2]) + lines[told[3] + 2][:30]
    (tmp_path / "killed.journal").write_bytes(begun)
    run = read_run(tmp_path / "killed.journal")
    assert (4, None) == (len(run.generations), run.stopped)
    assert curve(read_run(tmp_path / "a.journal"))[:4] == curve(run)
    assert "1 calls were under way" in run.warnings[-1]
    assert begun == (tmp_path / "killed.journal").read_bytes()


async def test_a_journal_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    """Another run has it open and locked; reading neither waits nor disturbs."""
    await tuned(16, journal=tmp_path / "a.journal")
    journal = await Journal.resume(tmp_path / "a.journal", "never")
    try:
        assert 2 == len(read_run(tmp_path / "a.journal").generations)
        await journal.ended("quota", 9.5)
        assert ("quota", 9.5) == ((run := read_run(tmp_path / "a.journal")).stopped, run.wall_s)
    finally:
        await journal.close()


async def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    """A digit is other in the middle; or the file only begins like a journal."""
    await tuned(16, journal=tmp_path / "a.journal")
    content = (tmp_path / "a.journal").read_bytes()
    (tmp_path / "a.journal").write_bytes(content.replace(b'"generation":1,', b'"generation":2,', 1))
    with pytest.raises(JournalCorrupt, match="does not match its check sum"):
        read_run(tmp_path / "a.journal")
    (tmp_path / "b.journal").write_bytes(b"0123 and something else\n")
    with pytest.raises(JournalError, match="is no journal"):
        read_run(tmp_path / "b.journal")
