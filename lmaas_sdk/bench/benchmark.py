"""`await Benchmark(backend, ...).run()`: configurations x tasks x seeds on one budget, into one results file."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.bench.configurations import Setup
from lmaas_sdk.bench.fitting import Fitting
from lmaas_sdk.bench.known import known_of, may_be_known
from lmaas_sdk.bench.measuring import Measured, cell_fields, measure
from lmaas_sdk.bench.missing import missing_of
from lmaas_sdk.bench.shares import share_of
from lmaas_sdk.bench.store import ResultsFile
from lmaas_sdk.bench.surroundings import cpu_seconds, environment_of
from lmaas_sdk.errors import BudgetExceeded, JournalError, JournalInUse, JournalMismatch, QuotaExceeded
from lmaas_sdk.outside import outside
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.group_journals import Journals
from lmaas_sdk.tuning.interruption import Interrupted, Stop, unless_stopped
from lmaas_sdk.tuning.journal import header_of
from lmaas_sdk.tuning.scheduler import first_failure
from lmaas_sdk.tuning.versions import differences

__all__ = ["Benchmark", "CellEnded", "Status"]

Status = Literal["done", "failed", "interrupted", "cut"]
"""`cut`: a budget or quota that it shares with others ended it before its own did; like all but `done` it goes on."""

_GRACE_S = 20.0  # what is under way when a slice ends may still be answered


@dataclass(frozen=True, slots=True, eq=False)
class CellEnded:
    """A cell that has ended.

    Args:
        cell: Which.
        status: How.
        record: What the results file says of it.
        error: What it failed by; None: it did not.
        ends_all: Whether what ended it is the budget or the quota of all, so that no other is begun.
    """

    cell: Cell
    status: Status
    record: Mapping[str, Any]
    error: Exception | None = None
    ends_all: bool = False


class Benchmark:
    """Measures cells, as many at once as there are jobs, and keeps each when it is done.

    Args:
        backend: The model.
        results: The results file, open.
        work: A folder for the journals of searches that are not done; one is deleted when its cell is.
        budget: What all cells spend from, each through a child of its own; None: no limit.
        jobs: Cells at once.
        despite_changes: Count what was measured on another engine as done, and go on with such a journal.
        retry, quotas, cache: As of `Client`.
        on_cell: Called with every cell that has ended.

    Raises:
        ValueError: There is less than one job.
    """

    def __init__(  # noqa: PLR0913  (all but two by name)
        self,
        backend: Backend,
        results: ResultsFile,
        *,
        work: Path,
        budget: Budget | None = None,
        jobs: int = 1,
        despite_changes: bool = False,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
        on_cell: Callable[[CellEnded], None] | None = None,
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs are cells at once, 1 or more, not {jobs}")
        self._backend, self._results, self._work = backend, results, work
        self._budget = budget or Budget(name="bench", warn_at=())
        self._jobs, self._despite_changes = jobs, despite_changes
        self._retry, self._quotas, self._cache = retry, quotas, cache
        self._on_cell = on_cell
        self._fitting, self._stop, self._is_spent = Fitting(), Stop(), False
        self._under_way: dict[str, Cell] = {}
        self._one_ended = asyncio.Event()
        self._environment: dict[str, Any] = {}

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those that are not done, each once.

        Raises:
            RunFileError: Some are done, but on another engine than this, and nobody said that this may be so.
        """
        return missing_of(
            cells,
            self._results.records,
            path=self._results.path,
            fingerprint=self._backend.card.fingerprint,
            despite_changes=self._despite_changes,
        )

    async def run(self, cells: Iterable[Cell], *, seconds: float | None = None) -> list[CellEnded]:
        """Measures what is not done.

        Args:
            cells: What is to be there in the end.
            seconds: Of this slice: when they are over no cell is begun any more, and those under way are interrupted;
                they go on another time. None: as long as it takes.

        Returns:
            What has ended, in the order it did. A cell that fails is no error, and the others go on.

        Raises:
            RunFileError: The results file cannot be written, or has cells of another engine.
        """
        waiting, ended = deque(self.missing(cells)), list[CellEnded]()
        await asyncio.to_thread(self._work.mkdir, parents=True, exist_ok=True)
        await self._budget.ready()
        self._environment = await asyncio.to_thread(environment_of, self._backend.card, jobs=self._jobs)
        loop = asyncio.get_running_loop()
        timer = None if seconds is None else loop.call_later(seconds, self.stop)
        if seconds is not None and seconds <= 0:
            self.stop()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._jobs, len(waiting))):
                    group.create_task(self._work_off(waiting, ended))
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from None
        finally:
            if timer is not None:
                timer.cancel()
        return ended

    def stop(self) -> None:
        """Begins no cell any more, and interrupts those under way."""
        self._stop.set()
        self._fitting.stop()

    async def _work_off(self, waiting: deque[Cell], ended: list[CellEnded]) -> None:
        while (cell := await self._next(waiting)) is not None:
            self._under_way[cell.key] = cell
            try:
                one = await self._one(cell)
                ended.append(one)
                if self._on_cell is not None:
                    self._on_cell(one)
            except BaseException:
                waiting.clear()  # others, which are told of the end of this one first, begin nothing any more
                raise
            finally:
                del self._under_way[cell.key]
                self._one_ended.set()
            if one.ends_all:
                self._is_spent = True  # what is under way may still be paid for; nothing new is

    async def _next(self, waiting: deque[Cell]) -> Cell | None:
        """The first of those that wait; None: none is begun any more.

        One that a search under way may come to know waits for its end, so that nothing is paid for twice.
        """
        while waiting and not self._stop.is_set() and not self._is_spent:
            for index, cell in enumerate(waiting):
                if not may_be_known(cell, self._under_way.values()):
                    del waiting[index]
                    return cell
            self._one_ended.clear()
            await self._one_ended.wait()
        return None

    async def _one(self, cell: Cell) -> CellEnded:
        """Measures a cell and keeps what it came to."""
        journal = self._work / f"{cell.stem}.journal"
        known = known_of(cell, self._results.records, fingerprint=self._backend.card.fingerprint)
        if known is not None:
            record = {**known, **cell_fields(cell), "known_from": known["key"]}
            await asyncio.to_thread(self._keep, record, journal, None)
            return CellEnded(cell, "done", record)
        earlier = await asyncio.to_thread(self._earlier, cell, journal)
        watch = await _Watch.started(earlier)
        error: Exception | None = None
        fields: Mapping[str, Any] = {}
        try:
            status, fields = await unless_stopped(self._judged(cell, journal), self._stop, grace_s=_GRACE_S)
        except Interrupted:
            status = "interrupted"
        except Exception as failure:  # a method may be anyone's code, so it may raise anything; it is on record
            status, error = "failed", failure
        record = {
            "status": status,
            **cell_fields(cell),
            **fields,
            **await watch.read(),
            "error": None if error is None else f"{type(error).__name__}: {error}",
            "environment": self._environment,
        }
        await asyncio.to_thread(self._keep, record, journal, error)
        return CellEnded(cell, status, record, error, self._ends_all(status, error))

    async def _judged(self, cell: Cell, journal: Path) -> tuple[Status, Mapping[str, Any]]:
        """What it came to, and whether it is done."""
        begun = await asyncio.to_thread(Journals(self._work).begun, cell.stem)
        share = await share_of(self._budget, cell, begun, self._backend)
        measured = await measure(cell, self._setup(cell, share, journal), self._fitting)
        return _status(measured, share), measured.fields

    def _setup(self, cell: Cell, share: Budget, journal: Path) -> Setup:
        return Setup(
            self._backend,
            share,
            cell.seed,
            journal=journal,
            despite_changes=self._despite_changes,
            retry=self._retry,
            quotas=self._quotas,
            cache=self._cache,
        )

    def _ends_all(self, status: Status, error: Exception | None) -> bool:
        """Whether nothing is left for others: what its own budget refuses a cell is nobody else's, and neither is a
        quota that would never admit a call of its."""
        if isinstance(error, BudgetExceeded):
            return error.budget in {budget.name for budget in self._budget.line()}
        return status == "cut" or (isinstance(error, QuotaExceeded) and math.isfinite(error.wait_s))

    def _earlier(self, cell: Cell, journal: Path) -> Mapping[str, Any]:
        """The record of the try that this one goes on with; its times hold those of the ones before it."""
        last = next((one for one in reversed(self._results.records) if one["key"] == cell.key), {})
        return last if last.get("status") in ("interrupted", "failed", "cut") and journal.exists() else {}

    def _keep(self, record: dict[str, Any], journal: Path, error: Exception | None) -> None:
        self._results.add(record)
        if record["status"] == "done" or self._is_useless(journal, error):
            journal.unlink(missing_ok=True)

    def _is_useless(self, journal: Path, error: Exception | None) -> bool:
        """Whether nobody can go on from a journal, so that its cell has to begin anew."""
        if not isinstance(error, JournalError) or isinstance(error, JournalInUse):
            return False
        if not isinstance(error, JournalMismatch):
            return True
        before, now = header_of(journal)["versions"], self._environment["versions"]
        return not differences(before, {name: now.get(name, "") for name in before})  # else by what began it


def _status(measured: Measured, share: Budget) -> Status:
    """Whether a cell is done, or others have ended it whom it shares budget and quota with."""
    if measured.stopped == "interrupted":
        return "interrupted"
    if measured.stopped not in ("budget", "quota"):
        return "done"
    left = share.free("evaluations")  # what is lost counts: the search could not make it good
    if left is None or measured.stopped == "quota":
        return "cut"
    above = [limit for budget in share.line() if budget is not share for limit in budget.limits.values()]
    has_own_end = left < max(measured.generation, 1) or all(limit is None for limit in above)
    return "done" if has_own_end else "cut"


@dataclass(frozen=True, slots=True)
class _Watch:
    """How long a cell takes, those of its tries included that this one goes on with."""

    earlier: Mapping[str, Any]
    began_s: float
    began_cpu_s: float
    began_at: str

    @classmethod
    async def started(cls, earlier: Mapping[str, Any]) -> _Watch:
        now = datetime.fromtimestamp(outside().wall(), UTC).isoformat(timespec="seconds")
        return cls(
            earlier,
            asyncio.get_running_loop().time(),
            await asyncio.to_thread(cpu_seconds),
            str(earlier.get("began_at", now)),
        )

    async def read(self) -> dict[str, Any]:
        wall_s = asyncio.get_running_loop().time() - self.began_s
        cpu_s = await asyncio.to_thread(cpu_seconds) - self.began_cpu_s
        return {
            "began_at": self.began_at,
            "sessions": self.earlier.get("sessions", 0) + 1,
            "wall_s": round(self.earlier.get("wall_s", 0.0) + wall_s, 3),
            "cpu_s": round(self.earlier.get("cpu_s", 0.0) + cpu_s, 3),
        }
