"""The quota of one scope, counted in a ledger file: by all processes that share it, and across restarts.

The file holds what happened, one row an event; every process plays the rows it has not seen into windows of its own,
inside the transaction in which it decides. So all decide alike, and in turn.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from lmaas_sdk.accounting.ledger_file import SqliteLedger
from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.quota import Quota

__all__ = ["FileQuota"]

_POLL_S = 0.1  # another process does not tell when it gives back
_LOOK_FOR_DEAD_EVERY_S = 1.0
_KEPT_S = 25 * 3600.0  # no window is longer
_INSERT = "INSERT INTO quota_events (scope, kind, grant_id, owner, at, tokens) VALUES (?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT seq, kind, grant_id, owner, at, tokens FROM quota_events WHERE scope = ? AND seq > ? ORDER BY seq"
_PRUNE = """DELETE FROM quota_events WHERE scope = ? AND at < ? AND grant_id NOT IN (
  SELECT grant_id FROM quota_events WHERE scope = ? GROUP BY grant_id
  HAVING sum(kind IN ('settle', 'refund', 'leave')) = 0
)"""


class FileQuota:
    """Requests of all processes. What is said below happens on the ledger's own thread, so nothing here needs a lock.

    Args:
        ledger: The open file.
        scope: API key and endpoint, without telling the key.
        wall: Seconds since 1970.
    """

    def __init__(self, ledger: SqliteLedger, scope: str, wall: Callable[[], float] = time.time) -> None:
        self._ledger, self._scope, self._wall = ledger, scope, wall
        self._looked_s = -_LOOK_FOR_DEAD_EVERY_S
        self._seq, self._newest_s = 0, 0.0
        self._learned: list[Limits] = []
        self._quota = Quota()
        self._line: dict[str, str] = {}  # owners of those who ask, by ticket, first come first
        self._under_way: dict[str, str] = {}

    async def take(self, ticket: str, tokens: int, limits: Limits) -> float:
        now_s = self._wall()
        return await self._ledger.execute(lambda rows: self._take(rows, ticket, tokens, limits=limits, now_s=now_s))

    def settle(self, ticket: str, tokens: int) -> None:
        self._note("settle", ticket, tokens)

    def refund(self, ticket: str) -> None:
        self._note("refund", ticket, 0)

    def _note(self, kind: str, ticket: str, tokens: int) -> None:
        now_s = self._wall()

        def note(rows: sqlite3.Connection) -> None:
            self._catch_up(rows)
            if ticket in self._under_way or ticket in self._line:
                self._write(rows, kind, ticket, tokens, at_s=now_s)

        self._ledger.perform(note)

    def _take(self, rows: sqlite3.Connection, ticket: str, tokens: int, *, limits: Limits, now_s: float) -> float:
        if not self._quota.knows(limits):
            self._learned.append(limits)
            self._forget()
            rows.execute(_PRUNE, (self._scope, now_s - _KEPT_S, self._scope))
        self._catch_up(rows)
        now_s = max(now_s, self._newest_s)
        wait_s = self._wait_s(ticket, tokens, limits, now_s)
        if wait_s > 0 and self._blocking_owners() and self._buried(rows, now_s):
            wait_s = self._wait_s(ticket, tokens, limits, now_s)
        if wait_s <= 0:
            self._write(rows, "take", ticket, tokens, at_s=now_s)
        elif ticket not in self._line:
            self._write(rows, "ask", ticket, tokens, at_s=now_s)
        return wait_s

    def _wait_s(self, ticket: str, tokens: int, limits: Limits, now_s: float) -> float:
        wait_s = self._quota.wait_s(tokens, limits, now_s)
        is_first = next(iter(self._line), ticket) == ticket
        is_full = limits.concurrency is not None and len(self._under_way) >= limits.concurrency
        return wait_s if is_first and not is_full else max(wait_s, _POLL_S)

    def _blocking_owners(self) -> set[str]:
        return {*self._line.values(), *self._under_way.values()} - {self._ledger.owner}

    def _buried(self, rows: sqlite3.Connection, now_s: float) -> bool:
        """Takes the dead out of the line and from those under way; whether there were any."""
        clock_s = time.monotonic()
        if clock_s - self._looked_s < _LOOK_FOR_DEAD_EVERY_S:
            return False
        self._looked_s = clock_s
        dead = {owner for owner in self._blocking_owners() if not self._ledger.is_alive(owner)}
        for ticket in [ticket for ticket, owner in self._line.items() if owner in dead]:
            self._write(rows, "leave", ticket, 0, at_s=now_s)
        for ticket in [ticket for ticket, owner in self._under_way.items() if owner in dead]:
            self._write(rows, "settle", ticket, self._quota.taken_tokens(ticket), at_s=now_s)
        return bool(dead)

    def _write(self, rows: sqlite3.Connection, kind: str, ticket: str, tokens: int, *, at_s: float) -> None:
        owner = self._ledger.owner
        cursor = rows.execute(_INSERT, (self._scope, kind, ticket, owner, at_s, tokens))
        self._play(cursor.lastrowid or 0, kind, ticket, owner=owner, at_s=at_s, tokens=tokens)

    def _catch_up(self, rows: sqlite3.Connection) -> None:
        for seq, kind, ticket, owner, at_s, tokens in rows.execute(_SELECT, (self._scope, self._seq)):
            self._play(seq, kind, ticket, owner=owner, at_s=at_s, tokens=tokens)

    def _play(self, seq: int, kind: str, ticket: str, *, owner: str, at_s: float, tokens: int) -> None:
        self._seq, self._newest_s = seq, max(self._newest_s, at_s)
        if kind == "ask":
            self._line[ticket] = owner
            return
        self._line.pop(ticket, None)
        if kind == "take":
            self._quota.take(ticket, tokens, at_s)
            self._under_way[ticket] = owner
            return
        self._under_way.pop(ticket, None)
        if kind == "settle":
            self._quota.settle(ticket, tokens)
        else:
            self._quota.refund(ticket)

    def _forget(self) -> None:
        """As if no row had been seen: a window that is new has to count the old ones too."""
        self._seq, self._newest_s = 0, 0.0
        self._quota = Quota()
        for limits in self._learned:
            self._quota.learn(limits)
        self._line, self._under_way = {}, {}
