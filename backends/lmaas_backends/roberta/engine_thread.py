"""The one thread on which an engine computes, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from lmaas_backends.roberta.idempotency import CallDroppedError

__all__ = ["EngineThread"]

_T = TypeVar("_T")


class EngineThread:
    """Runs functions one after another on one thread of its own, first come, first served.

    Use it as an async context manager; leaving it waits for the function that runs and drops those that wait.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    async def __aenter__(self) -> EngineThread:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    async def run(self, work: Callable[[], _T], *, dropped: Callable[[], bool] = lambda: False) -> _T:
        """Runs `work` when its turn comes.

        Raises:
            CallDroppedError: `dropped` said yes before its turn, or `work` stopped because of it.
            Exception: Whatever `work` raised.
        """

        def turn() -> _T:
            if dropped():
                raise CallDroppedError
            try:
                return work()
            except CancelledError as error:  # would look like a cancelled task on the loop's side
                raise CallDroppedError from error

        return await asyncio.get_running_loop().run_in_executor(self._executor, turn)
