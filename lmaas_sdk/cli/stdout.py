"""The end of a command's output: all of it was taken, or the command says why not."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lmaas_sdk.cli.exit_codes import READER_LEFT

__all__ = ["all_told"]


@contextmanager
def all_told() -> Iterator[None]:
    """Inside, a command prints what it has to tell.

    Raises:
        SystemExit: Whoever read it has left (`lmaas prices | head`): nobody is there to be told more, or why.
        OSError: It cannot be written.
    """
    try:
        yield
        _flush()
    except BrokenPipeError:
        if not _reader_has_left():  # another pipe broke
            raise
        _drop_the_rest()
        raise SystemExit(READER_LEFT) from None
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        raise SystemExit(READER_LEFT) from None  # rich ends a program so, by a code that says something else here


def _flush() -> None:
    """Has stdout take what is left now, rather than as Python ends, when nothing can be said of it any more."""
    if sys.__stdout__ is None:  # closed, when this process began
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _drop_the_rest()
        raise


def _drop_the_rest() -> None:
    """Else Python would try once more as it ends, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_has_left() -> bool:
    if not hasattr(select, "poll"):
        return False
    polled = select.poll()
    try:
        polled.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        return False
    return bool(polled.poll(0))  # asked for nothing, it tells of errors alone
