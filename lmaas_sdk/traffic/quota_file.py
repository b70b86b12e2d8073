"""The quota of one scope, counted in a ledger file: by all processes that share it, and across restarts.

The file holds what happened, one row an event; every process plays the rows it has not seen into windows of its own,
inside the transaction in which it decides. So all decide alike, and in turn.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from lmaas_sdk.accounting.ledger_file import SqliteLedger
from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import LedgerError
from lmaas_sdk.traffic.quota import Quota

__all__ = ["FileQuota"]

T = TypeVar("T")

# Another process does not tell when it gives back. Where that is all that is waited for, it is looked for often; a wait
# whose end is known is interrupted now and then.
_POLL_S, _LOOK_S, _LOOKS = 0.05, 1.0, 16
_LOOK_FOR_DEAD_EVERY_S = 1.0
# Who waits asks again; who is stopped does not, and must not stop the others. One that is late once is not silent.
_HEARD_EVERY_S, _SILENT_S = 10.0, 40.0
_LONGEST_PAUSE_S = _SILENT_S / 2
_NO_LIMITS = Limits()
_KEPT_S = 27 * 3600.0  # no window is longer
_PRUNE_EVERY_S = 3600.0
_FRESH_S = _KEPT_S / 2  # what was read longer ago may lack rows that another process has pruned since
_INSERT = "INSERT INTO quota_events (scope, kind, grant_id, owner, at, tokens) VALUES (?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT seq, kind, grant_id, owner, at, tokens FROM quota_events WHERE scope = ? AND seq > ? ORDER BY seq"
# Times go up with the rows, so it reads no more rows than it deletes.
_PRUNE = """DELETE FROM quota_events WHERE scope = :scope AND seq < coalesce(
  (SELECT seq FROM quota_events WHERE scope = :scope AND at >= :since ORDER BY seq LIMIT 1), :all
) AND grant_id NOT IN (SELECT value FROM json_each(:open))"""


class _Known:
    """What is known of the file: all of it, up to a row.

    Args:
        learned: What has to be counted.

    Attributes:
        seq: The row.
        newest_s: The latest time of a row; rows are written with times that go up.
        quota: What was taken.
        line: Owners of those who ask, by ticket, first come first.
        heard_s: When they asked last.
        under_way: Owners of those who are under way, by ticket.
        asked: Tokens that these were taken with, whether or not tokens are counted here.
    """

    def __init__(self, learned: Iterable[Limits]) -> None:
        self.seq, self.newest_s = 0, 0.0
        self.quota = Quota()
        for limits in learned:
            self.quota.learn(limits)
        self.line: dict[str, str] = {}
        self.heard_s: dict[str, float] = {}
        self.under_way: dict[str, str] = {}
        self.asked: dict[str, int] = {}

    def play(self, seq: int, kind: str, ticket: str, *, owner: str, at_s: float, tokens: int) -> None:
        """Takes in the next row."""
        self.seq, self.newest_s = seq, max(self.newest_s, at_s)
        if kind == "ask":
            self.line.setdefault(ticket, owner)
            self.heard_s[ticket] = at_s
            return
        self.line.pop(ticket, None)
        self.heard_s.pop(ticket, None)
        if kind == "take":
            self.quota.take(ticket, tokens, at_s)
            self.under_way[ticket], self.asked[ticket] = owner, tokens
            return
        self.under_way.pop(ticket, None)
        self.asked.pop(ticket, None)
        if kind == "settle":
            self.quota.settle(ticket, tokens)
        else:
            self.quota.refund(ticket)

    def wait_s(self, ticket: str, tokens: int, limits: Limits, now_s: float) -> float:
        """Seconds until this request may be taken; infinity: until others give back, or go before it."""
        wait_s = self.quota.wait_s(tokens, limits, now_s)
        is_first = next(iter(self.line), ticket) == ticket
        is_full = limits.concurrency is not None and len(self.under_way) >= limits.concurrency
        return wait_s if wait_s > 0 or (is_first and not is_full) else math.inf


class FileQuota:
    """Requests of all processes. What is said below happens on the ledger's own thread, so nothing here needs a lock.

    Args:
        ledger: The open file.
        scope: API key and endpoint, without telling the key.
        wall: Seconds since 1970.
    """

    def __init__(self, ledger: SqliteLedger, scope: str, wall: Callable[[], float] = time.time) -> None:
        self._ledger, self._scope, self._wall = ledger, scope, wall
        self._looked_s = -math.inf
        self._prune_at_s = self._read_s = -math.inf
        self._learned: list[Limits] = []
        self._known = _Known(())
        self._version = -1  # of the ledger, when it was looked through

    async def take(self, ticket: str, tokens: int, limits: Limits) -> float:
        if limits == _NO_LIMITS:  # nothing to wait for: it is written with whatever is booked next
            self._ledger.perform(self._in_step(lambda rows: self._take_freely(rows, ticket, tokens), decides=False))
            return 0.0
        return await self._ledger.execute(self._in_step(lambda rows: self._take(rows, ticket, tokens, limits=limits)))

    def pause_s(self, wait_s: float) -> float:
        if math.isinf(wait_s):
            return _POLL_S
        return min(wait_s, max(_LOOK_S, wait_s / _LOOKS), _LONGEST_PAUSE_S)

    def settle(self, ticket: str, tokens: int) -> None:
        self._note("settle", ticket, tokens)

    def refund(self, ticket: str) -> None:
        self._note("refund", ticket, 0)

    def _note(self, kind: str, ticket: str, tokens: int) -> None:
        def note(rows: sqlite3.Connection) -> None:
            if ticket in self._known.under_way or ticket in self._known.line:
                self._write(rows, kind, ticket, tokens, at_s=self._wall())

        with suppress(LedgerError):  # a file that is closed, or broken: others will find its owner dead
            self._ledger.perform(self._in_step(note, decides=False))

    def _in_step(
        self, work: Callable[[sqlite3.Connection], T], *, decides: bool = True
    ) -> Callable[[sqlite3.Connection], T]:
        """The same, knowing all that is in the file; if it fails it is undone in the file, and so forgotten here.

        Args:
            work: What to do.
            decides: Whether it decides by what it knows; what only adds a row need not look where nobody else has.
        """

        def in_step(rows: sqlite3.Connection) -> T:
            try:
                if decides or self._ledger.version != self._version:
                    self._catch_up(rows)
                return work(rows)
            except BaseException:
                self._known, self._version = _Known(self._learned), -1
                raise

        return in_step

    def _take(self, rows: sqlite3.Connection, ticket: str, tokens: int, *, limits: Limits) -> float:
        self._learn(rows, limits)
        wall_s = self._wall()
        self._prune(rows, wall_s)
        now_s = max(wall_s, self._known.newest_s)  # later by another's clock, or by this one before it was set back
        wait_s = self._known.wait_s(ticket, tokens, limits, now_s)
        if wait_s > 0 and self._buried(rows, now_s, but=ticket):
            wait_s = self._known.wait_s(ticket, tokens, limits, now_s)
        if wait_s <= 0:
            self._write(rows, "take", ticket, tokens, at_s=now_s)
            return 0.0
        if now_s - self._known.heard_s.get(ticket, -math.inf) >= _HEARD_EVERY_S:
            self._write(rows, "ask", ticket, tokens, at_s=now_s)
        return wait_s + now_s - wall_s

    def _take_freely(self, rows: sqlite3.Connection, ticket: str, tokens: int) -> None:
        """Takes it for whoever has limits; it stands in nobody's line."""
        now_s = self._wall()
        self._prune(rows, now_s)
        self._write(rows, "take", ticket, tokens, at_s=now_s)

    def _learn(self, rows: sqlite3.Connection, limits: Limits) -> None:
        """Counts what is asked about here for the first time, from all that is in the file."""
        if self._known.quota.knows(limits):
            return
        self._known = _Known([*self._learned, limits])
        self._learned.append(limits)  # if it can be: there might be no such time zone
        self._catch_up(rows)

    def _prune(self, rows: sqlite3.Connection, now_s: float) -> None:
        if now_s < self._prune_at_s:
            return
        self._prune_at_s = now_s + _PRUNE_EVERY_S
        under_way = json.dumps([*self._known.line, *self._known.under_way])
        since = {"scope": self._scope, "since": now_s - _KEPT_S, "all": self._known.seq + 1, "open": under_way}
        rows.execute(_PRUNE, since)

    def _buried(self, rows: sqlite3.Connection, now_s: float, *, but: str) -> bool:
        """Takes the dead and the silent out of the line, and the dead from those under way; whether there were any."""
        clock_s, known = time.monotonic(), self._known
        if clock_s - self._looked_s < _LOOK_FOR_DEAD_EVERY_S:
            return False
        self._looked_s = clock_s
        owners = {*known.line.values(), *known.under_way.values()}
        dead = {owner for owner in owners if not self._ledger.is_alive(owner)}
        silent = {ticket for ticket, heard_s in known.heard_s.items() if now_s - heard_s > _SILENT_S} - {but}
        gone = [ticket for ticket, owner in known.line.items() if owner in dead or ticket in silent]
        lost = [ticket for ticket, owner in known.under_way.items() if owner in dead]
        for ticket in gone:
            self._write(rows, "leave", ticket, 0, at_s=now_s)
        for ticket in lost:
            self._write(rows, "settle", ticket, known.asked[ticket], at_s=now_s)
        return bool(gone or lost)

    def _write(self, rows: sqlite3.Connection, kind: str, ticket: str, tokens: int, *, at_s: float) -> None:
        owner, at_s = self._ledger.owner, max(at_s, self._known.newest_s)
        seq = rows.execute(_INSERT, (self._scope, kind, ticket, owner, at_s, tokens)).lastrowid or 0
        if seq == self._known.seq + 1:
            self._known.play(seq, kind, ticket, owner=owner, at_s=at_s, tokens=tokens)
        else:  # others of this process have written meanwhile
            self._catch_up(rows)

    def _catch_up(self, rows: sqlite3.Connection) -> None:
        wall_s, self._version = self._wall(), self._ledger.version
        if wall_s - self._read_s > _FRESH_S:
            self._known = _Known(self._learned)
        self._read_s = wall_s
        for seq, kind, ticket, owner, at_s, tokens in rows.execute(_SELECT, (self._scope, self._known.seq)):
            self._known.play(seq, kind, ticket, owner=owner, at_s=at_s, tokens=tokens)
