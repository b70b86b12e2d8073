"""From calls and their attempts to figures, and from these to the bars that are missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles
from typing import Any

from benchmarks.load_client import CUT_OFF, OK, REFUSED, Attempt, Call
from benchmarks.load_server import Sample, Spent

__all__ = ["GOODPUT_BAR", "KEPT_BAR", "MEMORY_BAR_MB", "Capacity", "Window", "figures_of", "missed"]

GOODPUT_BAR, KEPT_BAR, MEMORY_BAR_MB = 0.9, 0.8, 128
FAIR_BAR = 0.9
_MOST_OF_BOUND = 2.0  # up to which a client is let in that has less than its share
_OVERLOAD = 2.0
_RETRY_BUCKETS_S = (1, 2, 5, 10, 20, 30, 60, 120, 3600)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Tokens a second that can be computed: by the wall, and for the time in which the server had its core."""

    a_second: float
    a_second_with_core: float


@dataclass(frozen=True, slots=True)
class Window:
    """One load and what came of it.

    Args:
        load: Tokens offered over tokens that can be computed, as it was meant.
        weights: Of each client in the offer.
        begin, seconds: When it was offered.
        capacity: What was computed before and after.
        tokens: Of a call.
        calls: All of them.
        samples: Of the server, from the beginning to the end of the last answer.
        rss_mb: Resident memory of the server before and after.
        spent: While the load was offered.
        late_s: How late a call went out at worst.
    """

    load: float
    weights: Mapping[str, float]
    begin: float
    seconds: float
    capacity: tuple[Capacity, Capacity]
    tokens: int
    calls: Sequence[Call]
    samples: Sequence[Sample]
    rss_mb: tuple[float, float]
    spent: Spent
    late_s: float

    @property
    def end(self) -> float:
        return self.begin + self.seconds

    @property
    def mean_capacity(self) -> float:
        """Of before and after, in tokens a second."""
        return sum(one.a_second for one in self.capacity) / 2

    @property
    def kept(self) -> float:
        """Goodput over capacity, both for the time in which the server had its core: others may be about."""
        capacity = sum(one.a_second_with_core for one in self.capacity) / 2
        return self.goodput() * self.spent.wall_s / self.spent.had_core_s / capacity

    def goodput(self, client: str | None = None) -> float:
        """Tokens a second that were answered while the load was offered, of one client or of all."""
        answered = [call for call in self.calls if call.is_answered and call.attempts[-1].ended <= self.end]
        return self.tokens * sum(client in {None, call.client} for call in answered) / self.seconds


def figures_of(window: Window) -> dict[str, Any]:
    """What a load came to."""
    attempts = [attempt for call in window.calls for attempt in call.attempts]
    statuses = Counter(attempt.status for attempt in attempts)
    return {
        "load": window.load,
        "weights": dict(window.weights),
        "seconds": window.seconds,
        "capacity_tokens_a_second": [round(one.a_second) for one in window.capacity],
        "capacity_with_a_core": [round(one.a_second_with_core) for one in window.capacity],
        "offered": _flow(window, len(window.calls)),
        "completed": _flow(window, round(window.goodput() * window.seconds / window.tokens)),
        "goodput_of_capacity": round(window.goodput() / window.mean_capacity, 3),
        "goodput_of_capacity_with_a_core": round(window.kept, 3),
        "latency_s": _latencies(window.calls),
        "attempts": len(attempts),
        "statuses": dict(sorted(statuses.items())),
        "refused_share": round(statuses[REFUSED] / max(1, len(attempts)), 3),
        "returns": _returns(window.calls),
        "given_up": sum(call.given_up for call in window.calls),
        "retry_after_s": _buckets(attempts),
        "queue": _queue(window),
        "server_rss_mb": _memory(window),
        "clients": {name: _client(window, name) for name in window.weights},
        "cores_used": {
            "load_test": round(window.spent.client_cpu_s / window.spent.wall_s, 3),
            "server": round(window.spent.server_cpu_s / window.spent.wall_s, 3),
            "lacked_by_the_server": round(1 - window.spent.had_core_s / window.spent.wall_s, 3),
        },
        "sent_late_by_at_most_s": round(window.late_s, 3),
    }


