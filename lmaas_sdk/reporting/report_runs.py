"""The runs of a report: read, and told apart by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmaas_sdk.errors import RunFileError
from lmaas_sdk.tuning.run_fields import record_of_file
from lmaas_sdk.tuning.run_journal import record_of_journal
from lmaas_sdk.tuning.run_record import RunRecord

__all__ = ["MOST_RUNS", "NamedRun", "read_run", "read_runs"]

MOST_RUNS = 24  # so many curves can be told apart: six colours, four kinds of line
_ENDINGS = (".run.json", ".journal", ".json")


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A run, and what the report calls it."""

    name: str
    run: RunRecord


def read_run(path: str | Path) -> RunRecord:
    """A run from its run file or from its journal; blocking.

    Raises:
        RunFileError: It can be read as neither, or is a run file that makes no sense.
        JournalError: It is a journal that is damaged or of another format.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except (OSError, ValueError) as error:
        raise RunFileError(f"cannot read the run {path}: {getattr(error, 'strerror', None) or error}") from error
    if first and first in b"0123456789abcdef":  # a check sum
        return record_of_journal(path)
    return record_of_file(path)


def read_runs(paths: Sequence[str | Path]) -> list[NamedRun]:
    """Several runs, named after their files; where two have the same name, by the paths that were given.

    Raises:
        ValueError: There are none, too many, or one of them twice.
        RunFileError, JournalError: As `read_run` says.
    """
    found = [Path(path) for path in paths]
    if not 1 <= len(found) <= MOST_RUNS:
        raise ValueError(f"a report is about 1 to {MOST_RUNS} runs, not {len(found)}: leave some out")
    if len({path.resolve() for path in found}) < len(found):
        raise ValueError("a run is given twice: name each file once")
    names = [_stem(path) for path in found]
    if len(set(names)) < len(names):
        names = [str(path) for path in found]
    return [NamedRun(printable(name), read_run(path)) for name, path in zip(names, found, strict=True)]


def printable(text: str) -> str:
    """A name from outside, without what no page and no picture can show."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _stem(path: Path) -> str:
    for ending in _ENDINGS:
        if path.name.endswith(ending) and path.name != ending:
            return path.name.removesuffix(ending)
    return path.name
