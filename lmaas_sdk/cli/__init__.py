"""The command line: one file a command."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lmaas_sdk.cli import bench, demo, estimate, ledger, prices, report, serve, simulate, simulate_jobs, tune
from lmaas_sdk.cli.exit_codes import DONE, EXIT_CODES_HELP, INTERRUPTED, exit_code_of
from lmaas_sdk.errors import LmaasError

__all__ = ["main"]

_COMMANDS = (bench, demo, estimate, ledger, prices, report, serve, simulate, simulate_jobs, tune)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lmaas` and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="lmaas",
        description="Tune language models that can only be called, within a budget.",
        epilog=EXIT_CODES_HELP,
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("lmaas-sdk"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_command(commands)
    args = parser.parse_args(argv)
    code = DONE
    try:
        with _warnings_on_stderr():
            if "recall" in args and args.recall(args):  # what is not given is as it was before
                args = parser.parse_args(argv)
            code = int(args.run(args))
            sys.stdout.flush()
    except (LmaasError, ValueError, TypeError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_has_no_reader():
            return code
        known = exit_code_of(error)
        if known is None:
            raise
        _say(args.command, str(error), error)
        return known
    except (KeyboardInterrupt, asyncio.CancelledError) as end:
        _say(args.command, "interrupted", end)
        return INTERRUPTED
    return code


def _stdout_has_no_reader() -> bool:
    """Whether whoever read it has gone; then Python, which writes the rest as it ends, does not complain about that."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _say(command: str, what: str, error: BaseException) -> None:
    """Tells how a command ended, and what was noted about it."""
    for line in (f"lmaas {command}: {what}", *getattr(error, "__notes__", ())):
        print(line, file=sys.stderr)


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """A library says nothing by itself; a command tells its user of warnings."""
    logger, handler = logging.getLogger("lmaas_sdk"), logging.lastResort or logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
