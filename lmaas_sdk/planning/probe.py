"""A few real calls, booked like any others, to see how long answers take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.client import Client
from lmaas_sdk.outside import outside
from lmaas_sdk.tuning.parts import Part
from lmaas_sdk.tuning.preparation import LabelledTexts
from lmaas_sdk.tuning.scheduler import Scheduler

__all__ = ["Probe", "probe_costs", "probed"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen.

    Args:
        measured_s: Seconds from sending to answer, of each call.
        spent: What all attempts cost.
    """

    measured_s: tuple[float, ...]
    spent: Amounts


async def probed(client: Client, train: LabelledTexts, *, candidates: int, calls: int) -> Probe:
    """Sends calls like those of a generation one after the other: under the prompt that a search starts from.

    They are booked under the purpose `probe`, and are no evaluations.

    Args:
        client: Sends and pays; it keeps no answers, or the second call would be none.
        train: The training set.
        candidates: Of a generation.
        calls: How many.

    Raises:
        BudgetExceeded: The budget does not pay for them.
        BackendError: One failed for good.
    """
    scheduler = Scheduler(client, outside().new_id())
    part = _part(scheduler, train, candidates)
    measured = [await _seconds(client, scheduler.under_another_key(part, f"probe {number}")) for number in range(calls)]
    return Probe(tuple(measured), client.spend.total)


def probe_costs(client: Client, train: LabelledTexts, *, candidates: int, calls: int) -> Amounts:
    """The most that it takes; arguments as of `probed`."""
    return _part(Scheduler(client, "planning"), train, candidates).call.worst.times(calls)


def _part(scheduler: Scheduler, train: LabelledTexts, candidates: int) -> Part:
    subspace = train.scorable.subspace
    Z = None if subspace is None else np.zeros((candidates, subspace.d), np.float32)
    return scheduler.parts(train.scorable, Z, "probe", label="probe")[0]


async def _seconds(client: Client, part: Part) -> float:
    clock, sent_s = asyncio.get_running_loop().time, 0.0

    def on_sent() -> None:
        nonlocal sent_s
        sent_s = clock()

    await client.score(part.call, on_sent=on_sent)
    return clock() - sent_s
