"""What each API key has used, and what it is answered with again: one transaction a step, in memory or in a file.

A call goes through three steps. `look` finds the answer of an earlier request, `admit` counts the call and sets its
money aside, `settle` bills it and keeps its answer, both or neither, before the answer is given out.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from lmaas_backends.roberta.accounts import ENDPOINTS, Account
from lmaas_backends.roberta.kept_answers import Answer, KeptAnswers
from lmaas_backends.roberta.rate_limits import Clocks, Quotas
from lmaas_backends.roberta.state_file import StateFile
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.backend import Usage

__all__ = ["Charge", "Metered", "UsageStore"]

_log = logging.getLogger("lmaas_backends.server")
_T = TypeVar("_T")
_UNWRITTEN = "the server's books cannot be written: %s"
_COUNTED = ("calls", "input_tokens", "cached_tokens", "output_tokens", "nanousd", "replayed")


@dataclass(frozen=True, slots=True)
class Metered:
    """A request to an endpoint that is counted in quotas and billed.

    Args:
        account: Who asks.
        endpoint: `score` or `features`.
        key: The idempotency key with its scope; None: nothing is kept.
        fingerprint: Of the whole request: equal fingerprints, equal requests.
    """

    account: Account
    endpoint: str
    key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Charge:
    """A call that was admitted: its money is set aside until it is settled or voided."""

    metered: Metered
    row: int


class UsageStore:
    """The books of a server. Use it as an async context manager.

    With a path the books outlive the server, also one that is killed, and several servers on one machine may keep them
    together: quotas, balances, bills and answers then hold over all of them.

    Args:
        clocks: Minutes are measured by the monotonic one; days, and how long answers are kept, by the other.
        path: The state file; None: in memory.
        answers: Bounds on the answers kept.
    """

    def __init__(self, clocks: Clocks, path: Path | None = None, *, answers: KeptAnswers | None = None) -> None:
        self._clocks, self._answers = clocks, answers or KeptAnswers()
        self._quotas = Quotas(clocks)
        self._file = StateFile(path, on_undone=self._quotas.forget)

    async def __aenter__(self) -> UsageStore:
        """Opens the books, and frees what servers that were killed had set aside.

        Raises:
            StateFileError: The file cannot be used.
        """
        await self._file.__aenter__()
        try:
            await self._file.execute(self._enter)
        except BaseException:
            await self._file.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._later(lambda connection: self._release(connection, self._file.replica))
        await self._file.__aexit__(kind, error, trace)

    async def look(self, metered: Metered) -> Answer | None:
        """The answer of an earlier request with this key.

        Raises:
            RefusalError: key_reused; or the quota is used up, so that counting the request's tokens would be in vain.
        """

        def work(connection: sqlite3.Connection) -> Answer | None:
            found = self._replayed(connection, metered)
            if found is None:
                self._check(connection, metered, 0, 0)
            return found

        return await self._step(work)

    async def admit(self, metered: Metered, tokens: int, cost_nanousd: int) -> Charge | Answer:
        """Counts a call and sets its money aside, in one step, unless the answer of an earlier one has come meanwhile.

        Raises:
            RefusalError: payment_required, rate_limited, invalid_query (it can never fit) or key_reused. Nothing was
                counted.
        """

        def work(connection: sqlite3.Connection) -> Charge | Answer:
            found = self._replayed(connection, metered)
            if found is not None:
                return found
            self._check(connection, metered, tokens, cost_nanousd)
            self._quotas.take(connection, metered.account, metered.endpoint, tokens)
            return Charge(metered, self._set_aside(connection, metered, cost_nanousd))

        return await self._step(work)

    async def settle(self, charge: Charge, usage: Usage, answer: Answer) -> Answer:
        """Bills a call that was computed and keeps its answer.

        Returns:
            The answer to give out: where another server settled the same key first, that one's, and nothing is billed.

        Raises:
            RefusalError: key_reused: another server answered another request under this key meanwhile.
        """
        metered = charge.metered

        def work(connection: sqlite3.Connection) -> Answer:
            _take_back(connection, charge)
            found = self._replayed(connection, metered)
            if found is not None:
                return found
            if metered.key is not None:
                now = self._clocks.wall()
                self._answers.keep(connection, metered.key, metered.fingerprint, answer=answer, now=now)
            _count(connection, metered, usage, metered.account.terms.cost_nanousd(usage))
            return self._with_headers(connection, metered, answer)

        return await self._step(work)

    def void(self, charge: Charge) -> None:
        """The call was not computed: nothing is billed. Does not wait."""
        self._later(lambda connection: _take_back(connection, charge))

    def count_replay(self, metered: Metered) -> None:
        """Counts a request that was answered with what another is billed for. Does not wait."""
        self._later(lambda connection: _count_replay(connection, metered))

    async def report(self, account: Account) -> dict[str, object]:
        """The account as GET /v1/usage shows it."""

        def work(connection: sqlite3.Connection) -> dict[str, object]:
            rows = {endpoint: self._endpoint_report(connection, account, endpoint) for endpoint in ENDPOINTS}
            sums = dict(zip(_COUNTED, _used(connection, account.name), strict=True))
            return sums | {"balance_nanousd": self._balance_left(connection, account), "endpoints": rows}

        return await self._step(work)

    async def usage_by_name(self) -> dict[tuple[str, str], dict[str, int]]:
        """What every API key has used, by its name and endpoint."""

        def work(connection: sqlite3.Connection) -> dict[tuple[str, str], dict[str, int]]:
            rows = connection.execute(f"SELECT name, endpoint, {', '.join(_COUNTED)} FROM usage ORDER BY 1, 2")  # noqa: S608 - our own columns
            return {(name, endpoint): dict(zip(_COUNTED, used, strict=True)) for name, endpoint, *used in rows}

        return await self._step(work)

    async def _step(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs one transaction. A refusal is no failure of it: it is handed over as a value and raised here."""

        def refusing(connection: sqlite3.Connection) -> _T | RefusalError:
            try:
                return work(connection)
            except RefusalError as refusal:
                return refusal

        try:
            outcome = await self._file.execute(refusing)
        except sqlite3.Error as error:
            _log.error(_UNWRITTEN, error)
            raise RefusalError("unavailable", "the server cannot write its books now", retry_after_s=1) from error
        if isinstance(outcome, RefusalError):
            raise outcome
        return outcome

    def _later(self, work: Callable[[sqlite3.Connection], None]) -> None:
        self._file.submit(work).add_done_callback(_log_failure)

    def _enter(self, connection: sqlite3.Connection) -> None:
        self._release_dead(connection)
        connection.execute("INSERT INTO replicas VALUES (?)", (self._file.replica,))

    def _release_dead(self, connection: sqlite3.Connection) -> None:
        replicas = [replica for (replica,) in connection.execute("SELECT id FROM replicas")]
        for replica in replicas:
            if not self._file.is_alive(replica):
                self._release(connection, replica)

    def _release(self, connection: sqlite3.Connection, replica: str) -> None:
        """Frees what a server that ended has set aside."""
        connection.execute("DELETE FROM in_flight WHERE replica = ?", (replica,))
        connection.execute("DELETE FROM replicas WHERE id = ?", (replica,))

    def _replayed(self, connection: sqlite3.Connection, metered: Metered) -> Answer | None:
        if metered.key is None:
            return None
        found = self._answers.find(connection, metered.key, metered.fingerprint, self._clocks.wall())
        return None if found is None else self._with_headers(connection, metered, found)

    def _with_headers(self, connection: sqlite3.Connection, metered: Metered, answer: Answer) -> Answer:
        quota = self._quotas.of(connection, metered.account, metered.endpoint)
        return replace(answer, quota_headers=quota.headers())

    def _check(self, connection: sqlite3.Connection, metered: Metered, tokens: int, cost_nanousd: int) -> None:
        """Refuses what balance and limits do not allow now."""
        try:
            self._check_once(connection, metered, tokens, cost_nanousd)
        except RefusalError:
            # Perhaps it is only for what a server set aside that was killed since.
            self._release_dead(connection)
            self._check_once(connection, metered, tokens, cost_nanousd)

    def _check_once(self, connection: sqlite3.Connection, metered: Metered, tokens: int, cost_nanousd: int) -> None:
        left = self._balance_left(connection, metered.account)
        if left is not None and (cost_nanousd > left or left <= 0):
            raise RefusalError(
                "payment_required", f"the call costs {format_usd(cost_nanousd)} and the balance is {format_usd(left)}"
            )
        quota = self._quotas.of(connection, metered.account, metered.endpoint)
        quota.check(tokens, in_flight=_in_flight(connection, metered.account.name, metered.endpoint))

    def _set_aside(self, connection: sqlite3.Connection, metered: Metered, cost_nanousd: int) -> int:
        row = connection.execute(
            "INSERT INTO in_flight (replica, name, endpoint, nanousd) VALUES (?, ?, ?, ?)",
            (self._file.replica, metered.account.name, metered.endpoint, cost_nanousd),
        ).lastrowid
        assert row is not None  # noqa: S101 - an INSERT has one
        return row

    def _balance_left(self, connection: sqlite3.Connection, account: Account) -> int | None:
        if account.terms.balance_nanousd is None:
            return None
        (spent,) = connection.execute(
            "SELECT coalesce(sum(nanousd), 0) FROM usage WHERE name = ?", (account.name,)
        ).fetchone()
        (pending,) = connection.execute(
            "SELECT coalesce(sum(nanousd), 0) FROM in_flight WHERE name = ?", (account.name,)
        ).fetchone()
        return int(account.terms.balance_nanousd - spent - pending)

    def _endpoint_report(self, connection: sqlite3.Connection, account: Account, endpoint: str) -> dict[str, object]:
        sums = dict(zip(_COUNTED, _used(connection, account.name, endpoint), strict=True))
        quota = self._quotas.of(connection, account, endpoint)
        return sums | {"quotas": quota.report(in_flight=_in_flight(connection, account.name, endpoint))}


def _log_failure(done: Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.error(_UNWRITTEN, error)


def _take_back(connection: sqlite3.Connection, charge: Charge) -> None:
    connection.execute("DELETE FROM in_flight WHERE id = ?", (charge.row,))


def _in_flight(connection: sqlite3.Connection, name: str, endpoint: str) -> int:
    (calls,) = connection.execute(
        "SELECT count(*) FROM in_flight WHERE name = ? AND endpoint = ?", (name, endpoint)
    ).fetchone()
    return int(calls)


def _used(connection: sqlite3.Connection, name: str, endpoint: str | None = None) -> tuple[int, ...]:
    """Sums of `_COUNTED`, at one endpoint or at all."""
    sums = ", ".join(f"coalesce(sum({column}), 0)" for column in _COUNTED)
    row: tuple[int, ...] = connection.execute(
        f"SELECT {sums} FROM usage WHERE name = ? AND endpoint = coalesce(?, endpoint)",  # noqa: S608 - our own columns
        (name, endpoint),
    ).fetchone()
    return row


def _count(connection: sqlite3.Connection, metered: Metered, usage: Usage, cost_nanousd: int) -> None:
    connection.execute(
        "INSERT INTO usage (name, endpoint, calls, input_tokens, cached_tokens, output_tokens, nanousd)"
        " VALUES (?, ?, 1, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + 1,"
        " input_tokens = input_tokens + excluded.input_tokens, cached_tokens = cached_tokens + excluded.cached_tokens,"
        " output_tokens = output_tokens + excluded.output_tokens, nanousd = nanousd + excluded.nanousd",
        (
            metered.account.name,
            metered.endpoint,
            usage.input_tokens,
            usage.cached_tokens,
            usage.output_tokens,
            cost_nanousd,
        ),
    )


def _count_replay(connection: sqlite3.Connection, metered: Metered) -> None:
    connection.execute(
        "INSERT INTO usage (name, endpoint, replayed) VALUES (?, ?, 1)"
        " ON CONFLICT DO UPDATE SET replayed = replayed + 1",
        (metered.account.name, metered.endpoint),
    )
