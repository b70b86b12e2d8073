"""Reading a ledger file: what it says, whoever writes it meanwhile, and what is no ledger."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from ledger_files import ASKED, BILLED, damage, die_with, write_ledger

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.audit import state_ledger
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_export import EXPORT_COLUMNS, export_csv, export_json
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.ledger_reader import LedgerReader, parse_amount
from lmaas_sdk.accounting.schema import SCHEMA_VERSION
from lmaas_sdk.errors import LedgerError

LARGE = 3 * 2**64


@pytest.fixture
async def ledger_file(tmp_path: Path) -> Path:
    return await write_ledger(tmp_path / "ledger.db")


def make(path: Path, *statements: str) -> None:
    """An SQLite file of something else."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)


NO_LEDGERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "there is no ledger file"),
    "a folder": (lambda path: path.mkdir(), "there is no ledger file"),
    "an empty file": (lambda path: path.write_bytes(b""), "is no ledger"),
    "a text": (lambda path: path.write_text("a text, and a long one" * 100), "file is not a database"),
    "another database": (lambda path: make(path, "CREATE TABLE notes (text)"), "is no ledger"),
    "the beginning of one": (lambda path: path.write_bytes(b"SQLite format 3\0"), "file is not a database"),
}


@pytest.mark.parametrize("kind", NO_LEDGERS)
def test_what_is_no_ledger_is_refused(tmp_path: Path, kind: str) -> None:
    """And nothing is made, whatever characters the path has."""
    prepare, said = NO_LEDGERS[kind]
    path = tmp_path / "some file?mode=rwc#.db"
    prepare(path)
    with pytest.raises(LedgerError, match=said), LedgerReader(path):
        pass
    assert [path.name] * path.exists() == [there.name for there in tmp_path.iterdir()]


def test_a_ledger_of_another_version_is_refused(ledger_file: Path) -> None:
    """A newer one needs a newer program; an older one is brought up to date by who writes it."""
    for version, said in ((SCHEMA_VERSION + 1, "update lmaas-sdk"), (SCHEMA_VERSION - 1, "open it once")):
        make(ledger_file, f"PRAGMA user_version = {version}")
        with pytest.raises(LedgerError, match=said), LedgerReader(ledger_file):
            pass


def test_a_reader_cannot_write(ledger_file: Path) -> None:
    """Its connection refuses to, and it has to be open."""
    with LedgerReader(ledger_file) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.connection.execute("DELETE FROM owners")
    with pytest.raises(LedgerError, match="is not open"):
        reader.accounts()


def test_a_reader_sees_one_moment(tmp_path: Path) -> None:
    """What is booked after it was opened, it does not see; and it keeps nobody waiting."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        budget = Budget(name="team", ledger=ledger)
        with LedgerReader(path) as reader:
            budget.reserve(ASKED).post(BILLED)
            budget.reserve(ASKED)
            assert ([0], 1) == ([row.pending[0] for row in reader.accounts()], len(list(reader.entries())))
        with LedgerReader(path) as reader:
            assert ([1], 4) == ([row.pending[0] for row in reader.accounts()], len(list(reader.entries())))


def test_owners_are_told_living_from_dead(tmp_path: Path) -> None:
    """Who still runs keeps its lock while it is looked at; what a dead one left is counted."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        Budget(name="team", calls=100, usd="1.00", ledger=ledger).reserve(ASKED)
        die_with(path)
        with LedgerReader(path) as reader:
            living, dead = state_ledger(reader).owners
        assert (True, 1, 0, ASKED) == (living.is_alive, living.pending, living.sent, living.worst)
        assert (False, 3, 2, ASKED.times(3)) == (dead.is_alive, dead.pending, dead.sent, dead.worst)
        assert (True, False) == (ledger.is_alive(ledger.owner), ledger.is_alive(dead.owner.id))
    with open_ledger(path):
        pass
    with LedgerReader(path) as reader:
        statement = state_ledger(reader)
    assert ((), 2, ASKED.times(2)) == (statement.owners, statement.unknown, statement.unknown_worst)


