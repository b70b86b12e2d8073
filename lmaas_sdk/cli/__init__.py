"""The command line: one file a command."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lmaas_sdk.cli import bench, demo, estimate, ledger, prices, report, serve, simulate, simulate_jobs, tune
from lmaas_sdk.cli.exit_codes import EXIT_CODES_HELP, INTERRUPTED, exit_code_of
from lmaas_sdk.cli.stdout import all_told, drop_the_rest
from lmaas_sdk.errors import LmaasError

__all__ = ["main"]

_COMMANDS = (bench, demo, estimate, ledger, prices, report, serve, simulate, simulate_jobs, tune)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lmaas` and returns its exit code."""
    try:
        return _main(argv)
    finally:
        drop_the_rest()


def _main(argv: Sequence[str] | None) -> int:
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
    try:
        with _warnings_on_stderr(), all_told():
            if "recall" in args and args.recall(args):  # what is not given is as it was before
                args = parser.parse_args(argv)
            return int(args.run(args))
    except (LmaasError, ValueError, TypeError, OSError) as error:
        code = exit_code_of(error)
        if code is None:
            raise
        _say(args.command, str(error), error)
        return code
    except (KeyboardInterrupt, asyncio.CancelledError) as end:
        _say(args.command, "interrupted", end)
        return INTERRUPTED


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
