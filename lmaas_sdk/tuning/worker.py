"""An optimiser on a thread of its own: ask and tell take milliseconds, and the event loop has better to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

__all__ = ["Worker"]

_T = TypeVar("_T")


class Worker:
    """One thread that runs functions one after another."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lmaas-optimizer")

    async def run(self, function: Callable[[], _T]) -> _T:
        """The function's result, computed off the event loop's thread.

        Raises:
            RuntimeError: The function raised StopIteration, which no future can carry: nobody would ever hear of it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: _called(function))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _called(function: Callable[[], _T]) -> _T:
    try:
        return function()
    except StopIteration as stop:
        raise RuntimeError("the search raised StopIteration") from stop
