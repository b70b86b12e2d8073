"""A text that may be used and must not be shown."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["Secret"]


class Secret(str):
    """A string that its own `repr` does not show.

    It is an ordinary string to whatever it is given to, a header of a request say. What lists the values of variables
    (tracebacks with locals, debuggers, reports of crashed tests) shows `***`; and it cannot be pickled.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled: give the other process its own")
