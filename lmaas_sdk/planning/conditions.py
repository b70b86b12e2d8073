"""How a provider behaves: how long answers take, how attempts fail, when nobody answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

import numpy as np

from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.traffic.quota_presets import Quotas, quotas_of

__all__ = ["Conditions", "Failures", "Latency", "Outage"]

_LONGEST_S = 3.2e9  # a century
_WIDEST = 10.0  # one attempt in 40 already takes half a billion times the median
_MOST = {"median_s": _LONGEST_S, "per_text_s": _LONGEST_S, "spread": _WIDEST, "slow_factor": 1e9}


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from sending an attempt to its answer: log-normal, or as measured, with stragglers; at most a century.

    Args:
        median_s: The median of an attempt that is no straggler.
        spread: Standard deviation of its logarithm; 0: it is always the same.
        per_text_s: Seconds more for each text under each candidate.
        slow: The part of attempts that are stragglers.
        slow_factor: How many times as long these take.
        measured_s: Seconds of attempts, one of which is drawn in the place of `median_s` and `spread`.

    Raises:
        ValueError: A value is negative, not finite or absurdly large, or `slow` is above 1; the message names it.
    """

    median_s: float = 0.0
    spread: float = 0.0
    per_text_s: float = 0.0
    slow: float = 0.0
    slow_factor: float = 20.0
    measured_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "measured_s":
                _check_amount(each.name, getattr(self, each.name), most=_MOST.get(each.name, math.inf))
        for seconds in self.measured_s:
            _check_amount("measured_s", seconds, most=_LONGEST_S)
        if self.slow > 1:
            raise ValueError(f"slow is the part of attempts that are stragglers, at most 1, not {self.slow!r}")
        if self.slow_factor < 1:
            raise ValueError(f"slow_factor is at least 1, not {self.slow_factor!r}")

    @property
    def is_constant(self) -> bool:
        """Whether equal attempts always take equally long."""
        varies = bool(self.slow) and self.slow_factor > 1
        if self.measured_s:
            return not varies and len(set(self.measured_s)) == 1
        return not varies and (not self.spread or not self.median_s)

    @property
    def is_none(self) -> bool:
        """Whether answers take no time."""
        return not any(self.measured_s or (self.median_s,)) and not self.per_text_s

    def draw_s(self, pairs: int, generator: np.random.Generator) -> float:
        """Seconds of an attempt.

        Args:
            pairs: Texts under candidates that it asks about.
            generator: Gives the chance.
        """
        base_s = self._base_s(generator) + self.per_text_s * pairs
        is_slow = bool(self.slow) and generator.random() < self.slow
        return min(base_s * self.slow_factor if is_slow else base_s, _LONGEST_S)

    def _base_s(self, generator: np.random.Generator) -> float:
        if self.measured_s:
            return self.measured_s[int(generator.integers(len(self.measured_s)))]
        return self.median_s * math.exp(self.spread * generator.standard_normal()) if self.spread else self.median_s


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which every attempt is refused.

    Args:
        after_s: Seconds from the start until it begins.
        lasts_s: Seconds that it takes.
    """

    after_s: float
    lasts_s: float

    def __post_init__(self) -> None:
        _check_amount("after_s", self.after_s, most=_LONGEST_S)
        _check_amount("lasts_s", self.lasts_s, most=_LONGEST_S)

    def covers(self, elapsed_s: float) -> bool:
        """Whether it is on, so many seconds from the start."""
        return self.after_s <= elapsed_s < self.after_s + self.lasts_s


@dataclass(frozen=True, slots=True)
class Failures:
    """The chance that an attempt fails, by kind; the kinds are those of `testing.Faults`.

    Args:
        refused: Nobody took it (a 503, a connection refused): never charged.
        rate_limit: A 429: never charged, and waited for.
        server_fault: It was lost within the server; charged if `charged`.
        timeout: It was computed and charged, and its answer was lost.
        charged: Whether a server fault is charged.
        outages: When nobody answers at all.

    Raises:
        ValueError: A chance is outside [0, 1], or they are above 1 together.
    """

    refused: float = 0.0
    rate_limit: float = 0.0
    server_fault: float = 0.0
    timeout: float = 0.0
    charged: bool = False
    outages: Sequence[Outage] = ()

    def __post_init__(self) -> None:
        for kind, chance in self.chances.items():
            _check_amount(f"the chance of {kind}", chance)
        if sum(self.chances.values()) > 1:
            raise ValueError(f"the chances of all kinds are at most 1 together, not {sum(self.chances.values())!r}")

    @property
    def chances(self) -> dict[str, float]:
        """By kind."""
        return {kind: getattr(self, kind) for kind in ("refused", "rate_limit", "server_fault", "timeout")}

    def check_ends(self, *waits_s: float | None) -> None:
        """Refuses what would be repeated for ever.

        Args:
            waits_s: What bounds a run's patience with 429s; None: that does not.

        Raises:
            ValueError: Every attempt meets a 429, and nothing bounds the patience.
        """
        if self.rate_limit == 1 and all(wait_s is None for wait_s in waits_s):
            raise ValueError("every attempt meets a 429 (rate_limit is 1), for ever: set max_wait_s, or a lower chance")

    @property
    def total(self) -> float:
        """The chance that an attempt fails, outages apart."""
        return sum(self.chances.values())


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that a provider and a calendar decide about a run.

    Args:
        price: None: what the model's card says.
        quotas: Limits, a mapping of endpoints to limits, or a preset such as "wudao-2021"; None: the card's alone.
        latency: How long answers take; None: nobody knows, so time cannot be told.
        failures: How attempts fail.
        began: The first moment, with a time zone; None: now.

    Raises:
        ValueError: A quota allows nothing, a time zone is unknown or of no day's quota, or `began` has none.
    """

    price: Price | None = None
    quotas: Quotas | None = None
    latency: Latency | None = None
    failures: Failures = field(default_factory=Failures)
    began: datetime | None = None

    def __post_init__(self) -> None:
        limits = quotas_of(self.quotas, "score")
        for name in ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency"):
            limit = None if limits is None else getattr(limits, name)
            if limit is not None and limit <= 0:
                raise ValueError(f"{name} is {limit}: a quota that allows nothing; give one above 0, or None for none")
        if self.began is not None and self.began.tzinfo is None:
            raise ValueError(f"began has a time zone, unlike {self.began!r}: datetime(..., tzinfo=ZoneInfo('...'))")


def _check_amount(name: str, value: float, *, most: float = math.inf) -> None:
    if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is a finite number of at least 0, not {value!r}")
    if value > most:
        raise ValueError(f"{name} is at most {most:g}, not {value!r}")