def test_a_statement_says_what_everything_went_for(ledger_file: Path) -> None:
    """Posts by purpose, as corrected; an unknown outcome counts until it is."""
    with LedgerReader(ledger_file) as reader:
        statement = state_ledger(reader)
        within = state_ledger(reader, "team/run")
        with pytest.raises(LedgerError, match="no budget 'team/ru': it has team, team/dev#"):
            state_ledger(reader, "team/ru")
    assert {"train": BILLED + BILLED + ASKED, "dev": Amounts(1, 0, 50, 90)} == statement.by_purpose
    assert (1, ASKED) == (statement.unknown, statement.unknown_worst)
    assert ["team", "team/dev", "team/run"] == [row.path.partition("#")[0] for row in statement.accounts]
    assert (["team/run"], {"train"}) == ([row.path for row in within.accounts], set(within.by_purpose))


def test_exports_have_every_entry(ledger_file: Path) -> None:
    """In order, the same in both forms, times in UTC, money twice."""
    with LedgerReader(ledger_file) as reader:
        table, text = io.StringIO(), io.StringIO()
        export_csv(reader, table)
        export_json(reader, text)
    lines, entries = table.getvalue().splitlines(), json.loads(text.getvalue())["entries"]
    assert (",".join(EXPORT_COLUMNS), 22) == (lines[0], len(lines))
    assert list(range(1, 22)) == [entry["seq"] for entry in entries]
    assert {tuple(EXPORT_COLUMNS)} == {tuple(entry) for entry in entries}
    assert ("2026-09-21T14:13:20.250000+00:00", 300, "0.0000003") == tuple(
        entries[10][name] for name in ("at", "nanousd", "usd")
    )
    assert lines[11].endswith(",1,2,20,300,0.0000003,train,tiny,k0,0")


def test_exports_are_exact(tmp_path: Path) -> None:
    """Part of an evaluation and more than 64 bits are written out as they are."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        Budget(name="team", ledger=ledger).reserve(Amounts(1, Fraction(1, 3), LARGE, LARGE))
    with LedgerReader(path) as reader:
        table, text = io.StringIO(), io.StringIO()
        export_csv(reader, table)
        export_json(reader, text)
    entry = json.loads(text.getvalue())["entries"][1]
    assert ("1/3", LARGE, "55340232221.128654848") == (entry["evaluations"], entry["tokens"], entry["usd"])
    assert f",1,1/3,{LARGE},{LARGE},55340232221.128654848," in table.getvalue()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("at = 'noon'", "entry 11: 'noon' is not a time: see `lmaas ledger verify`"),
        ("at = 9e999", "entry 11: inf is not a time"),
        ("tokens = 'many'", "entry 11: 'many' is not an amount"),
        ("nanousd = '1/2'", "entry 11: of 1, 2, 20, '1/2' only evaluations come in parts"),
    ],
)
def test_a_damaged_entry_ends_an_export(ledger_file: Path, change: str, said: str) -> None:
    """In both forms, with a message that names it, and what is before it written."""
    damage(ledger_file, f"UPDATE entries SET {change} WHERE seq = 11")  # noqa: S608  (our own)
    for export in (export_csv, export_json):
        out = io.StringIO()
        with LedgerReader(ledger_file) as reader, pytest.raises(LedgerError, match=re.escape(said)):
            export(reader, out)
        assert (11, 10) == (len(out.getvalue().splitlines()), out.getvalue().count("2026-09-21T"))


def test_a_damaged_post_ends_a_statement(ledger_file: Path) -> None:
    """Rather than a sum that is wrong."""
    damage(ledger_file, "UPDATE entries SET nanousd = '1/2' WHERE seq = 11")
    with LedgerReader(ledger_file) as reader, pytest.raises(LedgerError, match="only evaluations come in parts: see"):
        state_ledger(reader)


@pytest.mark.parametrize("value", ["1/0", "1.5", "x", "", "1/-2", 2.5, b"1", "\u0661"])
def test_what_is_no_amount_is_refused(value: object) -> None:
    """Whole numbers, their digits and fractions of them are amounts, nothing else."""
    with pytest.raises(ValueError, match="is not an amount"):
        parse_amount(value)
