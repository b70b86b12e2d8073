"""The options of `lmaas serve`, and what they mean."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path

from lmaas_backends.roberta.accounts import ApiKeys, Terms
from lmaas_backends.roberta.wire_card import checked_zone
from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.backend import Limits, Price
from lmaas_sdk.errors import InvalidQuery

__all__ = ["KEYS_VARIABLE", "add_arguments", "read_keys", "read_terms"]

KEYS_VARIABLE = "LMAAS_SERVER_API_KEYS"
_THREADS_A_CORE = 4  # more never computes faster, and very many are never all started


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the server's options to a parser."""
    parser.add_argument("--model", default="roberta-tiny", help="roberta-tiny, a folder, or a name on the hub")
    parser.add_argument("--host", default="127.0.0.1", help="another than loopback needs API keys")
    parser.add_argument("--port", type=_whole(0, 65535), default=0, help="0: any free port")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    most_threads = _THREADS_A_CORE * (os.cpu_count() or 1)
    parser.add_argument(
        "--threads",
        type=_whole(1, most_threads),
        help=f"that compute, up to {most_threads} (default: by model and cores)",
    )
    parser.add_argument("--api-key-file", type=Path, help=f"one NAME=KEY a line (or ${KEYS_VARIABLE}, comma-separated)")
    parser.add_argument("--drain-timeout-s", type=_seconds, default=30.0, help="longest wait for calls at the end")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin closes")
    _add_terms(parser.add_argument_group("terms for each API key"))


def _add_terms(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--price-usd-per-1k-tokens", type=_amount, metavar="USD", help="such as 0.0004")
    group.add_argument("--balance-usd", type=_amount, metavar="USD", help="what a key may spend in all")
    group.add_argument("--requests-per-minute", type=_whole(1), metavar="N")
    group.add_argument("--tokens-per-minute", type=_whole(1), metavar="N")
    group.add_argument("--requests-per-day", type=_whole(1), metavar="N")
    group.add_argument("--time-zone", type=_zone, default="UTC", help="whose midnight ends a day, such as Europe/Rome")


def read_terms(args: argparse.Namespace) -> Terms:
    """Price, quotas and balance that the options ask for.

    Raises:
        ValueError: An amount is finer than a nano-dollar.
    """
    price = None
    if args.price_usd_per_1k_tokens is not None:
        per_million = nanousd(args.price_usd_per_1k_tokens * 1000)
        price = Price(per_million, source="the server's own price")
    daily = args.requests_per_day is not None
    limits = Limits(
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        requests_per_day=args.requests_per_day,
        day_time_zone=args.time_zone if daily else None,
    )
    return Terms(price, limits, None if args.balance_usd is None else nanousd(args.balance_usd))


def read_keys(args: argparse.Namespace) -> ApiKeys:
    """The API keys of the file and the environment.

    Raises:
        ValueError: An entry is malformed, or the server would be open to other machines without any key.
        OSError: The file cannot be read.
    """
    entries = os.environ.get(KEYS_VARIABLE, "").split(",")
    if args.api_key_file is not None:
        entries += args.api_key_file.read_text("utf-8").splitlines()
    keys = ApiKeys(entry for entry in entries if entry.strip() and not entry.lstrip().startswith("#"))
    if not keys and not _is_loopback(args.host):
        raise ValueError(
            f"--host {args.host} lets other machines call, so API keys are needed: --api-key-file or ${KEYS_VARIABLE}"
        )
    return keys


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least or (most is not None and int(text) > most):
            bound = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"a whole number {bound}, not {text!r}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    return float(_amount(text))


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"a number such as 0.0004, not {text!r}") from error
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError(f"a number of at least 0, not {text!r}")
    return amount


def _zone(text: str) -> str:
    try:
        return checked_zone(text)
    except InvalidQuery as error:
        raise argparse.ArgumentTypeError(str(error)) from error
