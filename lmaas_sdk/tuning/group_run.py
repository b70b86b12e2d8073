"""One `TunerGroup.fit`: who gets what, all runs side by side, and what came of them."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.quantities import Quantities
from lmaas_sdk.accounting.shares import Share
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.logs import log_event
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.traffic.concurrency import most_at_once
from lmaas_sdk.traffic.lane import limits_of, scope_of
from lmaas_sdk.traffic.quota_presets import Quotas
from lmaas_sdk.tuning.events import Event
from lmaas_sdk.tuning.group_journals import Begun, Journals
from lmaas_sdk.tuning.group_result import GroupResult, in_words
from lmaas_sdk.tuning.journal_place import JournalPlace
from lmaas_sdk.tuning.pool import Member, Pool, split
from lmaas_sdk.tuning.result import TuningResult, limits_in_force
from lmaas_sdk.tuning.sharing import Sharing
from lmaas_sdk.tuning.tuner import Tuner, one_of_several
from lmaas_sdk.tuning.turns import Flow, Turns

__all__ = ["GroupRun", "Job", "Tell"]

Tell = Callable[[str, Event], None]
_MOST_NOTED = 10  # of failures, where all have failed
_logger = logging.getLogger("lmaas_sdk.tuning")


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One of the runs, as it was added.

    Args:
        name: What it is called.
        tuner: Its settings.
        train, dev: Its data.
        given: What else `Tuner.fit` is given.
        priority: Its part of budget and quota, in relation to the others'.
        quotas: As of `Tuner`.
        options: For its journal.
    """

    name: str
    tuner: Tuner
    train: Dataset
    dev: Dataset | None
    given: Mapping[str, Any]
    priority: Fraction
    quotas: Quotas | None
    options: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Entry:
    """A run and its books.

    Args:
        job: The run.
        account: What it spends is booked there, in this process and in others.
        begun: What its journal holds; None: it begins anew.
        before: What was posted in the account when this began.
    """

    job: Job
    account: Budget
    begun: Begun | None
    before: Amounts

    @property
    def is_booked(self) -> bool:
        """Whether the account has what the journal says was spent."""
        return self.begun is not None and not self.begun.spent.is_over(self.before)

    def spent(self, unit: str) -> int:
        """What it had spent before; the books know of calls whose answer the journal has not."""
        if self.begun is None:
            return 0
        amount: int | Fraction = getattr(self.before if self.is_booked else self.begun.spent + self.begun.lost, unit)
        return math.ceil(amount)

    @property
    def cost(self) -> Amounts:
        """What it has cost so far."""
        return self.account.posted if self.is_booked else self.account.posted - self.before


