"""Quotas that users name: presets of real providers, and what a user gives for an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.quota import TwoDays

__all__ = ["QUOTA_PRESETS", "Quotas", "quotas_of", "stricter"]

Quotas = str | Limits | Mapping[str, Limits]

_SHANGHAI = "Asia/Shanghai"
_HUNDRED_A_DAY = Limits(requests_per_day=100, day_time_zone=_SHANGHAI)
_THOUSAND_A_DAY = Limits(requests_per_day=1000, day_time_zone=_SHANGHAI)

QUOTA_PRESETS: Mapping[str, Mapping[str, Limits]] = MappingProxyType(
    {
        # The WuDao API in 2021 (Sun et al. 2022, section 1): nine endpoints, each with its own quota a day. Two of them
        # answered with features. "score" and "features" are what this SDK calls; the other names describe the rest.
        "wudao-2021": MappingProxyType(
            {
                "score": _HUNDRED_A_DAY,
                "generation": _HUNDRED_A_DAY,
                "poetry": _HUNDRED_A_DAY,
                "question-answering": _HUNDRED_A_DAY,
                "dialogue": _HUNDRED_A_DAY,
                "text-to-image": _HUNDRED_A_DAY,
                "image-captioning": _HUNDRED_A_DAY,
                "features": _THOUSAND_A_DAY,
                "image-features": _THOUSAND_A_DAY,
            }
        )
    }
)


def quotas_of(given: Quotas | None, endpoint: str) -> Limits | None:
    """The limits that a user's quotas set for an endpoint; None: none.

    Args:
        given: The name of a preset, limits for every endpoint alike (each counts by itself), or limits by endpoint.
        endpoint: "score" or "features".

    Raises:
        ValueError: No preset or time zone has that name, or the zone is of no day's quota.
        TypeError: It is nothing of that kind.
    """
    if given is None:
        return None
    if isinstance(given, Limits):
        return _with_a_zone(given)
    if isinstance(given, str):
        if given not in QUOTA_PRESETS:
            raise ValueError(f"no quota preset is called {given!r}: there is {', '.join(sorted(QUOTA_PRESETS))}")
        given = QUOTA_PRESETS[given]
    values: object = given
    if not isinstance(values, Mapping) or not all(isinstance(limits, Limits) for limits in values.values()):
        raise TypeError(f"quotas are Limits, a mapping of endpoints to Limits or a preset's name, not {given!r:.80}")
    limits = given.get(endpoint)
    return None if limits is None else _with_a_zone(limits)


def _with_a_zone(limits: Limits) -> Limits:
    """The same, if it has a time zone for its days alone, and one that exists."""
    try:
        if limits.day_time_zone is not None:
            ZoneInfo(limits.day_time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"day_time_zone is a zone like 'Asia/Shanghai', not {limits.day_time_zone!r}") from error
    if limits.day_time_zone is not None and limits.requests_per_day is None:
        raise ValueError("day_time_zone is whose days requests_per_day counts: give both, or neither")
    return limits


def stricter(limits: Limits, others: Limits | None) -> Limits:
    """The smaller limit of the two, field by field; days of different time zones are counted both."""
    if others is None:
        return limits
    smaller = {name: _smaller(getattr(limits, name), getattr(others, name)) for name in _COUNTED}
    by_day, other = limits, others
    if _is_smaller(others.requests_per_day, limits.requests_per_day):
        by_day, other = others, limits
    if other.requests_per_day is None or other.day_time_zone == by_day.day_time_zone:
        return Limits(**smaller, requests_per_day=by_day.requests_per_day, day_time_zone=by_day.day_time_zone)
    return TwoDays(
        **smaller,
        requests_per_day=by_day.requests_per_day,
        day_time_zone=by_day.day_time_zone,
        other_per_day=other.requests_per_day,
        other_time_zone=other.day_time_zone,
    )


_COUNTED = ("requests_per_minute", "tokens_per_minute", "concurrency")


def _is_smaller(one: int | None, other: int | None) -> bool:
    return one is not None and (other is None or one < other)


def _smaller(one: int | None, other: int | None) -> int | None:
    return one if _is_smaller(one, other) else other
