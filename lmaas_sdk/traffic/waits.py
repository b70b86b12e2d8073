"""What calls wait for, and how much of the time goes there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["CAUSES", "BeforeWait", "Cause", "Wait", "WaitMeter"]

Cause = Literal["quota", "rate_limit", "retry", "outage", "turn"]
CAUSES: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """A wait that is about to begin.

    Args:
        seconds: How long it is at most.
        cause: What for: "quota", by the client's own count; "rate_limit", as a 429 asks for it; "retry", after another
            failure; "outage", until a backend that is away may be asked again.
        error: What the attempt before failed by; None: there was none.
    """

    seconds: float
    cause: Cause
    error: BaseException | None = None

    @property
    def reason(self) -> str:
        """What it waits for, in words."""
        return "the quota" if self.error is None else str(self.error)


BeforeWait = Callable[[Wait], None]


class WaitMeter:
    """Seconds by cause, by the loop's clock, during which at least one call waits: waits side by side count once.

    So none of them exceeds the time that has gone by. Two causes may hold at the same moment, and count both.
    """

    def __init__(self) -> None:
        self._waiting: Counter[Cause] = Counter()
        self._since_s: dict[Cause, float] = {}
        self._seconds = dict.fromkeys(CAUSES, 0.0)

    def begin(self, cause: Cause) -> None:
        """A wait begins."""
        if not self._waiting[cause]:
            self._since_s[cause] = _now_s()
        self._waiting[cause] += 1

    def end(self, cause: Cause) -> None:
        """A wait that was begun is over."""
        self._waiting[cause] -= 1
        if not self._waiting[cause]:
            self._seconds[cause] += _now_s() - self._since_s.pop(cause)

    @contextmanager
    def during(self, cause: Cause) -> Iterator[None]:
        """What happens inside is a wait."""
        self.begin(cause)
        try:
            yield
        finally:
            self.end(cause)

    def seconds(self) -> dict[Cause, float]:
        """Of every cause, those of waits under way included."""
        return {cause: done + self._under_way_s(cause) for cause, done in self._seconds.items()}

    def _under_way_s(self, cause: Cause) -> float:
        return _now_s() - self._since_s[cause] if cause in self._since_s else 0.0


def _now_s() -> float:
    return asyncio.get_running_loop().time()
