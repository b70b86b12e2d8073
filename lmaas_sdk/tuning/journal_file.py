"""The file behind a run's journal: lines that are only ever added, each tied to all that stand before it.

A line is a check sum, a space and one JSON object. The check sum covers the line and the check sum before it, so that
no line can be changed, lost or moved without notice. What stands behind the last line break is a line that was being
written when the process died; it is cut off. Anything else that does not fit is refused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import JournalCorrupt, JournalError, JournalInUse

__all__ = ["LONGEST_HEADER", "JournalFile", "first_record", "has_sent", "records_of"]

Record = dict[str, Any]
_SUM_DIGITS = 16
_START = "0" * _SUM_DIGITS
_BEGINNING = re.compile(rb"[0-9a-f]{0,16}|[0-9a-f]{16} \{?")
LONGEST_HEADER = 1 << 22


class JournalFile:
    """A journal that this process alone has open; blocking, so that a thread of its own calls it.

    Args:
        path: The file.
        exists: Whether it goes on with a file that is there, or makes a new one.

    Raises:
        JournalInUse: Another process, or another run of this one, has it open.
        JournalError: There is one already, or there is none.
    """

    def __init__(self, path: Path, *, exists: bool) -> None:
        if not path.parent.is_dir():
            raise JournalError(f"the journal {path} cannot be kept there: make the folder {path.parent} first")
        path = self.path = path.resolve()  # one file has one lock, by whatever name it is opened
        self._lock = _locked(path)
        try:
            self._file: BinaryIO = _opened(path, exists=exists)
        except BaseException:
            _unlock(self._lock)
            raise
        self._sum, self._is_broken = _START, False

    def records(self) -> Iterator[Record]:
        """Everything that was written, from the start; what follows the last whole line is cut off.

        Raises:
            JournalCorrupt: A line was changed, lost or moved.
        """
        whole = 0
        for line in _whole_lines(self.path):
            self._sum, whole = line.sum, line.end
            yield line.record
        self._file.truncate(whole)
        self._file.seek(whole)

    def append(self, records: Sequence[Record], *, durable: bool) -> None:
        """Adds records, in one write.

        Args:
            records: What to add.
            durable: Whether to wait until they are on the disk, so that they outlast the loss of power too.

        Raises:
            JournalError: They cannot be written.
        """
        if self._is_broken:
            raise JournalError(f"the journal {self.path} could not be written before: resume the run from it")
        lines = b"".join(map(self._line, records))
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301  (said by halves)
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._is_broken = True  # the next line would stand behind half of one
            raise JournalError(
                f"the journal {self.path} cannot be written ({error.strerror or error}): nothing more is sent, and the "
                "run can be resumed from it"
            ) from error

    def _line(self, record: Record) -> bytes:
        content = canonical_json(record)
        self._sum = _sum_of(self._sum, content)
        return self._sum.encode() + b" " + content + b"\n"

    def close(self) -> None:
        """Closes the file and lets others have it."""
        self._file.close()
        _unlock(self._lock)


def first_record(path: Path) -> Record:
    """The first record of a journal, whoever has it open.

    Raises:
        JournalError: It cannot be read, or has no whole line.
        JournalCorrupt: The line was changed.
    """
    try:
        with path.open("rb") as file:
            line = file.readline()
    except (OSError, ValueError) as error:
        raise JournalError(f"cannot read the journal {path}: {getattr(error, 'strerror', None) or error}") from error
    if not _is_begun(line):
        raise JournalError(f"{path} is no journal of a run: it begins with {line[:20]!r}")
    if not line.endswith(b"\n"):
        raise JournalError(f"the journal {path} ends before its first line does: nothing was sent, so begin anew")
    return _checked(line, _START, place=f"{path}, line 1")[1]


def records_of(path: Path) -> Iterator[Record]:
    """Every record of a journal, whoever has it open; what follows the last whole line is left alone.

    Raises:
        JournalError: It cannot be read.
        JournalCorrupt: A line was changed, lost or moved.
    """
    try:
        for line in _whole_lines(path):
            yield line.record
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Line:
    """A whole line: its check sum, its record, and where the next one begins."""

    sum: str
    record: Record
    end: int


def _whole_lines(path: Path) -> Iterator[_Line]:
    before, end = _START, 0
    with path.open("rb") as lines:  # buffered, which what is written is not
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            before, record = _checked(line, before, place=f"{path}, line {number}")
            end += len(line)
            yield _Line(before, record, end)


def _checked(line: bytes, before: str, *, place: str) -> tuple[str, Record]:
    """The check sum and the record of a line.

    Raises:
        JournalCorrupt: They do not fit each other, or the line before.
    """
    stated, _, content = line.rstrip(b"\n").partition(b" ")
    if stated != _sum_of(before, content).encode():
        raise JournalCorrupt(
            f"{place}: it does not match its check sum, so this line or one before it was changed, lost or moved; "
            "use a copy from before, or begin anew"
        )
    return stated.decode(), _record(content, place=place)


def _record(content: bytes, *, place: str) -> Record:
    """What `append` wrote; a right check sum shows that nobody changed it since, not that it was `append` who wrote.

    Raises:
        JournalCorrupt: It is no JSON object.
    """
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise JournalCorrupt(f"{place}: its check sum is right, but it is no JSON object: {content[:20]!r}")
    return record


def _sum_of(before: str, content: bytes) -> str:
    return hashlib.sha256(before.encode() + content).hexdigest()[:_SUM_DIGITS]


@dataclass(frozen=True, slots=True)
class _Lock:
    lock: FileLock
    path: Path


def _locked(path: Path) -> _Lock:
    """Held until the process ends, however it ends: the operating system lets go of it."""
    beside = path.with_name(f"{path.name}.lock")
    lock = FileLock(beside, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        _check_can_be_made(beside, path)
        raise JournalInUse(
            f"the journal {path} is in use: one run at a time goes on from it, and {beside.name} is held by that one"
        ) from error
    except (OSError, ValueError) as error:
        raise _no_place(path, error) from error
    return _Lock(lock, beside)


def _check_can_be_made(lock: Path, path: Path) -> None:
    """Tells a lock that somebody holds from one that cannot be made at all, where filelock says the same of both.

    Raises:
        JournalError: It cannot be made.
    """
    try:
        lock.open("ab").close()
    except OSError as error:
        raise _no_place(path, error) from error


def _no_place(path: Path, error: OSError | ValueError) -> JournalError:
    return JournalError(f"the journal {path} cannot be kept there: {getattr(error, 'strerror', None) or error}")


def _unlock(held: _Lock) -> None:
    held.path.unlink(missing_ok=True)
    held.lock.release()


def _opened(path: Path, *, exists: bool) -> BinaryIO:
    try:
        return path.open("r+b", buffering=0) if exists else _made(path)
    except JournalError:
        raise
    except FileNotFoundError as error:
        raise JournalError(f"there is no journal {path} to go on with: name another, or begin a run there") from error
    except (OSError, ValueError) as error:
        raise JournalError(f"the journal {path} cannot be opened: {getattr(error, 'strerror', error)}") from error


def _made(path: Path) -> BinaryIO:
    """A new file, or one of a run that ended before it had sent anything.

    Raises:
        JournalError: It holds a run, or something else.
    """
    file = path.open("a+b", buffering=0)
    file.seek(0)
    beginning = file.read(LONGEST_HEADER)
    if has_sent(beginning):
        file.close()
        raise JournalError(
            f"the journal {path} holds a run already: Tuner.resume (lmaas tune --resume) goes on with it, or choose "
            "another name"
        )
    if not _is_begun(beginning):
        file.close()
        raise JournalError(f"{path} holds something that is no journal: choose another name")
    file.truncate(0)
    return file


def has_sent(beginning: bytes) -> bool:
    """Whether a journal that begins so has more than its first line, without which nothing was sent."""
    return _is_begun(beginning) and b"\n" in beginning.partition(b"\n")[2]


def _is_begun(beginning: bytes) -> bool:
    """Whether this may be the beginning of a journal, or nothing at all."""
    return _BEGINNING.fullmatch(beginning[: _SUM_DIGITS + 2]) is not None
