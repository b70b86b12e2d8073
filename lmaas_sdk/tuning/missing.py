"""What the optimiser is told of candidates without a loss of their own."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from lmaas_sdk.errors import BackendError, NotFinite
from lmaas_sdk.tuning.scheduling import Needs, Scheduling
from lmaas_sdk.tuning.told import Fate

__all__ = ["Missing"]


class Missing:
    """Candidates of one generation that nothing, or not everything, is known of.

    Attributes:
        fates: What happened to them.
    """

    def __init__(self) -> None:
        self.fates: dict[int, Fate] = {}
        self._error: BaseException | None = None

    @property
    def failed(self) -> list[int]:
        """Those that got no usable answer."""
        return [index for index, fate in self.fates.items() if fate == "failed"]

    def lost(self, candidates: Iterable[int], error: BaseException | None) -> None:
        """A call of these candidates failed; no error: nobody waited for it."""
        self._error = self._error or error
        self.fates |= dict.fromkeys(candidates, "abandoned" if error is None else "failed")

    def not_finite(self, candidates: Iterable[int]) -> None:
        """An answer was right but for these candidates."""
        for index in candidates:
            self.fates[index] = "failed"
            self._error = self._error or NotFinite("every candidate was answered with NaN or infinity")

    def told(
        self, scored: Mapping[int, float], behind: Mapping[int, float], *, needs: Needs, scheduling: Scheduling
    ) -> tuple[dict[int, float], dict[int, Fate]]:
        """The values to tell, by candidate, and which of them are made up or left out.

        Args:
            scored: True losses.
            behind: Values of those that a race has dropped.
            needs: What the optimiser can go on with.
            scheduling: What to do about those that failed.

        Raises:
            BackendError: Nobody was scored: why.
        """
        if not scored:
            raise self._error or BackendError("no candidate of the generation was scored")
        values = {**scored, **behind}
        fates = {index: fate for index, fate in self.fates.items() if index not in scored}
        fates |= dict.fromkeys(behind, "dropped")
        for index in sorted(needs.must_have - values.keys()):
            values[index], fates[index] = _neutral(values, needs), "imputed"
        worst = max(values.values())
        for index in sorted(fates.keys() - values.keys()):
            if len(values) < needs.min_tell or (scheduling.failed == "impute" and fates[index] == "failed"):
                values[index], fates[index] = worst, "imputed"
        return dict(sorted(values.items())), dict(sorted(fates.items()))


def _neutral(values: Mapping[int, float], needs: Needs) -> float:
    """For a point of the two that a step size is adapted by: the other's value, as equal ones leave it as it is."""
    others = [values[index] for index in sorted(needs.must_have) if index in values]
    return others[0] if others else statistics.median(values.values())
