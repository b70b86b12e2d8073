"""Tests of lmaas_sdk.tasks.formats: what a file format brings with it. That every format reads is in test_readers."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lmaas_sdk.errors import TaskError
from lmaas_sdk.tasks import Dataset, Task, read_csv, read_dataset

MOOD = Task("mood", template="{text} <mask>", labels=["sad", "glad"], words=["bad", "great"])


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def rows(dataset: Dataset) -> list[tuple[str, int]]:
    return [(example.fields[0], example.label) for example in dataset]


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    """A field over the csv module's usual limit is read, by threads at once too, and the limit stands as it stood."""
    texts = ["x" * 131_073, "y" * 300_000, "z"]
    paths = [write(tmp_path, f"{text[0]}.csv", f"text,label\n{text},1\n") for text in texts]
    before = csv.field_size_limit()

    with ThreadPoolExecutor(3) as threads:
        read = list(threads.map(lambda path: rows(read_csv(path, MOOD)), paths * 5))

    assert [[(text, 1)] for text in texts] * 5 == read
    assert before == csv.field_size_limit()


def test_the_csv_limit_stands_after_a_broken_file_too(tmp_path: Path) -> None:
    """An error on the way does not leave the module's limit changed."""
    before = csv.field_size_limit()

    with pytest.raises(TaskError, match="not CSV"):
        read_csv(write(tmp_path, "a.csv", 'text,label\n"' + "x" * 200_000), MOOD)

    assert before == csv.field_size_limit()


def test_json_lines_have_no_positions(tmp_path: Path) -> None:
    """Asking for the columns of objects by position says to name them."""
    with pytest.raises(TaskError, match="give text_columns and label_column by name"):
        read_dataset(write(tmp_path, "a.jsonl", '{"text": "x", "label": 1}'), MOOD, text_columns=[0], label_column=1)
