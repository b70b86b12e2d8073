"""What a simulation of many runs comes to: read from the results and, apart from these, from the ledger's entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lmaas_sdk.accounting.accounts import Entry
from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.limits import limits_of
from lmaas_sdk.backend import Limits
from lmaas_sdk.planning.fair_shares import FairShares, Share
from lmaas_sdk.planning.jobs import Bound, SimulatedJob, TuningJob
from lmaas_sdk.planning.recount import RunRows, most_in_a_day, most_in_any, peak, rows_by_run, sent_of
from lmaas_sdk.traffic.windows import DAY_S, MINUTE_S
from lmaas_sdk.tuning.group_result import GroupResult

__all__ = ["budget_bounds", "jobs_told", "quota_bounds"]

Cost = Callable[[Amounts], float]


def jobs_told(
    jobs: Sequence[TuningJob], result: GroupResult, entries: Sequence[Entry], *, limits: Limits
) -> tuple[SimulatedJob, ...]:
    """What came of each.

    Args:
        jobs: In their order.
        result: Of the group.
        entries: Of its ledger, all of them and oldest first.
        limits: The quota.
    """
    rows, began_s = rows_by_run(entries), entries[0].at
    shares = _shares(jobs, rows, _cost(limits))
    return tuple(_told(job, result, rows[job.name], share=shares[job.name], began_s=began_s) for job in jobs)


def _told(job: TuningJob, result: GroupResult, rows: RunRows, *, share: Share, began_s: float) -> SimulatedJob:
    run = result.get(job.name)
    return SimulatedJob(
        name=job.name,
        priority=job.priority,
        stopped="failed" if run is None else run.stopped,
        failure=_failure(result, job.name),
        generations=0 if run is None else len(run.generations),
        spent=result.spend[job.name],
        ended_s=None if rows.ended_s is None else rows.ended_s - began_s,
        used=share.used,
        fair=share.fair,
        highest=share.highest,
        lowest=share.lowest,
        ahead=share.ahead,
        behind=share.behind,
        waits=dict(sorted(rows.waits.items())),
    )


def _failure(result: GroupResult, name: str) -> str | None:
    """What ended it, whether it has a result or not."""
    failure = result[name].failure if name in result else result.failures.get(name)
    return None if failure is None else str(failure)


def _cost(limits: Limits) -> Cost:
    """What amounts take of the quota that binds."""
    requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
    if requests or tokens:
        request_s, token_s = (MINUTE_S / a_minute if a_minute else 0.0 for a_minute in (requests, tokens))
        return lambda amounts: max(amounts.calls * request_s, amounts.tokens * token_s)
    if limits.requests_per_day:
        return lambda amounts: float(amounts.calls)
    return lambda amounts: float(amounts.tokens)


def _shares(jobs: Sequence[TuningJob], rows: Mapping[str, RunRows], cost: Cost) -> Mapping[str, Share]:
    """Goes through all that happened in its order: who wanted how much, and who was served."""
    happened: list[tuple[int, str, float, bool]] = []
    for job in jobs:
        for first, last in rows[job.name].wanted:
            served = [(at, cost(amounts)) for at, amounts in rows[job.name].posted if first <= at <= last]
            happened.append((first, job.name, sum(amount for _, amount in served), True))
            happened += [(at, job.name, amount, False) for at, amount in served]
    turns = {job.name: _largest_turn(rows[job.name], cost) for job in jobs}
    fair = FairShares({job.name: job.priority for job in jobs}, turns)
    for _, name, amount, is_wanted in sorted(happened):
        (fair.wants if is_wanted else fair.served)(name, amount)
    return fair.shares


def _largest_turn(rows: RunRows, cost: Cost) -> float:
    """What its dearest generation took, with the look at dev that came after it; retries apart."""
    return max((sum(map(cost, turn.values())) for turn in rows.turns), default=0.0) or 1.0


def budget_bounds(budget: Budget, entries: Sequence[Entry]) -> list[Bound]:
    """How near they came to every limit of the budget that there is."""
    most = peak(entries)
    limited = zip(UNITS, limits_of(budget), strict=True)
    return [Bound(unit, limit, getattr(most, unit)) for unit, limit in limited if limit is not None]


def quota_bounds(limits: Limits, entries: Sequence[Entry]) -> list[Bound]:
    """How near they came to every quota of a minute or a day that there is."""
    sent = sent_of(entries)
    requests = [(one.at_s, 1) for one in sent]
    most = {
        "requests_per_minute": most_in_any(MINUTE_S, requests),
        "tokens_per_minute": most_in_any(MINUTE_S, [(one.at_s, one.tokens) for one in sent]),
        "requests_per_day": (
            most_in_any(DAY_S, requests) if limits.day_time_zone is None else most_in_a_day(limits.day_time_zone, sent)
        ),
    }
    limited = {name: getattr(limits, name) for name in most}
    return [Bound(name, limit, most[name]) for name, limit in limited.items() if limit is not None]
