"""How long a unit of work takes: a n + b seconds for n positions, learned from the units that were computed.

That is its computing alone. `Overhead` learns what a server needs beside it to keep computing.
"""

from __future__ import annotations

__all__ = ["CostModel", "Overhead"]

_REMEMBERED_UNITS = 100
_FIRST_GUESS_S = (1e-5, 1e-3)
_FIRST_POSITIONS = 1000.0
_LEAST_SHARE = 0.01  # of a usual unit's time, that grows with its positions


class CostModel:
    """A straight line through the units computed lately, by least squares that forgets the older ones.

    Until two sizes were seen it is the mean time a position, and before any unit a guess.
    """

    def __init__(self) -> None:
        self._keep = 1 - 1 / _REMEMBERED_UNITS
        self._weight = self._n = self._s = self._nn = self._ns = 0.0
        self.a_s, self.b_s = _FIRST_GUESS_S

    def observe(self, positions: int, seconds: float) -> None:
        """Takes in a unit that was computed, and fits the line anew."""
        sums = (self._weight, self._n, self._s, self._nn, self._ns)
        new = (1.0, positions, seconds, positions**2, positions * seconds)
        self._weight, self._n, self._s, self._nn, self._ns = (
            self._keep * old + one for old, one in zip(sums, new, strict=True)
        )
        self._fit()

    @property
    def usual_positions(self) -> float:
        """Mean positions of a unit."""
        return self._n / self._weight if self._weight else _FIRST_POSITIONS

    @property
    def a_position_s(self) -> float:
        """Mean time of a position in a unit of the usual size: the one figure in which noise cannot tilt the line."""
        return self.a_s + self.b_s / self.usual_positions

    def seconds(self, positions: int, units: int = 1) -> float:
        """Expected time of so many units with so many positions together, one after another."""
        return self.a_s * positions + self.b_s * units

    def _fit(self) -> None:
        mean, mean_s = self._n / self._weight, self._s / self._weight
        spread = self._nn / self._weight - mean**2
        slope = (self._ns / self._weight - mean * mean_s) / spread if spread > 1e-6 * mean**2 else 0.0
        offset = mean_s - slope * mean
        # Noise may tilt the line so that it says nonsense outside of what was seen: then a position has its mean time.
        is_sound = slope * mean > _LEAST_SHARE * mean_s and offset >= 0
        self.a_s, self.b_s = (slope, offset) if is_sound else (mean_s / mean, 0.0)


class Overhead:
    """How much longer work takes than its computing, while more of it waits: preparing it, answering others.

    It is learned from units that ended while others waited, so that no idle time is taken for work.
    """

    def __init__(self) -> None:
        self._keep = 1 - 1 / _REMEMBERED_UNITS
        self._passed = self._computing = _FIRST_GUESS_S[1]

    def observe(self, passed_s: float, computing_s: float) -> None:
        """Takes in that so much time passed, on every thread, for units that computed for so long."""
        self._passed = self._keep * self._passed + passed_s
        self._computing = self._keep * self._computing + computing_s

    @property
    def factor(self) -> float:
        """At least 1: threads that share a core take longer for each unit, and that is their computing."""
        return max(1.0, self._passed / self._computing)
