"""`lmaas simulate-jobs`: many runs on one quota and one budget, without sending anything."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Limits
from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.planning.conditions import Conditions, Latency
from lmaas_sdk.planning.jobs import TuningJob
from lmaas_sdk.planning.scenario import price_named
from lmaas_sdk.planning.simulate_jobs import simulate_jobs
from lmaas_sdk.planning.synthetic import SyntheticTexts
from lmaas_sdk.reporting.progress import CountProgress
from lmaas_sdk.reporting.simulation_progress import JobsMoments
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tuning.presets import PRESETS, Preset

__all__ = ["add_command"]

_QUOTAS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency")


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "simulate-jobs",
        help="play many runs through that share a quota and a budget, in virtual time",
        description="Plays tuning jobs of one organisation with the real group, tuners, client, ledger and quota in "
        "front of a synthetic model: who gets what, when all are done, and that nothing is exceeded.",
    )
    _add_jobs(parser.add_argument_group("jobs"))
    _add_budget(parser.add_argument_group("budget"))
    _add_provider(parser.add_argument_group("provider"))
    parser.add_argument("--seed", type=int, default=42, help="of everything (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else to stdout")
    parser.set_defaults(run=_run)


def _add_jobs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--jobs", type=int, default=100, metavar="N", help="how many (default: %(default)s)")
    group.add_argument(
        "--priorities",
        default="1",
        metavar="X,X,...",
        help="of one job after another, and again (default: %(default)s)",
    )
    group.add_argument("--preset", default="sep-tpa", choices=sorted(PRESETS), help="settings of every search")
    group.add_argument("--population", type=int, metavar="N", help="candidates of a generation, if not the preset's")
    group.add_argument("--d", type=int, metavar="N", help="dimensions that are searched, if not the preset's")
    group.add_argument("--texts", type=int, default=32, metavar="N", help="made-up ones (default: %(default)s)")
    group.add_argument("--tokens", type=int, default=25, metavar="N", help="of each by itself (default: %(default)s)")


def _add_budget(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--generations",
        type=int,
        default=20,
        metavar="N",
        help="of a job, on the average: as many evaluations as they take are shared by priority (default: %(default)s)",
    )
    group.add_argument("--budget-usd", metavar="AMOUNT", help="the most money for all, such as 500.00")
    group.add_argument("--budget-tokens", type=int, metavar="N", help="the most tokens for all")


def _add_provider(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--price", metavar="MODEL", help="such as gpt3-2022/davinci, or a name that `lmaas prices` has")
    for quota in _QUOTAS:
        group.add_argument(f"--{quota.replace('_', '-')}", type=int, metavar="N")
    group.add_argument("--day-time-zone", metavar="ZONE", help="whose midnight ends a day, such as Europe/Berlin")
    group.add_argument("--latency-s", type=float, default=1.0, metavar="SECONDS", help="median (default: %(default)s)")
    group.add_argument("--latency-spread", type=float, default=0.0, metavar="X", help="deviation of its logarithm")
    group.add_argument(
        "--began", metavar="TIME", help="such as 2026-03-01T09:30, in that zone, else UTC (default: now)"
    )


def _run(args: argparse.Namespace) -> int:
    preset, count = _preset(args), whole_number("--jobs", args.jobs, at_least=1)
    generations = whole_number("--generations", args.generations, at_least=1)
    evaluations = count * generations * preset.population
    with CountProgress("evaluations", evaluations) as progress:
        found = simulate_jobs(
            _jobs(args, preset, count),
            budget=Budget(evaluations=evaluations, tokens=args.budget_tokens, usd=args.budget_usd),
            conditions=_conditions(args),
            seed=args.seed,
            on_event=JobsMoments(progress).show,
        )
    print(json.dumps(found.to_dict(), indent=2) if args.json else found)
    return DONE


def _preset(args: argparse.Namespace) -> Preset:
    changes = {name: value for name in ("population", "d") if (value := getattr(args, name)) is not None}
    return replace(PRESETS[args.preset], **changes)


def _jobs(args: argparse.Namespace, preset: Preset, count: int) -> Sequence[TuningJob]:
    priorities = _priorities(args.priorities)
    train = SyntheticTexts(count=args.texts, tokens=args.tokens).dataset(args.seed, "train")
    return [
        TuningJob(
            f"job-{number}",
            train,
            preset=preset,
            seed=args.seed + number,
            priority=priorities[number % len(priorities)],
        )
        for number in range(count)
    ]


def _priorities(given: str) -> list[float]:
    try:
        return [float(priority) for priority in given.split(",")]
    except ValueError as error:
        raise ValueError(f"--priorities are numbers with commas between them, not {given!r:.80}") from error


def _conditions(args: argparse.Namespace) -> Conditions:
    limits = Limits(**{quota: getattr(args, quota) for quota in _QUOTAS}, day_time_zone=args.day_time_zone)
    conditions = Conditions(
        price=None if args.price is None else price_named(args.price),
        quotas=limits,
        latency=Latency(median_s=args.latency_s, spread=args.latency_spread),
    )
    return conditions if args.began is None else replace(conditions, began=_moment(args.began, args.day_time_zone))


def _moment(given: str, zone: str | None) -> datetime:
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise ValueError(f"--began is a time such as 2026-03-01T09:30, not {given!r:.60}") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC if zone is None else ZoneInfo(zone))
