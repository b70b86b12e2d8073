"""Whether any of several jobs can be run at all, before the first of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.limits import limits_of
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.planning.jobs import TuningJob
from lmaas_sdk.planning.playing import check_affordable
from lmaas_sdk.planning.scenario import Scenario

__all__ = ["check_any_affordable"]


async def check_any_affordable(jobs: Sequence[TuningJob], budget: Budget, scenario: Scenario, seed: int) -> None:
    """Refuses jobs of which none can do a generation with its part of the budget: a thousand failures tell no more.

    Args:
        jobs: With their priorities, which are checked.
        budget: What they share.
        scenario: The provider.
        seed: Of the check.

    Raises:
        LmaasError: As `check_affordable`, for the first of them.
    """
    whole, refused = sum(Fraction(job.priority) for job in jobs), []
    for job in _first_of_each_kind(jobs):
        part = _part(budget, Fraction(job.priority) / whole, job.name)
        own = replace(scenario, train=job.train, dev=job.dev, preset=job.preset, budget=part)
        try:
            await check_affordable(own, seed)
        except LmaasError as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def _first_of_each_kind(jobs: Sequence[TuningJob]) -> list[TuningJob]:
    """Of those with the same data and settings the one with the largest part."""
    kinds = {(id(job.train), id(job.dev), job.preset): job for job in sorted(jobs, key=lambda job: job.priority)}
    return list(kinds.values())


def _part(budget: Budget, part: Fraction, name: str) -> Budget:
    calls, evaluations, tokens, nanousd = (None if limit is None else int(limit * part) for limit in limits_of(budget))
    money = None if nanousd is None else usd(nanousd)
    return Budget(calls=calls, evaluations=evaluations, tokens=tokens, usd=money, name=name, warn_at=())
