"""Readers: data sets from TSV, CSV and JSONL files, from folders of splits, and from Hugging Face `datasets`.

Which columns hold the text is said by the caller, else by the task's source, else by the template's field names, else
by the usual names, those of GLUE's own files among them. The first line of a TSV or CSV file names its columns; in a
file without such a line the columns are asked for by position:
`read_tsv(path, task, text_columns=(0,), label_column=1)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from lmaas_sdk.errors import MissingExtra, TaskError
from lmaas_sdk.tasks.dataset import Dataset, Example, Task
from lmaas_sdk.tasks.formats import (
    SUFFIXES,
    Format,
    Records,
    Row,
    csv_records,
    folder_contents,
    format_of,
    json_records,
    tsv_records,
)
from lmaas_sdk.tasks.source import squash

__all__ = ["read_csv", "read_dataset", "read_folder", "read_huggingface", "read_jsonl", "read_tsv"]

Column = str | int

_HUB_SPLITS = {"dev": "validation"}
_USUAL_COLUMNS = {
    1: (("text",), ("sentence",)),
    2: (("sentence1", "sentence2"), ("premise", "hypothesis"), ("#1 String", "#2 String")),  # the last: GLUE's MRPC
}
_USUAL_LABEL = "label"
_OTHER_LABELS = ("gold_label", "Quality")  # GLUE's SNLI and MRPC


def read_dataset(
    path: str | Path,
    task: Task,
    *,
    split: str | None = None,
    text_columns: Sequence[Column] | None = None,
    label_column: Column = _USUAL_LABEL,
) -> Dataset:
    """A data set from a .tsv, .csv or .jsonl file, or from a folder that holds one for each split.

    Args:
        path: The file or folder.
        task: What the rows are examples of.
        split: Of a folder: train, dev or test; None: the one the task is evaluated on. A file has no splits.
        text_columns: Columns in the order of the template's fields; None: see the module.
        label_column: The column of class names or indices; the usual one is "gold_label" or "Quality" in some files.

    Raises:
        TaskError: The file is missing, of another kind, or a row of it is unusable; the message gives file and line.
    """
    path = Path(path)
    if path.is_dir():
        return read_folder(path, task, split, text_columns=text_columns, label_column=label_column)
    if split is not None and path.exists():
        raise TaskError(f"{path} is one file, it has no split {split!r}: name a folder of splits, or leave split out")
    return _Columns(task, text_columns, label_column).read(path, format_of(path))


def read_tsv(
    path: str | Path, task: Task, *, text_columns: Sequence[Column] | None = None, label_column: Column = _USUAL_LABEL
) -> Dataset:
    """A tab-separated file, whatever its suffix. Nothing is quoted: a quotation mark is part of the text.

    Raises:
        TaskError: As `read_dataset`.
    """
    return _Columns(task, text_columns, label_column).read(Path(path), tsv_records)


def read_csv(
    path: str | Path, task: Task, *, text_columns: Sequence[Column] | None = None, label_column: Column = _USUAL_LABEL
) -> Dataset:
    """A comma-separated file as RFC 4180 has it, whatever its suffix; quoted fields may hold line breaks.

    Raises:
        TaskError: As `read_dataset`.
    """
    return _Columns(task, text_columns, label_column).read(Path(path), csv_records)


def read_jsonl(
    path: str | Path, task: Task, *, text_columns: Sequence[str] | None = None, label_column: str = _USUAL_LABEL
) -> Dataset:
    """A file with one JSON object a line, whatever its suffix.

    Raises:
        TaskError: As `read_dataset`.
    """
    return _Columns(task, text_columns, label_column).read(Path(path), json_records)


def read_folder(
    folder: str | Path,
    task: Task,
    split: str | None = None,
    *,
    text_columns: Sequence[Column] | None = None,
    label_column: Column = _USUAL_LABEL,
) -> Dataset:
    """The split of a task whose data lie in `folder`, or in a folder below it that has one of the task's names.

    So both `read_folder("data/SST-2", task, "train")` and `read_folder("data", task, "train")` find `train.tsv`.

    Args:
        folder: Where to look.
        task: What the rows are examples of.
        split: train, dev or test; None: the one the task is evaluated on.
        text_columns, label_column: As in `read_dataset`.

    Raises:
        TaskError: There is no such folder or file, or more than one; the message lists what is there.
    """
    path = _find_split(Path(folder), task, split or task.source.evaluation_split)
    return read_dataset(path, task, text_columns=text_columns, label_column=label_column)


def read_huggingface(
    source: str | Iterable[Row],
    task: Task,
    *,
    split: str | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str = _USUAL_LABEL,
) -> Dataset:
    """A data set of the Hugging Face hub, or any object that iterates rows as dicts.

    Where the set names its classes (`features[label_column].names`), rows are matched by those names, never by number:
    the order of classes differs between publications of one data set.

    Args:
        source: A name on the hub, with its configuration after a colon (`"nyu-mll/glue:sst2"`), a loaded data set, or
            a mapping of such by split.
        task: What the rows are examples of.
        split: The split's name there; None: the one the task is evaluated on (`validation` where that is dev).
        text_columns, label_column: As in `read_dataset`, by name.

    Raises:
        MissingExtra: A name was given and the package `datasets` is not installed.
        TaskError: The set or split cannot be loaded, its classes have other names than the task's, or a row is
            unusable.
    """
    split = split or _HUB_SPLITS.get(task.source.evaluation_split, task.source.evaluation_split)
    origin = source if isinstance(source, str) else type(source).__name__
    rows = _load(source, split) if isinstance(source, str) else source
    if isinstance(rows, Mapping):
        if split not in rows:
            raise TaskError(f"{origin} has no split {split!r}: it has {_listed(rows)}")
        rows = rows[split]
    columns = _Columns(task, text_columns, label_column, _class_names(rows, task, label_column))
    return columns.dataset(((f"{origin}[{row}]", cells) for row, cells in enumerate(rows)), f"{origin}/{split}")


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the fields and the label stand in a row, and what the labels mean."""

    task: Task
    text_columns: Sequence[Column] | None
    label_column: Column
    class_names: tuple[str, ...] = ()  # what the source itself calls class 0, 1, ..., where it says so

    def __post_init__(self) -> None:
        fields = self.task.template.fields
        if isinstance(self.text_columns, str):
            raise TaskError(f"text_columns is a list of columns, not one string: write [{self.text_columns!r}]")
        if not isinstance(self.text_columns, (Sequence, NoneType)):
            raise TaskError(f"text_columns is a list of columns, not {self.text_columns!r:.80}")
        if self.text_columns is not None and len(self.text_columns) != len(fields):
            raise TaskError(f"text_columns has a column for each of {_listed(fields)}, not {list(self.text_columns)}")
        if any(isinstance(column, str) != self.named for column in self.text_columns or ()):
            given = [*(self.text_columns or ()), self.label_column]
            raise TaskError(f"columns are all names or all positions, not {given}")
        if self.text_columns is None and not self.named:
            raise TaskError(f"label column {self.label_column!r} is a position: give text_columns by position, as (0,)")

    @property
    def named(self) -> bool:
        """Columns are asked for by name, so a table's first line names them."""
        return isinstance(self.label_column, str)

    def read(self, path: Path, rows_of: Format) -> Dataset:
        """Builds the data set of a file."""
        return self.dataset(rows_of(path, self.named), f"{path.parent.name}/{path.stem}".lstrip("/"))

    def dataset(self, rows: Records, name: str) -> Dataset:
        """Builds the data set; rows with one of the task's dropped labels are left out."""
        examples: list[Example] = []
        columns: tuple[str, ...] = ()
        for where, row in rows:
            if not isinstance(row, Mapping):
                raise TaskError(f"{where}: a row is a mapping from column to value, not {row!r:.80}")
            columns = columns or self._choose(where, row)
            cells = tuple(_cell(where, row, column) for column in columns)
            label = _whole(_cell(where, row, self._label_in(row)))
            if str(label).strip() not in self.task.source.dropped_labels:
                examples.append(self._example(where, cells, label))
        if not examples:
            raise TaskError(f"{name} holds no examples: a table's first line names its columns and is no example")
        return Dataset(self.task, tuple(examples), name)

    def _choose(self, where: str, row: Row) -> tuple[str, ...]:
        """The text columns of a file, by its first row."""
        if self.text_columns is not None:
            return tuple(str(column) for column in self.text_columns)
        fields = self.task.template.fields
        usual: Sequence[tuple[str, ...]] = (self.task.source.columns, fields, *_USUAL_COLUMNS.get(len(fields), ()))
        candidates = [columns for columns in dict.fromkeys(usual) if len(columns) == len(fields)]
        for columns in candidates:
            if all(column in row for column in columns):
                return columns
        tried = " or ".join(" + ".join(columns) for columns in candidates)
        raise TaskError(f"{where}: no columns {tried}: there are {_listed(row)}; say which with text_columns=[...]")

    def _label_in(self, row: Row) -> str:
        """The column of the label: the one asked for or, where nobody asked and it is not there, as GLUE calls it."""
        if self.label_column != _USUAL_LABEL or _USUAL_LABEL in row:
            return str(self.label_column)
        return next((name for name in _OTHER_LABELS if name in row), _USUAL_LABEL)

    def _example(self, where: str, cells: tuple[Any, ...], label: Any) -> Example:
        try:
            return Example(self.task.template.arrange(cells), self.task.label_index(self._class_name(label)))
        except TaskError as error:
            raise TaskError(f"{where}: {error}") from error

    def _class_name(self, label: Any) -> Any:
        """The source's own name of a class it gives by number, so that its order of classes does not matter."""
        if not self.class_names or not isinstance(label, int):
            return label
        if not 0 <= label < len(self.class_names):
            raise TaskError(f"label {label} is none of the set's own classes 0 .. {len(self.class_names) - 1}")
        return self.class_names[label]


