"""The end of a command's output: all of it was taken, or the command says why not."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lmaas_sdk.cli.exit_codes import READER_LEFT

__all__ = ["all_told", "drop_the_rest"]


@contextmanager
def all_told() -> Iterator[None]:
    """Inside, a command prints what it has to tell.

    Raises:
        SystemExit: Whoever read it has left (`lmaas prices | head`): nobody is there to be told more, or why.
        OSError: It cannot be written.
    """
    try:
        yield
        if sys.__stdout__ is not None:
            sys.stdout.flush()  # not as Python ends, when nothing can be said of it any more
    except BrokenPipeError:
        if not _reader_has_left():  # another pipe broke
            raise
        raise SystemExit(READER_LEFT) from None


def drop_the_rest() -> None:
    """What could not be written to stdout is not tried once more as Python ends, which would complain."""
    if sys.__stdout__ is None:  # closed, when this process began
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_has_left() -> bool:
    if sys.__stdout__ is None or not hasattr(select, "poll"):
        return False
    polled = select.poll()
    try:
        polled.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        return False
    return bool(polled.poll(0))  # asked for nothing, it tells of errors alone
