"""The ledger file's schema: which tables there are, and how an older file becomes a newer one.

Entries are only ever added. `accounts` holds the balances that follow from them, so that a budget need not be added up
at every reservation; `lmaas ledger verify` adds it up and compares.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lmaas_sdk.errors import LedgerError

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "migrate"]

APPLICATION_ID = 0x6C6D6C67  # "lmlg": tells a ledger from any other SQLite file

_GUARDS = """
CREATE UNIQUE INDEX entries_reserved_once ON entries (transfer) WHERE kind = 'pending';
CREATE UNIQUE INDEX entries_resolved_once ON entries (transfer) WHERE kind IN ('post', 'void');
CREATE UNIQUE INDEX entries_corrected_once ON entries (transfer) WHERE kind = 'correct';
CREATE INDEX entries_of_owner ON entries (owner) WHERE kind IN ('pending', 'sent', 'refused');
CREATE INDEX entries_unknown ON entries (endpoint, key) WHERE unknown = 1;
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries BEGIN
  SELECT RAISE(ABORT, 'entries of a ledger are never changed');
END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries BEGIN
  SELECT RAISE(ABORT, 'entries of a ledger are never deleted');
END;
"""

# Units (calls, evaluations, tokens, nanousd) have no type on purpose: a whole number of 64 bits is stored as such,
# a larger one as its digits, a fraction of an evaluation as "numerator/denominator".
_VERSION_1 = f"""
CREATE TABLE owners (           -- one row for every opening of the file by a process
  id TEXT PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, opened_at REAL NOT NULL,
  ended_at REAL, ended TEXT CHECK (ended IN ('closed', 'recovered'))
) STRICT;
CREATE TABLE accounts (         -- one row for every budget: its limits (NULL: none) and its balances
  path TEXT PRIMARY KEY, parent TEXT REFERENCES accounts (path), name TEXT NOT NULL,
  aside INTEGER NOT NULL,       -- 1: its limits were taken out of the parent beforehand
  owner TEXT,                   -- of an amount set aside: who has to release it
  released INTEGER NOT NULL DEFAULT 0, overrun INTEGER NOT NULL DEFAULT 0,
  limit_calls, limit_evaluations, limit_tokens, limit_nanousd,
  posted_calls, posted_evaluations, posted_tokens, posted_nanousd,
  pending_calls, pending_evaluations, pending_tokens, pending_nanousd
);
CREATE TABLE entries (          -- what happened, never changed
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at REAL NOT NULL,             -- seconds since 1970
  kind TEXT NOT NULL CHECK (kind IN ('limits', 'pending', 'sent', 'refused', 'post', 'void', 'correct', 'release')),
  transfer TEXT,                -- the reservation's id, made by the client; NULL for limits and release
  account TEXT NOT NULL REFERENCES accounts (path),
  owner TEXT NOT NULL REFERENCES owners (id),
  calls, evaluations, tokens, nanousd,   -- pending: asked for; post, correct: what it comes to; limits: NULL is none
  purpose TEXT NOT NULL DEFAULT '', endpoint TEXT NOT NULL DEFAULT '', key TEXT NOT NULL DEFAULT '',
  unknown INTEGER NOT NULL DEFAULT 0     -- 1: posted at the worst case, because nobody knows what it cost
);
{_GUARDS}
CREATE TABLE quota_events (     -- who asked for, took and gave back what of a provider's quota
  seq INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('ask', 'leave', 'take', 'settle', 'refund')),
  grant_id TEXT NOT NULL, owner TEXT NOT NULL, at REAL NOT NULL, tokens INTEGER NOT NULL
) STRICT;
CREATE INDEX quota_events_of_scope ON quota_events (scope, seq);
"""

# The kinds of entries are part of their table, so a new kind needs a new table. What was written stays as it is.
_VERSION_2 = f"""
CREATE TABLE entries_2 (        -- what happened, never changed
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at REAL NOT NULL,             -- seconds since 1970
  kind TEXT NOT NULL CHECK (kind IN (
    'limits', 'reopen', 'pending', 'sent', 'refused', 'post', 'void', 'correct', 'release'
  )),
  transfer TEXT,                -- the reservation's id, made by the client; NULL for limits, reopen and release
  account TEXT NOT NULL REFERENCES accounts (path),
  owner TEXT NOT NULL REFERENCES owners (id),
  calls, evaluations, tokens, nanousd,   -- pending: asked for; post, correct: what it comes to; limits: NULL is none
  purpose TEXT NOT NULL DEFAULT '', endpoint TEXT NOT NULL DEFAULT '', key TEXT NOT NULL DEFAULT '',
  unknown INTEGER NOT NULL DEFAULT 0     -- 1: posted at the worst case, because nobody knows what it cost
);
INSERT INTO entries_2 SELECT * FROM entries;
DELETE FROM sqlite_sequence WHERE name = 'entries_2';
INSERT INTO sqlite_sequence SELECT 'entries_2', seq FROM sqlite_sequence WHERE name = 'entries';
DROP TABLE entries;
ALTER TABLE entries_2 RENAME TO entries;
{_GUARDS}
CREATE INDEX owners_unended ON owners (opened_at) WHERE ended IS NULL;
"""  # noqa: S608  (constants)

_MIGRATIONS = (_VERSION_1, _VERSION_2)  # the nth turns version n - 1 into n
SCHEMA_VERSION = len(_MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: str | Path) -> None:
    """Brings a ledger file to the present schema; a new file gets all of it. In one transaction: all of it or nothing.

    Args:
        connection: In autocommit (`isolation_level=None`).
        path: For messages.

    Raises:
        LedgerError: The file is a database of something else, or was written by a newer version.
    """
    connection.execute("BEGIN IMMEDIATE")  # of two processes that open a new file, one makes the tables
    try:
        version = _version(connection, path)
        for number, statements in enumerate(_MIGRATIONS[version:], start=version + 1):
            for statement in _statements(statements):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: str | Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise LedgerError(f"{path} is an SQLite file of something else, not a ledger: give another path")
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"{path} is a ledger of schema {version}, and this version reads up to {SCHEMA_VERSION}: update lmaas-sdk"
        )
    return int(version)


def _statements(script: str) -> list[str]:
    """The statements of a script; a trigger's body keeps its own semicolons."""
    statements, statement = [], ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements
