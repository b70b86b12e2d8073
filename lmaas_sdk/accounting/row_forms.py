"""What every row of a ledger file looks like, whatever the others say; SQLite finds those that do not.

The schema demands some of it of whoever writes. It is asked again here, because a file may have been changed without
those demands, and because `PRAGMA integrity_check` leaves out CHECK on a connection that only reads.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from lmaas_sdk.accounting.discrepancies import Discrepancies

__all__ = ["check_rows"]

_LAST_SECOND = 253_402_300_799  # of the year 9999: what a date can say


class _Form(NamedTuple):
    """What is demanded of a row: the columns it is about, what is expected of them, and the SQL that finds the others.

    `shown` is SQL for what is found there.
    """

    what: str
    expected: str
    shown: str
    wrong: str


def _time(column: str) -> _Form:
    wrong = f"typeof({column}) != 'real' OR {column} NOT BETWEEN 0 AND {_LAST_SECOND}"
    return _Form(column, "seconds since 1970", column, wrong)


def _flag(column: str) -> _Form:
    return _Form(column, "0 or 1", column, f"{column} IS NOT 0 AND {column} IS NOT 1")


def _text(column: str) -> _Form:
    return _Form(column, "a text", column, f"typeof({column}) != 'text'")


_IS_OF_ACCOUNT = "kind IN ('limits', 'reopen', 'release')"
_HAS_NO_AMOUNTS = "kind IN ('sent', 'refused', 'void', 'reopen')"
_FORMS = {
    ("entries", "seq", "entry"): (
        _time("at"),
        _Form("transfer", "none", "transfer", f"{_IS_OF_ACCOUNT} AND transfer IS NOT NULL"),
        _Form("transfer", "its id", "transfer", f"NOT {_IS_OF_ACCOUNT} AND typeof(transfer) != 'text'"),
        _Form(
            "amounts",
            "none",
            "coalesce(calls, evaluations, tokens, nanousd)",
            f"{_HAS_NO_AMOUNTS} AND coalesce(calls, evaluations, tokens, nanousd) IS NOT NULL",
        ),
        *map(_text, ("purpose", "endpoint", "key")),
        _Form("label", "none", "purpose || endpoint || key", f"{_IS_OF_ACCOUNT} AND purpose || endpoint || key != ''"),
        _flag("unknown"),
        _Form("unknown", "0, it is no post", "unknown", "kind != 'post' AND unknown = 1"),
    ),
    ("accounts", "path", "account"): (
        *map(_flag, ("aside", "overrun", "released")),
        _Form("parent", "the budget it was set aside from", "parent", "aside = 1 AND parent IS NULL"),
        _Form("owner", "who set it aside", "owner", "aside = 1 AND owner IS NULL"),
        _Form("owner", "none, it was not set aside", "owner", "aside = 0 AND owner IS NOT NULL"),
        _Form("name", "as in its path", "name", "instr('/' || path || '#', '/' || name || '#') = 0"),
    ),
    ("owners", "id", "owner"): (
        _time("opened_at"),
        _Form("ended", "closed or recovered", "ended", "ended NOT IN ('closed', 'recovered')"),
        _Form("ended_at", "a time if and only if it ended", "ended_at", "(ended IS NULL) != (ended_at IS NULL)"),
    ),
    ("quota_events", "seq", "quota event"): (
        _Form("kind", "one that there is", "kind", "kind NOT IN ('ask', 'leave', 'take', 'settle', 'refund')"),
        _Form("owner", "one that has opened the file", "owner", "owner NOT IN (SELECT id FROM owners)"),
        _Form("tokens", "at least 0", "tokens", "tokens < 0"),
    ),
}  # fmt: skip


def check_rows(connection: sqlite3.Connection, found: Discrepancies) -> None:
    """Notes every row that is not as the rows of its table are.

    Args:
        connection: To the file.
        found: Takes what is wrong.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for (table, key, called), forms in _FORMS.items():
        if table not in tables:
            continue  # which is noted elsewhere
        columns = ", ".join(f"{form.wrong}, quote({form.shown})" for form in forms)
        anything = " OR ".join(f"({form.wrong})" for form in forms)
        sql = f"SELECT {key}, {columns} FROM {table} WHERE {anything} ORDER BY {key}"  # noqa: S608  (constants)
        for name, *told in connection.execute(sql):
            where = f"{called} {name!r}"
            for form, is_wrong, shown in zip(forms, told[::2], told[1::2], strict=True):
                if is_wrong:
                    found.add(form.what, where, expected=form.expected, found=shown)
