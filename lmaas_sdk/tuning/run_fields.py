"""The values of a run file as a `RunRecord`. Nothing in them is trusted: the file may come from anyone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.errors import RunFileError
from lmaas_sdk.tuning.run_file import load_fields
from lmaas_sdk.tuning.run_record import DevRow, EstimatedQuantity, GenerationRow, RunRecord, ScoredOnTest

__all__ = ["record_of_file"]

_T = TypeVar("_T")
_LARGEST = 10**18  # what is larger is a slip or worse


def record_of_file(path: Path) -> RunRecord:
    """Reads a run file; blocking.

    Raises:
        RunFileError: It cannot be read, is none, was changed, or makes no sense.
    """
    try:
        return _record(_Fields(load_fields(path)))
    except _Unfit as error:
        raise RunFileError(f"{path} is no run of this version: {error}") from error


class _Unfit(ValueError):
    """A value is not what it has to be."""


class _Fields:
    """An object of the file; each method takes a value by its name, checked.

    Args:
        values: The object.
        place: Where it is in the file.
    """

    def __init__(self, values: Mapping[str, Any], place: str = "") -> None:
        self._values, self._place = values, place

    def maybe(self, name: str, take: Callable[[str], _T]) -> _T | None:
        """None where there is none."""
        return None if self._values.get(name) is None else take(name)

    def text(self, name: str) -> str:
        value = self._value(name)
        if not isinstance(value, str):
            raise self._unfit(name, "a text", value)
        return value

    def number(self, name: str) -> int | float:
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
            raise self._unfit(name, "a number", value)
        return value

    def amount(self, name: str) -> int | float:
        """A number that is not negative."""
        value = self.number(name)
        if value < 0:
            raise self._unfit(name, "not negative", value)
        return value

    def whole(self, name: str) -> int:
        value = self.number(name)
        if not isinstance(value, int):
            raise self._unfit(name, "a whole number", value)
        return value

    def flag(self, name: str) -> bool:
        value = self._value(name)
        if not isinstance(value, bool):
            raise self._unfit(name, "true or false", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(_Fields({str(n): one}, f"{name}.").text(str(n)) for n, one in enumerate(self._list(name)))

    def pair(self, name: str) -> tuple[float, float]:
        values = self._list(name)
        if len(values) != 2:
            raise self._unfit(name, "two numbers", values)
        ends = _Fields({"low": values[0], "high": values[1]}, f"{name}.")
        return ends.number("low"), ends.number("high")

    def part(self, name: str) -> _Fields:
        value = self._value(name)
        if not isinstance(value, dict):
            raise self._unfit(name, "an object", value)
        return _Fields(value, f"{self._place}{name}.")

    def parts(self, name: str) -> Iterator[_Fields]:
        for number in range(len(values := self._list(name))):
            yield _Fields({f"{name}[{number}]": values[number]}, self._place).part(f"{name}[{number}]")

    def each(self, take: Callable[[str], _T]) -> dict[str, _T]:
        """All values of the object, by name."""
        return {name: take(name) for name in self._values}

    def _list(self, name: str) -> list[Any]:
        value = self._value(name)
        if not isinstance(value, list):
            raise self._unfit(name, "a list", value)
        return value

    def _value(self, name: str) -> Any:
        if name not in self._values:
            raise _Unfit(f"it has no {self._place}{name}")
        return self._values[name]

    def _unfit(self, name: str, wanted: str, value: object) -> _Unfit:
        return _Unfit(f"{self._place}{name} is {wanted}, not {value!r:.80}")


def _record(run: _Fields) -> RunRecord:
    history, core = list(run.parts("history")), run.part("core").part("settings")
    spend = {name: amounts for name, amounts in _spend(run.part("spend")).items() if name != "total"}
    return RunRecord(
        kind="run file",
        task=run.text("task"),
        model=run.text("model"),
        metric=run.text("metric"),
        preset=core.part("preset").text("name"),
        seed=core.whole("seed"),
        stopped=run.text("stopped"),
        chosen_by=run.text("chosen_by"),
        evaluations=run.amount("evaluations"),
        manual=_score(run, "manual"),
        tuned=_score(run, "tuned"),
        spend=spend,
        unknown_outcomes=run.whole("unknown_outcomes"),
        budget=_limits(run.part("budget")),
        wall_s=run.amount("wall_s"),
        waits=_amounts(run.maybe("waits", run.part)),
        estimate=_estimate(run.maybe("estimate", run.part)),
        warnings=run.texts("warnings"),
        versions=(versions := run.part("versions")).each(versions.text),
        generations=tuple(_generation(row) for row in history if row.text("kind") == "generation"),
        dev=tuple(_dev(row) for row in history if row.text("kind") == "dev"),
    )


def _limits(budget: _Fields) -> dict[str, float | None]:
    return budget.each(lambda unit: budget.maybe(unit, budget.amount))


def _amounts(waits: _Fields | None) -> dict[str, float] | None:
    return None if waits is None else waits.each(waits.amount)


def _spend(spend: _Fields) -> dict[str, Amounts]:
    return spend.each(lambda purpose: _spent(spend.part(purpose)))


def _spent(row: _Fields) -> Amounts:
    evaluations = row.number("evaluations")
    return Amounts(
        row.whole("calls"),
        evaluations if isinstance(evaluations, int) else Fraction(evaluations),
        row.whole("tokens"),
        row.whole("nanousd"),
    )


def _score(run: _Fields, prompt: str) -> ScoredOnTest | None:
    value = run.maybe(f"{prompt}_accuracy", run.number)
    return None if value is None else ScoredOnTest(value, run.maybe(f"{prompt}_interval", run.pair))


def _estimate(estimate: _Fields | None) -> dict[str, EstimatedQuantity | None] | None:
    return None if estimate is None else estimate.each(lambda name: estimate.maybe(name, _quantity_of(estimate)))


def _quantity_of(estimate: _Fields) -> Callable[[str], EstimatedQuantity]:
    def quantity(name: str) -> EstimatedQuantity:
        found = estimate.part(name)
        low, expected, high = map(found.amount, ("low", "expected", "high"))
        actual, is_within = found.maybe("actual", found.amount), found.maybe("is_within", found.flag)
        return EstimatedQuantity(low, expected, high, actual, is_within)

    return quantity


def _generation(row: _Fields) -> GenerationRow:
    return GenerationRow(
        generation=row.whole("generation"),
        evaluations=row.amount("evaluations"),
        best_loss=row.number("best_loss"),
        median_loss=row.number("median_loss"),
        lowest_loss=row.number("lowest_loss"),
        sigma=row.maybe("sigma", row.number),
        spent=_spent(row.part("spent")),
        elapsed_s=row.amount("elapsed_s"),
    )


def _dev(row: _Fields) -> DevRow:
    return DevRow(
        generation=row.whole("generation"),
        candidate=row.text("candidate"),
        evaluations=row.amount("evaluations"),
        metric=row.maybe("dev_metric", row.number),
        cross_entropy=row.maybe("dev_cross_entropy", row.number),
        spent=_spent(row.part("spent")),
        elapsed_s=row.amount("elapsed_s"),
    )
