"""Waiting for the end of something through the cancellations of whoever waits."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["settled"]


async def settled(*works: asyncio.Future[Any]) -> bool:
    """Returns once all of them are done, however often this is cancelled meanwhile; whether it was."""
    was_cancelled = False
    while not all(work.done() for work in works):
        try:
            await asyncio.wait(works)
        except asyncio.CancelledError:
            was_cancelled = True
    return was_cancelled
