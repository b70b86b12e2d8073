"""Options that every command which tunes has in common."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tuning.presets import PRESETS

__all__ = ["Splits", "add_budget_options", "add_run_options", "budget_of"]


@dataclass(frozen=True, slots=True)
class Splits:
    """Data of a run; dev and test may be None."""

    train: Dataset
    dev: Dataset | None
    test: Dataset | None


def add_run_options(parser: argparse.ArgumentParser, *, preset: str) -> None:
    """Preset, seed, patience and form of the output."""
    parser.add_argument("--preset", default=preset, choices=sorted(PRESETS), help="settings of the search")
    parser.add_argument("--seed", type=int, default=42, help="of the search and the subspace (default: %(default)s)")
    parser.add_argument("--max-wait-s", type=float, help="most seconds a call may wait for the provider's rate limit")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else to stdout")


def add_budget_options(parser: argparse.ArgumentParser) -> None:
    """The limits of a run, each hard."""
    group = parser.add_argument_group("budget (hard limits; none of them given: 8000 evaluations)")
    group.add_argument("--budget-evaluations", type=int, metavar="N")
    group.add_argument("--budget-calls", type=int, metavar="N")
    group.add_argument("--budget-tokens", type=int, metavar="N")
    group.add_argument("--budget-usd", metavar="AMOUNT", help="such as 5.00")
    group.add_argument("--budget-wall-s", type=float, metavar="SECONDS")


def budget_of(args: argparse.Namespace) -> Budget | None:
    """The budget that the options ask for; None where they ask for none.

    Raises:
        ValueError: A limit is negative or no number.
    """
    budget = Budget(
        calls=args.budget_calls,
        evaluations=args.budget_evaluations,
        tokens=args.budget_tokens,
        usd=args.budget_usd,
        wall_s=args.budget_wall_s,
    )
    return budget if any(limit is not None for limit in budget.limits.values()) else None
