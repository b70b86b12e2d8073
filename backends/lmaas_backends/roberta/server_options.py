"""The options of `lmaas serve`, and what they mean."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path

from lmaas_backends.roberta.accounts import Accounts
from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.server_limits import ServerTerms, Table, read_limits_file, read_terms
from lmaas_backends.roberta.server_tls import add_tls_arguments
from lmaas_backends.roberta.wire_card import checked_zone
from lmaas_sdk.errors import InvalidQuery

__all__ = ["KEYS_VARIABLE", "add_arguments", "read_accounts", "read_keys", "read_server_terms"]

KEYS_VARIABLE = "LMAAS_SERVER_API_KEYS"
_LIMIT_OPTIONS = ("requests_per_minute", "tokens_per_minute", "requests_per_day")
_OPTION_OF = {
    "requests_per_minute": "--requests-per-minute",
    "tokens_per_minute": "--tokens-per-minute",
    "requests_per_day": "--requests-per-day",
    "day_time_zone": "--time-zone",
    "price": "--price-usd-per-1k-tokens",
    "balance_usd": "--balance-usd",
}
_MOST_POWER = 18  # of ten: more is a slip of the keyboard
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
        help=f"that compute side by side, up to {most_threads} (default: one a core; two on CUDA)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the linear maps; fewer bits are faster, and rank candidates that are close less well (float16: CUDA)",
    )
    parser.add_argument("--linears", choices=("auto", "packed", "plain"), default="auto", help="what computes them")
    queue_help = "of the calls that wait or compute, before 429 (default: what takes 30 s by the measured speed)"
    parser.add_argument("--max-queued-tokens", type=_whole(1), metavar="N", help=queue_help)
    keys_help = f"one NAME=KEY or NAME=sha256:HEX a line (or ${KEYS_VARIABLE}, comma-separated)"
    parser.add_argument("--api-key-file", type=Path, help=keys_help)
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep usage, quotas and answers over restarts")
    parser.add_argument("--drain-timeout-s", type=_seconds, default=30.0, help="longest wait for calls at the end")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin closes")
    add_tls_arguments(parser.add_argument_group("HTTPS, in place of plain HTTP"))
    _add_terms(parser.add_argument_group("terms for each API key"))


def _add_terms(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--limits", type=Path, metavar="FILE", help="prices, quotas and balances in TOML")
    group.add_argument("--price-usd-per-1k-tokens", type=_amount, metavar="USD", help="such as 0.0004")
    group.add_argument("--balance-usd", type=_amount, metavar="USD", help="what a key may spend in all")
    group.add_argument("--requests-per-minute", type=_whole(1), metavar="N", help="at each endpoint, as all quotas")
    group.add_argument("--tokens-per-minute", type=_whole(1), metavar="N")
    group.add_argument("--requests-per-day", type=_whole(1), metavar="N")
    zone_help = "whose midnight ends a day, such as Europe/Rome (default: UTC), or rolling: any 24 hours"
    group.add_argument("--time-zone", type=_zone, help=zone_help)


def read_accounts(args: argparse.Namespace) -> Accounts:
    """Who may call, and on which terms.

    Raises:
        ValueError: Options, files and environment do not fit together.
        OSError: A file cannot be read.
    """
    terms, keys = read_server_terms(args), read_keys(args)
    try:
        return Accounts(keys, terms.terms, terms.own_terms)
    except ValueError as error:
        raise ValueError(f"{args.limits}: {error}") from error


def read_server_terms(args: argparse.Namespace) -> ServerTerms:
    """Prices, quotas and balances that the options and the limits file ask for.

    Raises:
        ValueError: The file is wrong, or it and an option say the same thing.
        OSError: The file cannot be read.
    """
    if args.limits is None:
        return read_terms(_table_of(args, {}), "the options")
    table = read_limits_file(args.limits)
    return read_terms(_merged(table, _table_of(args, table), args.limits), str(args.limits))


def _table_of(args: argparse.Namespace, file: Table) -> dict[str, object]:
    """What the options say, in the form of a limits file."""
    limits = {option: getattr(args, option) for option in _LIMIT_OPTIONS if getattr(args, option) is not None}
    zone, filed = args.time_zone, file.get("limits")
    if zone is None and "requests_per_day" in limits and not (isinstance(filed, dict) and "day_time_zone" in filed):
        zone = "UTC"
    if zone is not None:
        limits["day_time_zone"] = zone
    table: dict[str, object] = {"limits": limits} if limits else {}
    if args.price_usd_per_1k_tokens is not None:
        table["price"] = {"input_usd_per_ktok": f"{args.price_usd_per_1k_tokens:f}"}
    if args.balance_usd is not None:
        table["balance_usd"] = f"{args.balance_usd:f}"
    return table


def _merged(file: Table, options: Table, path: Path) -> dict[str, object]:
    """Both tables in one.

    Raises:
        ValueError: They say the same thing.
    """
    filed, told = file.get("limits", {}), options.get("limits", {})
    if not isinstance(filed, dict) or not isinstance(told, dict):
        return dict(file)  # which is refused with its place
    twice = [_OPTION_OF.get(name, name) for name in told if name in filed]
    twice += [_OPTION_OF[name] for name in ("price", "balance_usd") if name in options and name in file]
    if twice:
        raise ValueError(f"{path} says for every key what {twice[0]} says too: give it in one place")
    return {**file, **options, "limits": {**filed, **told}}


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
    if not amount.is_finite() or amount < 0 or (amount and abs(amount.adjusted()) > _MOST_POWER):
        raise argparse.ArgumentTypeError(f"a number from 0 to 10^{_MOST_POWER}, not {text!r}")
    return amount or Decimal(0)


def _zone(text: str) -> str:
    try:
        return text if text == "rolling" else checked_zone(text)
    except InvalidQuery as error:
        raise argparse.ArgumentTypeError(str(error)) from error
