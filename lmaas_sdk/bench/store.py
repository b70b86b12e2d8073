"""The results file: JSON lines that are only ever added, each tied to all that stand before it.

The check sum of a line covers the line and the check sum before it, so that none can be changed, lost or moved without
notice. What stands behind the last line break is a line that was being written when the process died; it is cut off.
Anything else that does not fit is refused.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import RunFileError

__all__ = ["FORMAT", "ResultsFile", "open_results", "read_results"]

FORMAT = "lmaas-bench/1"
_START = "0" * 16
_SUM = "sum"
_BEGINNING = canonical_json({"format": FORMAT})[:-1]
Record = dict[str, Any]


class ResultsFile:
    """A results file that this process alone adds to; blocking, so that other threads than a loop's call it.

    Use it in a `with` block, or by `open_results` where a loop runs.

    Args:
        path: The file, which is made if need be.

    Attributes:
        path: The file.
        records: All that is in it, in order.

    Raises:
        RunFileError: Another process adds to it, or it cannot be read or written, or was changed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()  # one file has one lock, by whatever name it is opened
        self._beside = self.path.with_name(f"{self.path.name}.lock")
        self._lock, self._adding = _locked(self._beside, self.path), threading.Lock()
        try:
            self._open()
        except OSError as error:
            self.close()
            raise RunFileError(f"cannot use the results file {self.path}: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._file: BinaryIO | None = None
        self._sum, self.records, whole = _START, list[Record](), 0
        self._file = self.path.open("a+b", buffering=0)
        for line in _whole_lines(self.path):
            self._sum, record, whole = line
            self.records.append(record)
        self._check_is_ours(whole)
        self._file.truncate(whole)
        if not whole:
            self._write({"format": FORMAT})
        else:
            self.records = self.records[1:]

    def _check_is_ours(self, whole: int) -> None:
        """Refuses to cut off what was never a line of a results file."""
        with self.path.open("rb") as file:
            beginning = file.read(len(_BEGINNING))
        if not whole and not _BEGINNING.startswith(beginning):
            raise RunFileError(f"{self.path} holds something that is no results file: choose another name")

    def add(self, record: Record) -> None:
        """Adds a record, which is on the disk when this returns.

        Raises:
            RunFileError: It cannot be written.
        """
        with self._adding:
            try:
                self._write(record)
            except OSError as error:
                raise RunFileError(f"cannot write the results file {self.path}: {error.strerror or error}") from error
            self.records.append(record)

    def _write(self, record: Record) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "it is closed, or could not be written before")
        file, self._file = self._file, None  # the next line would stand behind half of one
        total = _sum_of(self._sum, record)
        line = canonical_json({**record, _SUM: total}) + b"\n"
        if file.write(line) != len(line):
            file.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
        self._file, self._sum = file, total

    def close(self) -> None:
        """Closes the file and lets others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._beside.unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@asynccontextmanager
async def open_results(path: str | Path) -> AsyncIterator[ResultsFile]:
    """A results file, opened and closed by `async with`, in which nothing else waits meanwhile.

    Raises:
        RunFileError: As of `ResultsFile`.
    """
    results = await asyncio.to_thread(ResultsFile, path)
    try:
        yield results
    finally:
        await asyncio.to_thread(results.close)


def read_results(path: str | Path) -> list[Record]:
    """The records of a results file, whoever adds to it; what follows the last whole line is left alone.

    Raises:
        RunFileError: It cannot be read, is none, or was changed.
    """
    try:
        records = [record for _, record, _ in _whole_lines(Path(path))]
    except OSError as error:
        raise RunFileError(f"cannot read the results file {path}: {error.strerror or error}") from error
    return records[1:]


def _whole_lines(path: Path) -> Iterator[tuple[str, Record, int]]:
    """The check sum and the record of each line, and where the next one begins."""
    before, end = _START, 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            before, record = _checked(line, before, f"{path}, line {number}")
            if number == 1 and record.get("format") != FORMAT:
                raise RunFileError(f"{path} has format {record.get('format')!r:.80}, and this version reads {FORMAT!r}")
            end += len(line)
            yield before, record, end


def _checked(line: bytes, before: str, place: str) -> tuple[str, Record]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or _SUM not in record:
        raise RunFileError(f"{place}: this is no line of a results file: {line[:40]!r}")
    stated = record.pop(_SUM)
    if stated != _sum_of(before, record):
        raise RunFileError(
            f"{place}: it does not match its check sum, so this line or one before it was changed, lost or moved; use "
            "a copy from before, or begin a new file"
        )
    return stated, record


def _sum_of(before: str, record: Record) -> str:
    return hashlib.sha256(before.encode() + canonical_json(record)).hexdigest()[: len(_START)]


def _locked(beside: Path, path: Path) -> FileLock:
    """Held until the process ends, however it ends: the operating system lets go of it."""
    if not path.parent.is_dir():
        raise RunFileError(f"cannot use the results file {path}: make the folder {path.parent} first")
    lock = FileLock(beside, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RunFileError(f"the results file {path} is in use: one process at a time adds to it") from error
    except (OSError, ValueError) as error:
        raise RunFileError(f"cannot use the results file {path}: {getattr(error, 'strerror', error)}") from error
    return lock
