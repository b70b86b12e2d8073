"""The circuit breaker of `traffic/circuit.py`, played through: no loop, no log, the time is passed in."""

from __future__ import annotations

from lmaas_sdk.traffic.circuit import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, OUTAGE_S

__all__ = ["Breaker"]


class Breaker:
    """Closed until nothing but failures has come back for a while; then a probe after every pause."""

    def __init__(self) -> None:
        self.is_open = self._is_probing = False
        self._failures = 0
        self._since_s = self._pause_s = self._probe_at_s = 0.0

    def wait_s(self, now_s: float) -> float | None:
        """Seconds that an attempt is refused for; None: it may go, as the probe where the circuit is open."""
        if self.is_open and (self._is_probing or now_s < self._probe_at_s):
            return max(self._probe_at_s - now_s, 0.0)
        self._is_probing = self.is_open
        return None

    def failed(self, now_s: float, *, is_probe: bool) -> None:
        """An attempt failed."""
        if not self._failures:
            self._since_s = now_s
        self._failures += 1
        opens = not self.is_open and self._failures >= FAILURES and now_s - self._since_s >= OUTAGE_S
        if is_probe or opens:
            self.is_open = True
            self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._probe_at_s = now_s + self._pause_s
        self.told_nothing(is_probe=is_probe)

    def answered(self, *, is_probe: bool) -> None:
        """One was answered."""
        self._failures, self._pause_s, self.is_open = 0, 0.0, False
        self.told_nothing(is_probe=is_probe)

    def told_nothing(self, *, is_probe: bool) -> None:
        """One came back with a 429, or was given up."""
        if is_probe:
            self._is_probing = False