def missed(figures: Mapping[str, Any]) -> list[str]:
    """The bars that one load's figures miss."""
    queue, memory = figures["queue"], figures["server_rss_mb"]
    others = sum(count for status, count in figures["statuses"].items() if status not in {OK, REFUSED, CUT_OFF})
    checks = {
        "no other status than 200 and 429": others == 0,
        "every 429 with Retry-After": sum(figures["retry_after_s"].values()) == figures["statuses"].get(REFUSED, 0),
        f"queue within {_MOST_OF_BOUND:g} times its bound": queue["peak_of_bound"] <= _MOST_OF_BOUND,
        f"memory grows by at most {MEMORY_BAR_MB} MB": memory["peak"] - memory["before"] <= MEMORY_BAR_MB,
    }
    if figures["load"] >= _OVERLOAD:
        kept = figures["returns"]["admitted_share"]
        goodput = figures["goodput_of_capacity_with_a_core"]
        checks[f"goodput >= {GOODPUT_BAR:g} of capacity"] = goodput >= GOODPUT_BAR
        checks[f">= {KEPT_BAR:g} of obeyed Retry-After admitted"] = kept is None or kept >= KEPT_BAR
        for name in _modest(figures["weights"], figures["load"]):
            share = figures["clients"][name]["admitted_at_first"]
            checks[f"client {name}, within its share, is let in >= {FAIR_BAR:g} of the time"] = share >= FAIR_BAR
    return [what for what, holds in checks.items() if not holds]


def _modest(weights: Mapping[str, float], load: float) -> list[str]:
    """The clients that offer less than an equal share of the capacity."""
    return [name for name, weight in weights.items() if load * weight / sum(weights.values()) < 1 / len(weights)]


def _flow(window: Window, calls: int) -> dict[str, float]:
    a_second = calls / window.seconds
    return {"calls_a_second": round(a_second, 1), "tokens_a_second": round(a_second * window.tokens)}


def _latencies(calls: Sequence[Call]) -> dict[str, Any]:
    answered = [call for call in calls if call.is_answered]
    return {
        "from_the_last_send": _percentiles([call.attempts[-1].ended - call.attempts[-1].sent for call in answered]),
        "from_the_first_send": _percentiles([call.attempts[-1].ended - call.attempts[0].sent for call in answered]),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {f"p{share}": round(cuts[share - 1], 3) for share in (50, 90, 99)}


def _returns(calls: Sequence[Call]) -> dict[str, Any]:
    """What became of those who came again when Retry-After said. Whoever was cut off waits inside: it was let in."""
    returns = Counter(later.status in {OK, CUT_OFF} for call in calls for _, later in pairwise(call.attempts))
    return {
        "admitted": returns[True],
        "refused_again": returns[False],
        "admitted_share": round(returns[True] / returns.total(), 3) if returns else None,
    }


def _buckets(attempts: Sequence[Attempt]) -> dict[str, int]:
    """How often Retry-After said so many seconds or less, and more than the row before."""
    waits = [attempt.retry_after_s for attempt in attempts if attempt.retry_after_s is not None]
    least = (0, *_RETRY_BUCKETS_S)
    found = {f"<= {most}": sum(low < wait <= most for wait in waits) for low, most in pairwise(least)}
    return {bucket: count for bucket, count in found.items() if count}


def _queue(window: Window) -> dict[str, float]:
    """The bound is half a minute's work by the speed measured at the time, so it sinks when the machine slows down."""
    bounds = [sample.most_tokens for sample in window.samples]
    peak = max(sample.tokens for sample in window.samples)
    return {
        "peak_tokens": peak,
        "least_bound_tokens": min(bounds),
        "bound_tokens": max(bounds),
        "peak_of_bound": round(peak / max(bounds), 2),
        "peak_calls": max(sample.calls for sample in window.samples),
        "peak_promises": max(sample.promises for sample in window.samples),
    }


def _memory(window: Window) -> dict[str, float]:
    before, after = window.rss_mb
    return {"before": before, "peak": max(before, after, *(one.rss_mb for one in window.samples)), "after": after}


def _client(window: Window, name: str) -> dict[str, Any]:
    own = [call for call in window.calls if call.client == name]
    first = [call.attempts[0].status for call in own if call.attempts]
    offered = len(own) * window.tokens / window.seconds
    return {
        "offered_of_capacity": round(offered / window.mean_capacity, 3),
        "goodput_of_capacity": round(window.goodput(name) / window.mean_capacity, 3),
        "goodput_of_offered": round(window.goodput(name) / max(offered, 1.0), 3),
        "admitted_at_first": round(sum(status in {OK, CUT_OFF} for status in first) / max(1, len(first)), 3),
        "answered": sum(call.is_answered for call in own),
        "calls": len(own),
        "latency_s": _latencies(own)["from_the_first_send"],
    }
