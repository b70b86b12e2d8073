"""Options about the provider and the calendar, the same for every command that plans."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from lmaas_sdk.backend import Limits
from lmaas_sdk.planning.conditions import Conditions, Failures, Latency, Outage
from lmaas_sdk.planning.scenario import price_named
from lmaas_sdk.traffic.quota_presets import QUOTA_PRESETS, Quotas, quotas_of

__all__ = ["add_conditions_options", "conditions_of", "note_free_money"]

_COUNTS = {
    "requests_per_minute": None,
    "tokens_per_minute": None,
    "requests_per_day": None,
    "concurrency": "most requests under way at once; goes with --quotas, too",
}
_KINDS = {
    "refused": "nobody took it",
    "rate_limit": "a 429",
    "server_fault": "it was lost within the server",
    "timeout": "its answer was lost, and is charged",
}
_STRAGGLERS_FACTOR = 20.0
_FIRST_YEAR, _LAST_YEAR = 1970, 2999  # so that what follows has a date


def add_conditions_options(parser: argparse.ArgumentParser, *, latency_s: float | None = None) -> None:
    """Price, quotas, latency, failures, and when it begins.

    Args:
        parser: Of the command.
        latency_s: The median where none is given; None: none, so that nothing is known of it.
    """
    group = parser.add_argument_group("provider and calendar")
    group.add_argument("--price", metavar="MODEL", help="such as gpt3-2022/davinci, or a name that `lmaas prices` has")
    group.add_argument("--quotas", choices=sorted(QUOTA_PRESETS), help="those of a provider, by name")
    for quota, said in _COUNTS.items():
        group.add_argument(_option(quota), type=int, metavar="N", help=said)
    group.add_argument(
        "--day-time-zone", metavar="ZONE", help="whose midnight ends a day, such as Europe/Berlin (default: any 24 h)"
    )
    group.add_argument(
        "--began", metavar="TIME", help="such as 2026-03-01 or 2026-03-01T09:30, in that zone, else UTC (default: now)"
    )
    _add_latency(parser.add_argument_group("latency"), latency_s)
    _add_failures(parser.add_argument_group("failures"))


def _add_latency(group: argparse._ArgumentGroup, latency_s: float | None) -> None:
    unless = "none" if latency_s is None else f"{latency_s:g}"
    group.add_argument(
        "--latency-s",
        type=float,
        default=latency_s,
        metavar="SECONDS",
        help=f"median of an attempt (default: {unless})",
    )
    group.add_argument("--latency-spread", type=float, metavar="X", help="standard deviation of its logarithm")
    group.add_argument("--latency-per-text-s", type=float, metavar="SECONDS", help="more for each text and candidate")
    group.add_argument("--stragglers-part", type=float, metavar="PART", help="of the attempts that are stragglers")
    group.add_argument(
        "--stragglers-factor",
        type=float,
        metavar="X",
        help=f"how many times as long these take (default: {_STRAGGLERS_FACTOR:g})",
    )


def _add_failures(group: argparse._ArgumentGroup) -> None:
    for kind, said in _KINDS.items():
        group.add_argument(_option(kind), type=float, default=0.0, metavar="P", help=f"chance of an attempt: {said}")
    group.add_argument("--charged", action="store_true", help="a server fault is charged")
    group.add_argument(
        "--outage",
        action="append",
        default=[],
        metavar="AFTER,SECONDS",
        help="nobody answers: from so many seconds on, for so many; repeatable",
    )


def conditions_of(args: argparse.Namespace) -> Conditions:
    """What the options say of provider and calendar.

    Raises:
        ValueError: A value cannot be read or is out of its range, or two exclude each other; the message names it.
        UnknownPrice: Nobody has a price of that model.
    """
    quotas = _quotas(args)
    return Conditions(
        price=None if args.price is None else price_named(args.price),
        quotas=quotas,
        latency=_latency(args),
        failures=Failures(
            **{kind: getattr(args, kind) for kind in _KINDS},
            charged=args.charged,
            outages=tuple(map(_outage, args.outage)),
        ),
        began=None if args.began is None else _began(args.began, quotas),
    )


def note_free_money(args: argparse.Namespace, *, is_priced: bool) -> None:
    """Says on stderr that a budget of money limits nothing where nothing costs any."""
    if args.budget_usd is not None and not is_priced:
        print(
            f"note: no price is known, so that --budget-usd {args.budget_usd} limits nothing: give one by --price",
            file=sys.stderr,
        )


def _quotas(args: argparse.Namespace) -> Quotas | None:
    limits = Limits(**{field.name: getattr(args, field.name) for field in fields(Limits)})
    if limits.day_time_zone is not None and limits.requests_per_day is None:
        raise ValueError("--day-time-zone is whose days --requests-per-day counts: give both")
    if args.quotas is None:
        return None if limits == Limits() else limits
    if replace(limits, concurrency=None) != Limits():
        raise ValueError("--quotas NAME and limits of your own exclude each other, --concurrency apart")
    preset: str = args.quotas
    if limits.concurrency is None:
        return preset
    return {
        endpoint: replace(named, concurrency=limits.concurrency) for endpoint, named in QUOTA_PRESETS[preset].items()
    }


def _latency(args: argparse.Namespace) -> Latency | None:
    others = {
        "spread": args.latency_spread,
        "per_text_s": args.latency_per_text_s,
        "slow": args.stragglers_part,
        "slow_factor": args.stragglers_factor,
    }
    given = {name: value for name, value in others.items() if value is not None}
    if args.latency_s is None:
        if given:
            raise ValueError("say how long an attempt takes, 0 if by its texts alone: --latency-s SECONDS")
        return None
    return Latency(args.latency_s, **({"slow_factor": _STRAGGLERS_FACTOR} | given))


def _began(given: str, quotas: Quotas | None) -> datetime:
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise ValueError(f"--began is a time such as 2026-03-01T09:30, not {given!r:.60}") from error
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(f"--began is in a year from {_FIRST_YEAR} to {_LAST_YEAR}, not {moment.year}")
    if moment.tzinfo is not None:
        return moment
    limits = quotas_of(quotas, "score")
    zone = None if limits is None else limits.day_time_zone
    return moment.replace(tzinfo=UTC if zone is None else ZoneInfo(zone))


def _outage(text: str) -> Outage:
    try:
        after_s, lasts_s = map(float, text.split(","))
    except ValueError as error:
        raise ValueError(f"--outage is AFTER,SECONDS, such as 3600,600, not {text!r:.60}") from error
    return Outage(after_s, lasts_s)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
