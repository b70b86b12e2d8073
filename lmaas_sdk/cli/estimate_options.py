"""Options that say what a provider is like."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import PriceTable, read_price_table
from lmaas_sdk.backend import Limits
from lmaas_sdk.planning.conditions import Conditions, Failures, Latency, Outage
from lmaas_sdk.traffic.quota_presets import QUOTA_PRESETS, Quotas

__all__ = ["add_conditions_options", "add_price_options", "conditions_of", "day_of", "tables_of"]

_KINDS = ("refused", "rate_limit", "server_fault", "timeout")


def add_conditions_options(parser: argparse.ArgumentParser) -> None:
    """Quotas, latency, failures, and when it begins."""
    quotas = parser.add_argument_group("quotas, beside those that the server tells")
    quotas.add_argument("--quotas", choices=sorted(QUOTA_PRESETS), help="those of a provider")
    quotas.add_argument("--requests-per-minute", type=int, metavar="N")
    quotas.add_argument("--tokens-per-minute", type=int, metavar="N")
    quotas.add_argument("--requests-per-day", type=int, metavar="N")
    quotas.add_argument("--day-time-zone", metavar="ZONE", help="whose midnight ends a day (default: any 24 hours)")
    quotas.add_argument("--concurrency", type=int, metavar="N", help="requests under way at once")
    latency = parser.add_argument_group("latency (none given or learned: time is that of the quota alone, if any)")
    latency.add_argument("--latency-s", type=float, metavar="SECONDS", help="the median of an attempt")
    latency.add_argument("--latency-spread", type=float, default=0.0, help="standard deviation of its logarithm")
    latency.add_argument("--latency-per-text-s", type=float, default=0.0, help="more for each text and candidate")
    latency.add_argument("--slow", type=float, default=0.0, help="part of the attempts that are stragglers")
    latency.add_argument("--slow-factor", type=float, default=20.0, help="how many times as long these take")
    failures = parser.add_argument_group("failures")
    failures.add_argument(
        "--fail",
        action="append",
        default=[],
        type=_chance,
        metavar="KIND=CHANCE",
        help=f"such as timeout=0.02; {', '.join(_KINDS)}; repeatable",
    )
    failures.add_argument("--faults-charged", action="store_true", help="a server fault is charged")
    failures.add_argument(
        "--outage",
        action="append",
        default=[],
        type=_outage,
        metavar="AFTER:SECONDS",
        help="nobody answers; repeatable",
    )
    parser.add_argument(
        "--began", type=_moment, metavar="MOMENT", help="when it begins, such as 2026-03-28T09:00+01:00 (default: now)"
    )


def add_price_options(parser: argparse.ArgumentParser) -> None:
    """Of which models, where from, and when."""
    prices = parser.add_argument_group("prices")
    prices.add_argument(
        "--models", type=_names, default=(), metavar="NAMES", help="compare their prices, such as ada,davinci"
    )
    prices.add_argument("--on", type=_date, metavar="DATE", help="the day the prices hold on (default: today)")
    prices.add_argument("--table", action="append", default=[], type=Path, metavar="FILE", help="your own, in TOML")


def conditions_of(args: argparse.Namespace) -> Conditions:
    """What the options say of the provider.

    Raises:
        ValueError: A value is out of its range, or a preset and limits are given.
    """
    return Conditions(quotas=_quotas(args), latency=_latency(args), failures=_failures(args), began=args.began)


def tables_of(args: argparse.Namespace) -> Sequence[PriceTable]:
    """One's own prices."""
    return [read_price_table(path) for path in args.table]


def day_of(args: argparse.Namespace) -> datetime.date | None:
    """The day that prices are to hold on; every model's is looked up, so that one without is told at once.

    Raises:
        UnknownPrice: A model has none on that day.
    """
    for model in args.models:
        find_price(model, tables=tables_of(args), on=args.on)
    on: datetime.date | None = args.on
    return on


def _quotas(args: argparse.Namespace) -> Quotas | None:
    named = {field.name: getattr(args, field.name) for field in fields(Limits)}
    if all(limit is None for limit in named.values()):
        preset: str | None = args.quotas
        return preset
    if args.quotas is not None:
        raise ValueError(f"--quotas {args.quotas} says all of them: leave the other limits out")
    return Limits(**named)


def _latency(args: argparse.Namespace) -> Latency | None:
    if args.latency_s is None:
        if any((args.latency_spread, args.latency_per_text_s, args.slow)):
            raise ValueError("say how long an attempt takes: --latency-s SECONDS")
        return None
    return Latency(args.latency_s, args.latency_spread, args.latency_per_text_s, args.slow, args.slow_factor)


def _failures(args: argparse.Namespace) -> Failures:
    return Failures(**dict(args.fail), charged=args.faults_charged, outages=tuple(args.outage))


def _chance(text: str) -> tuple[str, float]:
    kind, _, chance = text.partition("=")
    if kind not in _KINDS:
        raise argparse.ArgumentTypeError(f"a failure is one of {', '.join(_KINDS)}, not {kind!r}")
    return kind, _number(chance, "a chance is a number, such as 0.02")


def _outage(text: str) -> Outage:
    after, _, lasts = text.partition(":")
    why = "an outage is written as AFTER:SECONDS, such as 3600:600"
    try:
        return Outage(_number(after, why), _number(lasts, why))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _number(text: str, why: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{why}, not {text!r}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a date is written as 2026-01-31, not {text!r}") from error


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a moment is written as 2026-03-28T09:00+01:00, not {text!r}") from error
    return moment if moment.tzinfo is not None else moment.astimezone()
