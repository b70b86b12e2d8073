"""File formats: rows by column name, each with the place it stands at, from TSV, CSV and JSONL."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lmaas_sdk.errors import TaskError

__all__ = [
    "SUFFIXES",
    "Format",
    "Records",
    "Row",
    "csv_records",
    "folder_contents",
    "format_of",
    "json_records",
    "tsv_records",
]

Row = Mapping[str, object]
Records = Iterable[tuple[str, Row]]
"""Where a row stands ("file:line"), and the row by column name."""
Format = Callable[[Path, bool], Records]
"""(file, whether its first line names the columns) -> its rows."""

SUFFIXES = (".tsv", ".csv", ".jsonl")
_SHOWN_ENTRIES = 20
_field_limit = threading.Lock()


def format_of(path: Path) -> Format:
    """How a file is read, by its suffix.

    Raises:
        TaskError: The suffix is none of `SUFFIXES`.
    """
    match path.suffix.lower():
        case ".tsv":
            return tsv_records
        case ".csv":
            return csv_records
        case ".jsonl":
            return json_records
    raise TaskError(f"{path} is no {', '.join(SUFFIXES)} file: read it with read_tsv, read_csv or read_jsonl")


def tsv_records(path: Path, header: bool) -> Records:
    """The rows of a tab-separated file without quoting; without `header`, columns are called "0", "1", ..."""
    return _by_column(path, _tsv_rows(_decoded(path)), header=header)


def csv_records(path: Path, header: bool) -> Records:
    """The rows of a comma-separated file; without `header`, columns are called "0", "1", ..."""
    return _by_column(path, _csv_rows(_decoded(path), path), header=header)


def json_records(path: Path, header: bool = True) -> Iterator[tuple[str, Row]]:
    """The objects of a file that holds one a line; they name their values, so there is no `header` to leave out."""
    if not header:
        raise TaskError(f"{path}: an object has names, not positions: give text_columns and label_column by name")
    for line, content in enumerate(_decoded(path).split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{path}:{line}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TaskError(f"{path}:{line}: a line is a JSON object, not {content[:80]!r}")
        yield f"{path}:{line}", row


def folder_contents(folder: Path) -> str:
    """What is in a folder, for a message about something that is not."""
    if not folder.is_dir():
        return f"nor is there a folder {folder}"
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = f" and {len(entries) - _SHOWN_ENTRIES} more" if len(entries) > _SHOWN_ENTRIES else ""
    return f"{folder} holds {', '.join(entries[:_SHOWN_ENTRIES]) or 'nothing'}{more}"


_Rows = Iterator[tuple[int, list[str]]]  # line number, cells


def _by_column(path: Path, rows: _Rows, *, header: bool) -> Iterator[tuple[str, Row]]:
    first, names = next(rows, (1, []))
    if len(set(names)) != len(names) and header:
        raise TaskError(f"{path}:{first}: the first line names a column twice: {', '.join(names)}")
    if not header:
        yield f"{path}:{first}", {str(position): cell for position, cell in enumerate(names)}
        names = [str(position) for position in range(len(names))]
    for line, cells in rows:
        if len(cells) != len(names):
            raise TaskError(f"{path}:{line}: {len(cells)} columns, where {len(names)} are wanted: {', '.join(names)}")
        yield f"{path}:{line}", dict(zip(names, cells, strict=True))


def _tsv_rows(text: str) -> _Rows:
    # Split at "\n" alone: str.splitlines would also break a line at U+2028 and other signs that texts contain.
    for line, content in enumerate(text.split("\n"), 1):
        if cells := content.removesuffix("\r"):
            yield line, cells.split("\t")


def _csv_rows(text: str, path: Path) -> _Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        with _fields_as_long_as(len(text)):
            return iter([(reader.line_num, cells) for cells in reader if cells])
    except csv.Error as error:
        raise TaskError(f"{path}:{reader.line_num}: not CSV: {error}") from error


@contextmanager
def _fields_as_long_as(length: int) -> Iterator[None]:
    """Lets the csv module read fields of that many characters; its own limit is 131,072.

    The limit belongs to the whole process, so it is put back, and one file at a time is read under another.
    """
    with _field_limit:
        usual = csv.field_size_limit()
        csv.field_size_limit(max(usual, length))
        try:
            yield
        finally:
            csv.field_size_limit(usual)


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TaskError(f"no file {path}: {folder_contents(path.parent)}") from error
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from error
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TaskError(f"{path}:{line}: byte 0x{content[error.start]:02x} is not UTF-8: convert the file") from error
