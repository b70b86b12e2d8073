"""The schema of a ledger file: an older file becomes a newer one, and says the same."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledger_cases import rows_of
from ledger_files import damage, write_ledger, wrong

from lmaas_sdk.accounting import ledger_reader, schema
from lmaas_sdk.accounting.ledger_file import open_ledger

ENTRIES = "SELECT * FROM entries ORDER BY seq"


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    """A file as the first version of the schema has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_MIGRATIONS", schema._MIGRATIONS[:1])
        patch.setattr(schema, "SCHEMA_VERSION", 1)
        patch.setattr(ledger_reader, "SCHEMA_VERSION", 1)
        return asyncio.run(write_ledger(tmp_path / "ledger.db"))


def test_an_older_file_becomes_a_newer_one(first_version: Path) -> None:
    """When it is opened: entry by entry the same, guarded as before, and right."""
    before = rows_of(first_version, ENTRIES)
    assert [(1,)] == rows_of(first_version, "PRAGMA user_version")
    with open_ledger(first_version):
        pass
    assert ([(schema.SCHEMA_VERSION,)], before) == (
        rows_of(first_version, "PRAGMA user_version"),
        rows_of(first_version, ENTRIES),
    )
    assert [] == wrong(first_version)
    with closing(sqlite3.connect(first_version)) as connection:
        for change in ("UPDATE entries SET at = 1", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(change)


def test_becoming_newer_hides_no_damage(first_version: Path) -> None:
    """Of the last entries, say, of which only a counter knows."""
    damage(first_version, "DELETE FROM entries WHERE seq > 19")
    with open_ledger(first_version):
        pass
    assert "the file: last entry: expected entry 21, found entry 19" in wrong(first_version)
