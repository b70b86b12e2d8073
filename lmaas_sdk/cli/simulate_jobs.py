"""`lmaas simulate-jobs`: many runs on one quota and one budget, without sending anything."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.cli.conditions_options import add_conditions_options, conditions_of, note_free_money
from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.planning.jobs import TuningJob
from lmaas_sdk.planning.simulate_jobs import simulate_jobs
from lmaas_sdk.planning.synthetic import SyntheticTexts
from lmaas_sdk.reporting.progress import CountProgress
from lmaas_sdk.reporting.simulation_progress import JobsMoments
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tuning.presets import PRESETS, Preset

__all__ = ["add_command"]

_LATENCY_S = 1.0


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
    add_conditions_options(parser, latency_s=_LATENCY_S)
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


def _run(args: argparse.Namespace) -> int:
    preset, count = _preset(args), whole_number("--jobs", args.jobs, at_least=1)
    generations = whole_number("--generations", args.generations, at_least=1)
    evaluations, conditions = count * generations * preset.population, conditions_of(args)
    note_free_money(args, is_priced=conditions.price is not None)
    with CountProgress("evaluations", evaluations) as progress:
        found = simulate_jobs(
            _jobs(args, preset, count),
            budget=Budget(evaluations=evaluations, tokens=args.budget_tokens, usd=args.budget_usd),
            conditions=conditions,
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
