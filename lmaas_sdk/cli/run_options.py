"""Options that every command which tunes has in common."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.cache_file import open_cache
from lmaas_sdk.traffic.quota_presets import QUOTA_PRESETS
from lmaas_sdk.tuning.presets import PRESETS, Preset, RacingChoice
from lmaas_sdk.tuning.scheduling import OnFailure, Scheduling, Stragglers

__all__ = [
    "Splits",
    "add_budget_options",
    "add_limit_options",
    "add_run_options",
    "add_search_options",
    "add_traffic_options",
    "budget_of",
    "opened_cache",
    "opened_ledger",
    "preset_of",
    "scheduling_of",
]


@dataclass(frozen=True, slots=True)
class Splits:
    """Data of a run; dev and test may be None."""

    train: Dataset
    dev: Dataset | None
    test: Dataset | None


def add_run_options(parser: argparse.ArgumentParser, *, preset: str) -> None:
    """Preset, seed, patience and form of the output."""
    parser.add_argument(
        "--preset", default=preset, choices=sorted(PRESETS), help="settings of the search (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the search and the subspace (default: %(default)s)")
    parser.add_argument("--max-wait-s", type=float, help="most seconds a call may wait for the provider's rate limit")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else to stdout")


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """When the search is over before its budget is, and what it does about the slow, the failed and the hopeless."""
    group = parser.add_argument_group("search")
    group.add_argument("--target", type=float, metavar="METRIC", help="end when dev comes up to it, such as 0.9")
    group.add_argument("--plateau", type=int, metavar="N", help="end after N generations without improvement; 0: never")
    group.add_argument(
        "--racing",
        choices=get_args(RacingChoice),
        help="score all on a part of the texts, the better ones on the rest (auto: where tokens or money bind)",
    )
    group.add_argument(
        "--stragglers",
        choices=get_args(Stragglers),
        default="wait",
        help="calls far slower than usual: wait, go on without, or send them once more (default: %(default)s)",
    )
    group.add_argument(
        "--over-ask", type=int, default=0, metavar="N", help="ask for N candidates more, and go on without the last N"
    )
    group.add_argument(
        "--failed",
        choices=get_args(OnFailure),
        default="drop",
        help="candidates without an answer: go on without, count as the worst, or score others (default: %(default)s)",
    )


def preset_of(args: argparse.Namespace) -> Preset:
    """The preset with what the options change in it.

    Raises:
        ValueError: A setting is out of its range.
    """
    changes = {name: value for name in ("racing", "plateau") if (value := getattr(args, name)) is not None}
    if changes.get("plateau") == 0:
        changes["plateau"] = None
    return replace(PRESETS[args.preset], **changes)


def scheduling_of(args: argparse.Namespace) -> Scheduling:
    """What the options say about slow and failed calls.

    Raises:
        ValueError: A setting is out of its range.
    """
    return Scheduling(stragglers=args.stragglers, over_ask=args.over_ask, failed=args.failed)


def add_limit_options(parser: argparse.ArgumentParser, *, without: str = "8000 evaluations") -> argparse._ArgumentGroup:
    """The limits of a run, each hard; `without` is said to be the limit where none is given."""
    group = parser.add_argument_group(f"budget (hard limits; none of them given: {without})")
    group.add_argument("--budget-evaluations", type=int, metavar="N")
    group.add_argument("--budget-calls", type=int, metavar="N")
    group.add_argument("--budget-tokens", type=int, metavar="N")
    group.add_argument("--budget-usd", metavar="AMOUNT", help="such as 5.00")
    group.add_argument("--budget-wall-s", type=float, metavar="SECONDS")
    return group


def add_budget_options(parser: argparse.ArgumentParser, *, without: str = "8000 evaluations") -> None:
    """The limits of a run, and where they are booked; `without` as of `add_limit_options`."""
    group = add_limit_options(parser, without=without)
    group.add_argument(
        "--ledger", type=Path, metavar="FILE", help="book every call there; runs that share it share their budget"
    )
    group.add_argument("--budget-name", metavar="NAME", default="budget", help="of the budget in the ledger")


def add_traffic_options(parser: argparse.ArgumentParser) -> None:
    """What goes out when, and what is not sent again."""
    group = parser.add_argument_group("traffic")
    group.add_argument(
        "--quotas", choices=sorted(QUOTA_PRESETS), help="a provider's quotas, beside those that the server tells"
    )
    group.add_argument("--cache", type=Path, metavar="FILE", help="keep answers there, for later runs too")
    group.add_argument("--no-cache", action="store_true", help="send identical calls again")


@asynccontextmanager
async def opened_ledger(args: argparse.Namespace) -> AsyncIterator[Ledger | None]:
    """The ledger file that the options ask for, open; None: they ask for none."""
    if args.ledger is None:
        yield None
        return
    async with open_ledger(args.ledger) as ledger:
        yield ledger


@asynccontextmanager
async def opened_cache(args: argparse.Namespace) -> AsyncIterator[ReplyCache | bool]:
    """The cache that the options ask for, open; True: one in memory; False: none.

    Raises:
        ValueError: They ask for a file and for none.
    """
    if args.cache is None:
        yield not args.no_cache
        return
    if args.no_cache:
        raise ValueError("--cache FILE and --no-cache exclude each other")
    async with open_cache(args.cache) as cache:
        yield cache


def budget_of(args: argparse.Namespace, ledger: Ledger | None = None) -> Budget | None:
    """The budget that the options ask for; None where they ask for none.

    Raises:
        ValueError: A limit is negative or no number.
        LedgerConflict: The ledger has it with other limits.
    """
    budget = Budget(
        calls=args.budget_calls,
        evaluations=args.budget_evaluations,
        tokens=args.budget_tokens,
        usd=args.budget_usd,
        wall_s=args.budget_wall_s,
        name=args.budget_name,
        ledger=ledger,
        warn_at=(),  # the display shows how far it has got
    )
    return budget if ledger is not None or any(limit is not None for limit in budget.limits.values()) else None
