"""How the SDK logs: one logger a part, no handler of its own, and records that a program can tell apart.

Every record has `lmaas_event`, its name, and its values as `lmaas_...` attributes, beside a message made of the same
values. None of them is an API key, a text, a label word or the message of an error, which may quote any of these.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.amounts import UNITS

if TYPE_CHECKING:
    from lmaas_sdk.accounting.transfers import Label

__all__ = ["amount_fields", "call_fields", "log_event", "plain"]


def log_event(logger: logging.Logger, level: int, event: str, message: str, /, **fields: object) -> None:
    """Logs an event, if anybody listens at that level.

    Args:
        logger: Of the part that it happened in.
        level: As of `logging`.
        event: Its name.
        message: A %-format that names fields, put together only where it is shown.
        fields: What there is to know, without the prefix.
    """
    if logger.isEnabledFor(level):
        extra = {f"lmaas_{name}": value for name, value in fields.items()}
        logger.log(level, message, fields, extra={"lmaas_event": event, **extra}, stacklevel=2)


def call_fields(label: Label) -> dict[str, object]:
    """What a call is, without whose key it is sent under."""
    place, slash, endpoint = label.endpoint.rpartition("/")
    return {
        "call": label.key,
        "endpoint": f"{place}{slash}{endpoint.partition('@')[0]}",
        "purpose": label.purpose,
    }


def amount_fields(row: Sequence[int | Fraction], prefix: str = "") -> dict[str, object]:
    """Every unit of an amount."""
    return {f"{prefix}{unit}": plain(amount) for unit, amount in zip(UNITS, row, strict=True)}


def plain(amount: int | Fraction) -> int | float:
    """A number that any formatter can write."""
    return int(amount) if amount == int(amount) else float(amount)
