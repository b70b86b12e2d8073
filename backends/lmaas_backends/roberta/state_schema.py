"""The tables of a server's state: what was used, what is under way, what was admitted lately, and the answers kept.

There are names of API keys in it, and never a key; of an idempotency key there is a hash.
"""

from __future__ import annotations

import sqlite3

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "StateFileError", "migrate"]

APPLICATION_ID = 0x6C6D7376  # "lmsv": tells a server's state from any other SQLite file

_VERSION_1 = """
CREATE TABLE replicas (id TEXT PRIMARY KEY) STRICT;  -- the servers that have the file open, or died with it
CREATE TABLE usage (
  name TEXT NOT NULL, endpoint TEXT NOT NULL,
  calls INTEGER NOT NULL DEFAULT 0, input_tokens INTEGER NOT NULL DEFAULT 0, cached_tokens INTEGER NOT NULL DEFAULT 0,
  output_tokens INTEGER NOT NULL DEFAULT 0, nanousd INTEGER NOT NULL DEFAULT 0, replayed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (name, endpoint)
) STRICT, WITHOUT ROWID;
CREATE TABLE in_flight (                             -- calls admitted and not yet billed, with the money set aside
  id INTEGER PRIMARY KEY AUTOINCREMENT, replica TEXT NOT NULL,
  name TEXT NOT NULL, endpoint TEXT NOT NULL, nanousd INTEGER NOT NULL
) STRICT;
CREATE INDEX in_flight_of_name ON in_flight (name, endpoint);
CREATE TABLE admissions (                            -- what counts in a quota, for as long as it may
  seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, endpoint TEXT NOT NULL,
  at REAL NOT NULL, tokens INTEGER NOT NULL, counts_until REAL NOT NULL
) STRICT;
CREATE INDEX admissions_by_age ON admissions (counts_until);
CREATE TABLE answers (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, fingerprint TEXT NOT NULL,
  media_type TEXT NOT NULL, expires_at REAL NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX answers_by_age ON answers (expires_at);
CREATE TABLE kept (answers INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;  -- one row: the sums over `answers`
INSERT INTO kept VALUES (0, 0);
CREATE TRIGGER answer_kept AFTER INSERT ON answers BEGIN
  UPDATE kept SET answers = answers + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER answer_forgotten AFTER DELETE ON answers BEGIN
  UPDATE kept SET answers = answers - 1, bytes = bytes - old.size;
END;
"""

_MIGRATIONS = (_VERSION_1,)  # the nth turns version n - 1 into n
SCHEMA_VERSION = len(_MIGRATIONS)


class StateFileError(Exception):
    """A state file that this server cannot use."""


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Brings a state file to the present schema, in one transaction; a new file gets all of it.

    Args:
        connection: In autocommit (`isolation_level=None`).
        path: For messages.

    Raises:
        StateFileError: The file is a database of something else, or was written by a newer version.
    """
    connection.execute("BEGIN IMMEDIATE")  # of two servers that open a new file, one makes the tables
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


def _version(connection: sqlite3.Connection, path: str) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise StateFileError(f"{path} is an SQLite file of something else, not a server's state: give another path")
    if version > SCHEMA_VERSION:
        raise StateFileError(
            f"{path} has schema {version}, and this server reads up to {SCHEMA_VERSION}: update lmaas-sdk"
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
