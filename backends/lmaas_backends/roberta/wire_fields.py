"""Strict reading of JSON objects: what is missing, of the wrong type or unknown is named, never guessed."""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from typing import TypeVar

from lmaas_sdk.errors import InvalidQuery

__all__ = ["MOST_COUNT", "Fields", "parse_json", "shown"]

MOST_COUNT = 2**31 - 1  # of whatever one call or one model has: tokens, texts, candidates

_T = TypeVar("_T")
_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


_SHORT = reprlib.Repr()  # `repr` itself goes as deep as the value does, and fails where JSON was just shallow enough
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60


def shown(value: object) -> str:
    """A value as an error message shows it: short, whatever was sent."""
    text = _SHORT.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_json(body: bytes, where: str) -> object:
    """JSON as RFC 8259 has it: UTF-8, finite numbers, no name twice in an object.

    Half a surrogate pair passes, as `canonical_json` writes it: a text cut in the middle of an emoji is a text too.

    Raises:
        InvalidQuery: `body` is anything else.
    """
    try:
        return _DECODER.decode(body.decode("utf-8", "surrogatepass"))
    except RecursionError as error:
        raise InvalidQuery(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise InvalidQuery(f"{where} is not JSON: {error}") from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        times = Counter(name for name, _ in pairs)
        raise ValueError(f"an object names {shown(times.most_common(1)[0][0])} twice")
    return fields


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_once_each)


class Fields:
    """One JSON object, taken apart field by field.

    Args:
        value: What JSON held there.
        where: How messages call it, such as "subspace".

    Raises:
        InvalidQuery: `value` is no object.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidQuery(f"{where} is an object, not {shown(value)}")
        self._left: dict[str, object] = dict(value)
        self._where = where

    def take(self, name: str, kind: type[_T]) -> _T:
        """The field `name`, which must be there and of this type. An integer is a number too; a boolean is not."""
        if name not in self._left:
            raise InvalidQuery(f"{self._where} lacks the field {name!r}")
        value = self._left.pop(name)
        if type(value) is kind and kind is not float:  # nearly always; the message need not be spelled then
            return value
        return _checked(value, kind, f"{self._where}.{name}")

    def maybe(self, name: str, kind: type[_T]) -> _T | None:
        """The field `name`, or None where it is missing or null."""
        return self.take(name, kind) if self._has(name) else None

    def flag(self, name: str) -> bool:
        """The field `name`, which is a boolean; false where it is missing or null."""
        return bool(self.maybe(name, bool))

    def whole(self, name: str, *, least: int, most: int = MOST_COUNT) -> int:
        """The field `name`, which must be there and a whole number in this range."""
        return _ranged(self.take(name, int), f"{self._where}.{name}", least, most)

    def maybe_whole(self, name: str, *, least: int, most: int = MOST_COUNT) -> int | None:
        """As `whole`, or None where it is missing or null."""
        return self.whole(name, least=least, most=most) if self._has(name) else None

    def wholes(self, name: str, *, least: int, most: int = MOST_COUNT) -> tuple[int, ...]:
        """A list of whole numbers in this range."""
        found = self.list_of(name, int)
        return tuple(_ranged(item, f"{self._where}.{name}[{i}]", least, most) for i, item in enumerate(found))

    def maybe_wholes(self, name: str, *, least: int, most: int = MOST_COUNT) -> tuple[int, ...] | None:
        """As `wholes`, or None where it is missing or null."""
        return self.wholes(name, least=least, most=most) if self._has(name) else None

    def list_of(self, name: str, kind: type[_T]) -> tuple[_T, ...]:
        """A list whose items are all of one type."""
        where = f"{self._where}.{name}"
        return tuple(_checked(item, kind, f"{where}[{i}]") for i, item in enumerate(self.take(name, list)))

    def maybe_list_of(self, name: str, kind: type[_T]) -> tuple[_T, ...] | None:
        """As `list_of`, or None where it is missing or null."""
        return self.list_of(name, kind) if self._has(name) else None

    def maybe_any(self, name: str) -> object:
        """The field `name` as it is, left in place; None where it is missing."""
        return self._left.get(name)

    def rest(self) -> dict[str, object]:
        """What no one took yet."""
        return dict(self._left)

    def finish(self) -> None:
        """Refuses fields that no one took: a misspelt option must not be ignored in silence."""
        if self._left:
            raise InvalidQuery(f"{self._where} has an unknown field {shown(min(self._left))}")

    def _has(self, name: str) -> bool:
        """Whether the field is there and not null; a null is taken, as it says the same as nothing."""
        if self._left.get(name) is not None:
            return True
        self._left.pop(name, None)
        return False


def _checked(value: object, kind: type[_T], where: str) -> _T:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value, where)
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool) or kind is object)
    if not right or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidQuery(f"{where} is {_NAMES.get(kind, kind.__name__)}, not {shown(value)}")
    return value  # type: ignore[return-value]


def _ranged(value: int, where: str, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidQuery(f"{where} is from {least} to {most}, not {shown(value)}")
    return value


def _as_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidQuery(f"{where} is too large a number") from error