def _cell(where: str, row: Row, column: str) -> object:
    try:
        return row[column]
    except KeyError as error:
        raise TaskError(f"{where}: no column {column!r}: there are {_listed(row)}") from error


def _whole(label: object) -> object:
    """A class index that was written as 1.0: what had a missing value in its column often comes so."""
    return int(label) if isinstance(label, float) and label.is_integer() else label


def _find_split(folder: Path, task: Task, split: str) -> Path:
    if not folder.is_dir():
        raise TaskError(f"no folder {folder}: {folder_contents(folder.parent)}")
    names = {squash(name) for name in (task.name, *task.source.names)}
    below = sorted(entry for entry in folder.iterdir() if entry.is_dir() and squash(entry.name) in names)
    for places in ([folder], below):
        found = [file for place in places for suffix in SUFFIXES if (file := place / f"{split}{suffix}").is_file()]
        if len(found) > 1:
            raise TaskError(f"more than one {split!r} for task {task.name!r}: {_listed(found)}; read one by its path")
        if found:
            return found[0]
    searched = "; ".join(folder_contents(place) for place in (folder, *below))
    raise TaskError(f"no {split}.tsv, .csv or .jsonl for task {task.name!r}: {searched}")


def _load(name: str, split: str) -> Any:
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtra(f"reading {name!r} needs the package datasets: pip install 'lmaas-sdk[datasets]'") from error
    path, _, configuration = name.partition(":")
    try:
        return datasets.load_dataset(path, configuration or None, split=split)
    except (OSError, ValueError) as error:  # what the package raises for an unknown set or split, or no network
        raise TaskError(f"cannot load split {split!r} of {name!r}: {error}") from error


def _class_names(rows: object, task: Task, label_column: str) -> tuple[str, ...]:
    """What the rows' own features call the classes; () where they say nothing, or only number them."""
    features = getattr(rows, "features", None)
    feature = features.get(label_column) if isinstance(features, Mapping) else None
    names: tuple[str, ...] = tuple(getattr(feature, "names", None) or ())
    if all(name.isdecimal() for name in names):
        return ()
    if unknown := [name for name in names if name not in task.labels]:
        raise TaskError(
            f"the set's classes are {_listed(names)}, those of task {task.name!r} {_listed(task.labels)}: "
            f"none is called {_listed(unknown)}; give the task those labels, or pass list(rows) to go by number"
        )
    return names


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names) or "none"
