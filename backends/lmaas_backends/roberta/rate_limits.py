"""The quotas of an API key at an endpoint, as the server holds them: what counts, what is refused, what is told.

A request is admitted by all windows or refused by one, and a refused request counts nowhere. What was admitted is in
the server's state, so that a restart forgets nothing.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from lmaas_backends.roberta.accounts import Account
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.windows import DAY_S, MINUTE_S, CalendarDay, SlidingWindow, Window

__all__ = ["Clocks", "EndpointQuota", "Quotas"]

_LONGEST_DAY_S = 26 * 3600.0  # where clocks go back there are 25 hours, somewhere even more
_REQUESTS, _TOKENS, _DAILY, _CONCURRENCY = "requests", "tokens", "requests-day", "concurrency"


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks: `monotonic` for durations, `wall` (seconds since 1970) for calendar days."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class _Timed:
    """A window and the clock that it goes by."""

    window: Window
    clock: Callable[[], float]

    def wait_s(self, amount: int) -> float:
        return self.window.wait_s(amount, self.clock())

    def remaining(self) -> int:
        return self.window.remaining(self.clock())

    def reset_s(self) -> int:
        """Whole seconds, rounded up."""
        return math.ceil(self.window.reset_s(self.clock()))


class EndpointQuota:
    """The windows of one API key at one endpoint, and how many of its calls may be under way.

    Args:
        limits: What is advertised.
        clocks: The clocks of the windows.
    """

    def __init__(self, limits: Limits, clocks: Clocks) -> None:
        self._windows: dict[str, _Timed] = {}
        self._concurrency = limits.concurrency
        if limits.requests_per_minute is not None:
            self._windows[_REQUESTS] = _Timed(SlidingWindow(limits.requests_per_minute, MINUTE_S), clocks.monotonic)
        if limits.requests_per_day is not None:
            self._windows[_DAILY] = _day(limits.requests_per_day, limits.day_time_zone, clocks)
        if limits.tokens_per_minute is not None:
            self._windows[_TOKENS] = _Timed(SlidingWindow(limits.tokens_per_minute, MINUTE_S), clocks.monotonic)

    @property
    def counts_for_s(self) -> float:
        """Seconds for which an admission may count in a window; 0: there is none."""
        if _DAILY in self._windows:
            return _LONGEST_DAY_S
        return MINUTE_S if self._windows else 0.0

    def check(self, tokens: int = 0, *, in_flight: int = 0) -> None:
        """Refuses what would not be admitted now; counts nothing.

        Args:
            tokens: That the call takes.
            in_flight: Calls that are under way.

        Raises:
            RefusalError: rate_limited, with the seconds to wait where they are known; invalid_query when no wait would
                help.
        """
        waits = [(timed.wait_s(_amount(name, tokens)), name) for name, timed in self._windows.items()]
        wait_s, name = max(waits, default=(0.0, ""))
        if wait_s > 0:
            raise self._refusal(name, _amount(name, tokens), wait_s)
        if self._concurrency is not None and in_flight >= self._concurrency:
            raise RefusalError(
                "rate_limited",
                f"{in_flight} calls are under way and {self._concurrency} may be at once",
                hint="wait for one of your calls to be answered",
                headers=self.headers(),
            )

    def take(self, tokens: int, *, ago_s: float = 0.0) -> None:
        """Counts one request of so many tokens, whether it fits or not.

        Args:
            tokens: Of the request.
            ago_s: Seconds since it was admitted.
        """
        for name, timed in self._windows.items():
            timed.window.take(_amount(name, tokens), timed.clock() - ago_s)

    def headers(self) -> dict[str, str]:
        """The x-ratelimit-* headers: limit, remaining and reset (whole seconds, rounded up) of each window."""
        told = {}
        for name, timed in self._windows.items():
            told[f"x-ratelimit-limit-{name}"] = str(timed.window.limit)
            told[f"x-ratelimit-remaining-{name}"] = str(timed.remaining())
            told[f"x-ratelimit-reset-{name}"] = str(timed.reset_s())
        return told

    def report(self, *, in_flight: int) -> dict[str, dict[str, int]]:
        """What is left of each quota, as GET /v1/usage shows it."""
        told = {
            name: {"limit": timed.window.limit, "remaining": timed.remaining(), "reset_s": timed.reset_s()}
            for name, timed in self._windows.items()
        }
        if self._concurrency is not None:
            told[_CONCURRENCY] = {"limit": self._concurrency, "remaining": max(0, self._concurrency - in_flight)}
        return told

    def _refusal(self, name: str, amount: int, wait_s: float) -> RefusalError:
        timed, limit = self._windows[name], self._windows[name].window.limit
        if math.isinf(wait_s):
            return RefusalError("invalid_query", f"one call takes {amount} {name} and the limit is {limit}")
        spoken = "requests a day" if name == _DAILY else f"{name} a minute"
        return RefusalError(
            "rate_limited",
            f"the limit of {limit} {spoken} is used up: {timed.remaining()} left, {amount} asked for",
            retry_after_s=wait_s,
            headers=self.headers(),
        )


class Quotas:
    """The quotas of all keys and endpoints, in step with what the state file says was admitted, by whichever server.

    All methods run inside a transaction, on its thread.

    Args:
        clocks: Of the windows. The file has wall times, because no other clock lasts; what it says was admitted later
            than now, by a clock that was set back since, counts as admitted now.
    """

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._quotas: dict[tuple[str, str], EndpointQuota] = {}
        self._read_to: int | None = None

    def of(self, connection: sqlite3.Connection, account: Account, endpoint: str) -> EndpointQuota:
        """The quota of an account at an endpoint, as of now."""
        self._catch_up(connection)
        scope = (account.name, endpoint)
        if scope not in self._quotas:
            self._quotas[scope] = EndpointQuota(account.terms.limits_of(endpoint), self._clocks)
            for at, tokens in connection.execute(
                "SELECT at, tokens FROM admissions WHERE name = ? AND endpoint = ? ORDER BY seq", scope
            ):
                self._quotas[scope].take(tokens, ago_s=self._ago_s(at))
        return self._quotas[scope]

    def take(self, connection: sqlite3.Connection, account: Account, endpoint: str, tokens: int) -> None:
        """Counts one request of so many tokens, in the file too."""
        quota, now = self.of(connection, account, endpoint), self._clocks.wall()
        connection.execute("DELETE FROM admissions WHERE counts_until <= ?", (now,))
        if not quota.counts_for_s:
            return
        quota.take(tokens)
        self._read_to = connection.execute(
            "INSERT INTO admissions (name, endpoint, at, tokens, counts_until) VALUES (?, ?, ?, ?, ?)",
            (account.name, endpoint, now, tokens, now + quota.counts_for_s),
        ).lastrowid

    def forget(self) -> None:
        """Has everything read anew: what was counted last may have been undone."""
        self._quotas.clear()
        self._read_to = None

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Counts what other servers admitted since."""
        if self._read_to is None:
            self._read_to = connection.execute("SELECT coalesce(max(seq), 0) FROM admissions").fetchone()[0]
        for seq, name, endpoint, at, tokens in connection.execute(
            "SELECT seq, name, endpoint, at, tokens FROM admissions WHERE seq > ? ORDER BY seq", (self._read_to,)
        ):
            self._read_to = seq
            if (name, endpoint) in self._quotas:
                self._quotas[name, endpoint].take(tokens, ago_s=self._ago_s(at))

    def _ago_s(self, at: float) -> float:
        return max(0.0, self._clocks.wall() - at)


def _day(limit: int, zone: str | None, clocks: Clocks) -> _Timed:
    if zone is None:
        return _Timed(SlidingWindow(limit, DAY_S), clocks.monotonic)
    return _Timed(CalendarDay(limit, ZoneInfo(zone)), clocks.wall)


def _amount(name: str, tokens: int) -> int:
    return tokens if name == _TOKENS else 1
