"""What was seen of a provider, and how far it can be trusted: every draw is one way that it may really be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmaas_sdk.accounting.ledger_reader import LedgerReader
from lmaas_sdk.planning.conditions import Failures, Latency

__all__ = ["History", "drawn_latency", "read_history"]

_MANY = 30  # with fewer, what was seen says little of how far it spreads
_PRIOR_COUNT, _PRIOR_SPREAD, _MOST_SPREAD = 2.0, 0.15, 1.5
_STRAGGLE, _ABOUT_ONE_IN, _TIMES_AS_SLOW = 0.4, 12, (3.0, 20.0)  # what is held possible of stragglers, unseen
_JEFFREYS = 0.5
_SHORTEST_S = 1e-6


@dataclass(frozen=True, slots=True)
class History:
    """How attempts ended.

    Args:
        answered: Those that were.
        refused: Those that nobody took, 429s among them: a ledger does not tell these apart.
        lost: Those whose outcome is unknown.
        measured_s: Seconds of the answered ones, of the last thousand at most.

    Raises:
        ValueError: There is no attempt, or a count is negative.
    """

    answered: int
    refused: int = 0
    lost: int = 0
    measured_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if min(self.answered, self.refused, self.lost) < 0 or not self.answered + self.refused + self.lost:
            raise ValueError(f"a history counts attempts, and has some, unlike {self}")

    def drawn(self, generator: np.random.Generator) -> Failures:
        """Chances that may be the true ones: a draw of their posterior (Dirichlet, with Jeffreys' prior)."""
        counts = (self.answered, self.refused, self.lost)
        _, refused, lost = generator.dirichlet([count + _JEFFREYS for count in counts])
        return Failures(refused=float(refused), timeout=float(lost))


def read_history(path: str | Path, *, endpoint: str | None = None, most: int = 1000) -> History:
    """How the attempts in a ledger file ended, and how long the answered ones took.

    Args:
        path: The file.
        endpoint: Of those alone whose endpoint begins so, such as "roberta-tiny/score"; None: of all.
        most: Latencies that are kept, the last ones.

    Raises:
        LedgerError: It cannot be read.
        ValueError: It has no attempt of that endpoint.
    """
    sent: dict[str, float] = {}
    ends = {"answered": 0, "refused": 0, "lost": 0}
    measured: list[float] = []
    with LedgerReader(path) as reader:
        for entry in reader.entries():
            if entry.transfer is None or not (endpoint is None or entry.endpoint.startswith(endpoint)):
                continue
            if entry.kind == "sent":
                sent[entry.transfer] = entry.at
            elif entry.kind in ("refused", "post") and entry.transfer in sent:
                took_s = entry.at - sent.pop(entry.transfer)
                end = "refused" if entry.kind == "refused" else "lost" if entry.unknown else "answered"
                ends[end] += 1
                if end == "answered":
                    measured.append(max(took_s, 0.0))
    if not sum(ends.values()):
        raise ValueError(f"{path} has no attempt{'' if endpoint is None else f' at {endpoint!r}'} to learn from")
    return History(**ends, measured_s=tuple(measured[-most:]))


def drawn_latency(measured_s: Sequence[float], generator: np.random.Generator) -> Latency:
    """A latency that may be the true one.

    Of many measurements a Bayesian bootstrap (Rubin 1981). Of few, which show no tail, the log-normal of a draw of the
    posterior: spread and median by their conjugate distributions, with the weight of two measurements on a spread of
    0.15; and in two of five draws some stragglers, for a few calls tell nothing of calls that are rare.

    Args:
        measured_s: Seconds of attempts, one at least.
        generator: Gives the chance.
    """
    seconds = np.maximum(np.asarray(measured_s, dtype=np.float64), _SHORTEST_S)
    count = len(seconds)
    if count >= _MANY:
        weights = generator.dirichlet(np.ones(count))
        return Latency(measured_s=tuple(generator.choice(seconds, size=max(count, 200), p=weights).tolist()))
    logs = np.log(seconds)
    squares = _PRIOR_COUNT * _PRIOR_SPREAD**2 + float(((logs - logs.mean()) ** 2).sum())
    variance = squares / generator.chisquare(_PRIOR_COUNT + count - 1)
    median = float(logs.mean()) + math.sqrt(variance / count) * generator.standard_normal()
    slow, factor = _unseen(count, generator)
    spread = min(math.sqrt(variance), _MOST_SPREAD)
    return Latency(median_s=math.exp(median), spread=spread, slow=slow, slow_factor=factor)


def _unseen(count: int, generator: np.random.Generator) -> tuple[float, float]:
    """The part of stragglers that so few calls may well have missed, and how slow they are."""
    has_some = generator.random() < _STRAGGLE
    slow = float(generator.beta(1.0, count + _ABOUT_ONE_IN)) if has_some else 0.0
    least, most = _TIMES_AS_SLOW
    return slow, math.exp(generator.uniform(math.log(least), math.log(most)))
