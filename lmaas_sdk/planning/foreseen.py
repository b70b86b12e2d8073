"""What a run says of itself before its first call, so that its result can be held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.client import Client
from lmaas_sdk.planning.conditions import Conditions, Failures
from lmaas_sdk.planning.counted import CountedBackend
from lmaas_sdk.planning.draws import Knowledge
from lmaas_sdk.planning.estimated import Estimate, from_draws
from lmaas_sdk.planning.played import Played, play, worked_out
from lmaas_sdk.planning.setting import Setting
from lmaas_sdk.planning.work import Work, work_of
from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.plan import Plan, RunCosts
from lmaas_sdk.tuning.preparation import LabelledTexts
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.racing import Racing
from lmaas_sdk.tuning.scheduling import Scheduling

__all__ = ["foreseen"]

_RACES = 8  # played, to see what they may save


def foreseen(  # noqa: PLR0913  (made in one place)
    client: Client,
    preset: Preset,
    data: Mapping[str, LabelledTexts],
    *,
    scheduling: Scheduling,
    racing: Racing | None,
    costs: RunCosts,
    plan: Plan,
    budget: Budget,
) -> Estimate | None:
    """The estimate of a run that nobody gave one, if no attempt fails; its time is not known.

    It is worked out, which takes milliseconds: nothing is asked, and of the traffic nothing is played through.

    Args:
        client: Will send the calls.
        preset, data, scheduling, racing, costs, plan, budget: As the run has them.

    Returns:
        None where nothing but time limits the run.
    """
    if plan.generations is None:
        return None
    setting = Setting(
        backend=CountedBackend(client.backend),
        preset=preset,
        data=data,
        scheduling=scheduling,
        policy=RetryPolicy(),
        conditions=_conditions(client),
        knowledge=Knowledge(None, (), Failures(), None),
    )
    work = work_of(
        client,
        data,
        racing=racing,
        costs=costs,
        plan=plan,
        budget=budget,
        population=preset.population,
        over_ask=scheduling.over_ask,
    )
    early = setting.at_earliest(work)
    draws = _draws(setting, work)
    return from_draws(
        setting,
        budget,
        draws,
        early=[] if early is None else _draws(setting, early),
        probed=None,
        model=None,
        is_timed=False,
    )


def _draws(setting: Setting, work: Work) -> Sequence[Played]:
    if not work.is_raced:
        planned = work.plan.generations or 0
        return [worked_out(work, planned if work.most is None else min(planned, work.most))]
    generators = [np.random.Generator(bit_generator(0, f"estimate/{number}")) for number in range(_RACES)]
    return [play(work, setting.world, generator) for generator in generators]


def _conditions(client: Client) -> Conditions:
    """The quotas in force; one that allows nothing is for the run itself to complain about."""
    try:
        return Conditions(quotas=client.limits("score"))
    except ValueError:
        return Conditions()
