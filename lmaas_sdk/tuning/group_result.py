"""What came of several runs that shared a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.tuning.result import TuningResult

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["GroupResult", "in_words"]


@dataclass(frozen=True, eq=False)
class GroupResult(Mapping[str, TuningResult]):
    """The outcome of `TunerGroup.fit`: a mapping from names to the results of the runs that have one.

    Args:
        results: By name, in the order in which they were added.
        failures: The error of every other run, whatever it is; asking for the result of one raises it as the cause of a
            `KeyError`.
        spend: What each run has cost, the failed ones and what a journal says of earlier processes included.
        budget: The limits that they shared.
        wall_s: Seconds from start to end.
    """

    results: Mapping[str, TuningResult]
    failures: Mapping[str, Exception]
    spend: Mapping[str, Amounts]
    budget: Mapping[str, object]
    wall_s: float

    def __getitem__(self, name: str) -> TuningResult:
        if name in self.failures:
            error = self.failures[name]
            raise KeyError(f"the run {name!r} has failed, and has no result: {in_words(error)}") from error
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @property
    def spent(self) -> Amounts:
        """What all of them have cost."""
        return sum(self.spend.values(), Amounts())

    def to_dict(self) -> dict[str, object]:
        """All of it as plain values for JSON; each run as `TuningResult.to_dict` has it."""
        spend = {name: amounts.to_dict() for name, amounts in self.spend.items()}
        return {
            "runs": {name: result.to_dict() for name, result in self.results.items()},
            "failures": {name: in_words(error) for name, error in self.failures.items()},
            "spend": spend | {"total": self.spent.to_dict()},
            "budget": dict(self.budget),
            "wall_s": round(self.wall_s, 3),
        }

    def __str__(self) -> str:
        from lmaas_sdk.reporting.simulation_tables import as_text  # noqa: PLC0415  (only people need it)

        return as_text(self.table())

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        from lmaas_sdk.reporting.result_tables import group_html  # noqa: PLC0415  (only people need it)

        return group_html(self)

    def table(self) -> Table:
        """A row a run, for people: `rich.print(result.table())`."""
        from lmaas_sdk.reporting.group_table import group_table  # noqa: PLC0415  (only people need it)

        return group_table(self)


def in_words(error: Exception) -> str:
    """What went wrong; an error that this package does not raise on purpose is named, as its message may say little."""
    return str(error) if isinstance(error, LmaasError) else f"{type(error).__name__}: {error}"
