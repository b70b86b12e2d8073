"""The methods that are being fitted, so that they can be told to come to an end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lmaas_sdk.tuning.interruption import Stoppable

__all__ = ["Fitting"]


class Fitting:
    """The methods whose `fit` is under way."""

    def __init__(self) -> None:
        self._methods: list[object] = []

    @contextmanager
    def of(self, method: object) -> Iterator[None]:
        """Inside, the method's `fit` is under way."""
        self._methods.append(method)
        try:
            yield
        finally:
            self._methods.remove(method)

    def stop(self) -> None:
        """Stops those that can be: a search goes on from its journal another time."""
        for method in self._methods:
            for part in (method, getattr(method, "tuner", None)):
                if isinstance(part, Stoppable):
                    part.stop()