class GroupRun:
    """The runs of a group, under way.

    Args:
        budget: What they share.
        jobs: They.
        journals: Where they keep their journals; None: they keep none.
        tell: Takes every event.
    """

    def __init__(self, budget: Budget, jobs: Sequence[Job], journals: Journals | None, tell: Tell) -> None:
        self._budget, self._jobs, self._journals, self._tell = budget, jobs, journals, tell
        self._tuners: list[Tuner] = []
        self._is_stopped = False
        self._turns: dict[object, Turns] = {}
        self._results: dict[str, TuningResult] = {}
        self._failures: dict[str, Exception] = {}

    def stop(self) -> None:
        """Ends every run after its generation."""
        self._is_stopped = True
        for tuner in self._tuners:
            tuner.stop()

    async def result(self, max_wait_s: float | None) -> GroupResult:
        """Runs them.

        Raises:
            Exception: As `TunerGroup.fit` says.
        """
        clock = asyncio.get_running_loop().time
        began_s = clock()
        entries = await self._entries()
        members, rest = self._shares(entries)
        pool = Pool(members.values(), rest)
        try:
            async with asyncio.TaskGroup() as group:
                for entry, member in members.items():
                    group.create_task(self._one(entry, member, pool, max_wait_s), name=f"run {entry.job.name}")
        finally:
            for member in members.values():
                member.share.lift()
        await self._budget.ledger.flush()
        self._check_any()
        return GroupResult(
            results=self._in_order(self._results),
            failures=self._in_order(self._failures),
            spend={entry.job.name: entry.cost for entry in entries},
            budget=limits_in_force(self._budget),
            wall_s=clock() - began_s,
        )

    def _in_order(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {job.name: found[job.name] for job in self._jobs if job.name in found}

    def _check_any(self) -> None:
        """Raises the first failure, with notes of the others, where there is nothing else."""
        if self._results:
            return
        first, *others = self._in_order(self._failures).items()
        name, error = first
        error.add_note(f"all runs of the group have failed; this is the error of {name!r}")
        for name, other in others[:_MOST_NOTED]:
            error.add_note(f"{name}: {in_words(other)}")
        if len(others) > _MOST_NOTED:
            error.add_note(f"and {len(others) - _MOST_NOTED} more")
        raise error

    # -- before the first call

    async def _entries(self) -> list[_Entry]:
        begun = {} if self._journals is None else await asyncio.to_thread(self._begun, self._journals)
        accounts = {job.name: self._budget.child(job.name) for job in self._jobs}
        for account in (self._budget, *accounts.values()):
            await account.ready()
        return [_Entry(job, accounts[job.name], begun.get(job.name), accounts[job.name].posted) for job in self._jobs]

    def _begun(self, journals: Journals) -> dict[str, Begun | None]:
        """What every journal holds; a run whose journal is of no use has failed."""
        journals.make_folder()
        found = {}
        for job in self._jobs:
            try:
                found[job.name] = journals.begun(job.name)
            except LmaasError as error:
                self._failed(job.name, error)
        return found

    def _shares(self, entries: Sequence[_Entry]) -> tuple[dict[_Entry, Member], Quantities]:
        """Everybody's part of what is free and what they have spent of it before; and what is left beyond these.

        Who has spent more than his part, of what others had left, has borrowed it until they leave it again. The part
        of a run whose journal is of no use is nobody's: nobody knows what it has spent.
        """
        limits: dict[_Entry, list[int | None]] = {entry: [] for entry in entries}
        borrowed = [0, 0, 0, 0]
        for at, unit in enumerate(UNITS):
            parts = self._parts(unit, entries)
            for entry, part in zip(entries, parts, strict=True):
                spent = entry.spent(unit)
                booked = spent if entry.is_booked else 0
                limits[entry].append(None if part is None else max(part, spent) - booked)
                borrowed[at] += 0 if part is None else max(0, spent - part)
        members = {
            entry: Member(entry.job.priority, Share(entry.account, limits[entry]))
            for entry in entries
            if entry.job.name not in self._failures
        }
        calls, evaluations, tokens, nanousd = (-amount for amount in borrowed)
        return members, (calls, evaluations, tokens, nanousd)

    def _parts(self, unit: str, entries: Sequence[_Entry]) -> Sequence[int | None]:
        free = self._budget.least_free(unit)
        if free is None:
            return [None] * len(entries)
        booked = sum(entry.spent(unit) for entry in entries if entry.is_booked)
        return split(math.floor(free) + booked, [entry.job.priority for entry in entries])

    # -- one of them

    async def _one(self, entry: _Entry, member: Member, pool: Pool, max_wait_s: float | None) -> None:
        name = entry.job.name
        try:
            self._results[name] = await self._fitted(entry, member, pool, max_wait_s)
        except Exception as error:  # searches and listeners may be anyone's code, and are no affair of the others
            self._failed(name, error)
        await pool.leave(member)

    async def _fitted(self, entry: _Entry, member: Member, pool: Pool, max_wait_s: float | None) -> TuningResult:
        job = entry.job
        flow = self._flow(job, member.share.budget)
        sharing = Sharing(flow.turn, functools.partial(pool.more, member), flow.in_flight)
        tuner = one_of_several(job.tuner, sharing, budget=member.share.budget, place=self._place(entry))
        self._tuners.append(tuner)
        listen = functools.partial(self._heard, tuner, job.name)
        try:
            return await tuner.fit(job.train, job.dev, **job.given, max_wait_s=max_wait_s, on_event=listen)
        finally:
            flow.end()

    def _flow(self, job: Job, budget: Budget) -> Flow:
        """Its turns on its backend: on all connections of one API key, where a backend tells that."""
        backend = job.tuner.backend
        key: object = scope_of(backend, "score") if getattr(backend, "account", "") else id(backend)
        if key not in self._turns:
            limits = limits_of(backend.card, "score", job.quotas)
            self._turns[key] = Turns(limits, limits.concurrency or most_at_once(backend.card))
        return Flow(self._turns[key], float(job.priority), lambda: budget.posted)

    def _place(self, entry: _Entry) -> JournalPlace | None:
        if self._journals is None:
            return None
        job = entry.job
        return self._journals.place(job.name, entry.begun, is_booked=entry.is_booked, options=job.options)

    def _heard(self, tuner: Tuner, name: str, event: Event) -> None:
        if self._is_stopped:
            tuner.stop()  # its fit had not begun when the group was stopped
        self._tell(name, event)

    def _failed(self, name: str, error: Exception) -> None:
        self._failures[name] = error
        log_event(
            _logger,
            logging.WARNING,
            "run_failed",
            "run %(run)r of a group has failed, and the others go on: %(error)s",
            run=name,
            error=type(error).__name__,
        )
