"""What a tuner is given by name, checked when it is given: a message says the option, the value and its type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from numbers import Rational, Real
from os import PathLike
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import ModelCard
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.scheduling import Scheduling

__all__ = ["check_backend", "check_cache", "check_factory", "check_kinds", "checked_priority", "plain_options"]

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "budget": (Budget, "a Budget, such as Budget(usd='5.00')"),
    "scheduling": (Scheduling, "a Scheduling, such as Scheduling(stragglers='drop')"),
    "retry": (RetryPolicy, "a RetryPolicy, such as RetryPolicy(attempts=3)"),
    "journal": ((str, PathLike), "the path of a file, such as 'run.journal'"),
    "journals": ((str, PathLike), "the path of a folder, such as 'runs'"),
    "options": (Mapping, "a mapping of names to plain values, such as {'note': 'first try'}"),
}


def check_kinds(**given: object) -> None:
    """Refuses an option of another type than its own; None is left out.

    Raises:
        TypeError: It names the option.
    """
    for name, value in given.items():
        kind, what = _KINDS[name]
        if value is not None and not isinstance(value, kind):
            raise _wrong(name, what, value)


def check_backend(backend: object) -> None:
    """Refuses what is no open backend.

    Raises:
        TypeError: It has no card.
    """
    if not isinstance(getattr(backend, "card", None), ModelCard):
        what = "an open one, such as `async with load_backend('roberta-tiny') as backend` gives"
        raise _wrong("backend", what, backend)


def check_cache(cache: object) -> None:
    """Refuses what keeps no answers.

    Raises:
        TypeError: It is no bool, and has no `get` and `put`.
    """
    keeps = callable(getattr(cache, "get", None)) and callable(getattr(cache, "put", None))
    if not isinstance(cache, bool) and not keeps:
        what = "True, False or an open ReplyCache, such as `async with open_cache(FILE) as cache` gives"
        raise _wrong("cache", what, cache)


def check_factory(optimizer: object) -> None:
    """Refuses what cannot make a search; what it makes is looked at when it has made it.

    Raises:
        TypeError: It cannot be called.
    """
    if optimizer is not None and not callable(optimizer):
        raise _wrong("optimizer", "what makes a search of its dimension and a seed: (d, seed)", optimizer)


def plain_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of the options for a journal.

    Raises:
        TypeError: They are no mapping, or JSON has no spelling for a value.
    """
    check_kinds(options=options)
    plain = dict(options or {})
    try:
        canonical_json(plain)
    except (TypeError, ValueError) as error:
        raise TypeError(f"options are kept as JSON, which has no spelling for {plain!r:.80}: {error}") from error
    return plain


def checked_priority(priority: object) -> Fraction:
    """A run's priority, exactly.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above 0 and finite.
    """
    if isinstance(priority, bool) or not isinstance(priority, Real):
        raise _wrong("priority", "a finite number above 0", priority)
    if not 0 < float(priority) < math.inf:
        raise ValueError(f"priority is a finite number above 0, not {priority!r}")
    return Fraction(priority if isinstance(priority, Rational) else float(priority))


def _wrong(name: str, what: str, value: object) -> TypeError:
    return TypeError(f"{name} is {what}, not {value!r:.80} of {type(value).__name__}")
