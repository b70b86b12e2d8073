"""`--journal FILE` and `--resume FILE`: a journal keeps the options of its run, and gives them back."""

from __future__ import annotations

import argparse
import asyncio
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from lmaas_sdk.errors import BackendError, JournalError, QuotaExceeded
from lmaas_sdk.tuning.journal import Durability, header_of

__all__ = [
    "add_journal_options",
    "again",
    "check_same_options",
    "how_to_go_on",
    "noting_how_to_go_on",
    "options_to_keep",
    "take_options_of_journal",
]

_OF_THE_RUN = (
    *("task", "template", "labels", "words", "metric", "shots", "no_dev", "no_test", "test_split", "test_rows"),
    *("preset", "seed", "racing", "plateau", "target", "stragglers", "over_ask", "failed"),
)
# Each process may have its own. No key is among the options: it comes from the environment, and a URL with one in it
# is refused before there is a journal.
_OF_THE_PROCESS = (
    *("data", "model", "out", "plot", "max_wait_s", "quotas", "cache", "no_cache", "durability"),
    *("ledger", "budget_name", "budget_calls", "budget_evaluations", "budget_tokens", "budget_usd", "budget_wall_s"),
)

_OF_SEVERAL = ("seeds", "journals")


def add_journal_options(parser: argparse.ArgumentParser) -> None:
    """Where the run is written down, and which one to go on with."""
    group = parser.add_argument_group("journal (a run that has one can be gone on with after a kill)")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--journal", type=Path, metavar="FILE", help="write the run there, into a new file")
    which.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on with the run of that journal; its options need not be given again",
    )
    group.add_argument(
        "--durability",
        choices=get_args(Durability),
        default="generation",
        help="when it waits for the disk, lest the power fails (default: %(default)s)",
    )
    group.add_argument(
        "--despite-changes",
        action="store_true",
        help="go on though packages or the engine are others than before; the result may differ",
    )


def options_to_keep(args: argparse.Namespace) -> dict[str, Any]:
    """The options as plain values, for the journal; paths hold in every folder."""
    names = (*_OF_THE_RUN, *_OF_THE_PROCESS, *(() if args.seeds is None else _OF_SEVERAL))
    kept = {name: _plain(getattr(args, name)) for name in names}
    is_folder = "/" in args.model and Path(args.model).is_dir()  # a name or a URL means the same everywhere
    return kept | ({"model": _plain(Path(args.model))} if is_folder else {})


def take_options_of_journal(parser: argparse.ArgumentParser, args: argparse.Namespace) -> bool:
    """Makes the options of the journal to resume the defaults; whether there is one, so that they are parsed again.

    Raises:
        JournalError: It cannot be read, was not begun by a command, or is that of one run of several.
    """
    if args.resume is None:
        return False
    kept = header_of(args.resume).get("options")
    if not isinstance(kept, dict) or not kept.keys() >= {"task", "data"}:
        raise JournalError(
            f"the run of {args.resume} was not begun by `lmaas tune`: go on with it by Tuner.resume or, if it is one "
            "of several, by the TunerGroup(journals=...) that began it"
        )
    if kept.keys() >= set(_OF_SEVERAL):
        raise JournalError(
            f"the run of {args.resume} is one of several, which share a budget: go on with all of them by "
            f"{_command(parser, kept)}"
        )
    known = {name: kept[name] for name in (*_OF_THE_RUN, *_OF_THE_PROCESS) if name in kept}
    parser.set_defaults(**known, kept=known)
    return True


def check_same_options(args: argparse.Namespace) -> None:
    """Refuses options that would make it another run.

    Raises:
        ValueError: It names the option and both values.
    """
    for name in _OF_THE_RUN:
        now = _plain(getattr(args, name))
        if (before := args.kept.get(name, now)) != now:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{option} was {before!r} when the run of {args.resume} began, and is {now!r} here: leave {option} "
                "out to go on with that run, or begin another with --journal"
            )


def how_to_go_on(args: argparse.Namespace) -> str | None:
    """The command that goes on with this run, or these; None: no journal got as far as to begin."""
    if args.journals is not None:
        has_begun = any(map(_has_begun, args.journals.glob("*.journal")))
        return f"go on with: {args.again(args)}" if has_begun else None
    path = args.resume or args.journal
    if path is None or not _has_begun(path):
        return None
    return f"go on with: lmaas tune --resume {shlex.quote(str(path))}"


def again(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command that asks for the same again, from whatever folder."""
    return _command(parser, options_to_keep(args))


def _command(parser: argparse.ArgumentParser, kept: Mapping[str, Any]) -> str:
    """The command line of some options; those that are as they are by default are left out."""
    words = ["lmaas", "tune"]
    for name in (*_OF_THE_RUN, *_OF_THE_PROCESS, *_OF_SEVERAL):
        value = kept.get(name)
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False and value != _plain(parser.get_default(name)):
            words += [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]
    return shlex.join(words)


def _has_begun(path: Path) -> bool:
    try:
        header_of(path)
    except JournalError:
        return False
    return True


@contextmanager
def noting_how_to_go_on(args: argparse.Namespace) -> Iterator[None]:
    """Adds that to what ends a run without a result, though the run itself is none the worse for it."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError, BackendError, QuotaExceeded) as end:
        if (hint := how_to_go_on(args)) is not None:
            end.add_note(hint)
        raise


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value
