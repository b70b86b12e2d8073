"""The results file: nothing that was paid for is lost, and nothing is taken that was changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmaas_sdk import RunFileError
from lmaas_sdk.bench import ResultsFile, read_results

RECORDS = [{"key": f"cell {n}", "value": n / 3, "text": "\u00fc\u2028"} for n in range(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three records."""
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        for record in RECORDS:
            results.add(record)
    return path


def test_what_is_added_is_there(path: Path) -> None:
    """For whoever reads it, and for the next process that adds to it, as JSON lines."""
    assert read_results(path) == RECORDS
    with ResultsFile(path) as results:
        assert results.records == RECORDS
        results.add({"key": "one more"})
    assert [*RECORDS, {"key": "one more"}] == read_results(path)
    assert [json.loads(line)["key"] for line in path.read_text().split("\n")[1:-1]] == [
        "cell 0",
        "cell 1",
        "cell 2",
        "one more",
    ]


@pytest.mark.parametrize("lost", [1, 10, 40])
def test_a_line_that_was_being_written_is_cut_off(path: Path, lost: int) -> None:
    """As a kill leaves it: the lines before it stay, and the next one stands behind them."""
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    assert read_results(path) == RECORDS[:2]
    with ResultsFile(path) as results:
        results.add(RECORDS[2])
    assert path.read_bytes() == content


@pytest.mark.parametrize("length", range(0, 25, 6))
def test_a_file_whose_first_line_was_being_written_begins_anew(tmp_path: Path, length: int) -> None:
    """Nothing was in it."""
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"format":"lmaas-bench/1","sum":"'[:length])
    with ResultsFile(path) as results:
        results.add(RECORDS[0])
    assert read_results(path) == RECORDS[:1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:2], lines[2].replace(b"cell 1", b"cell 7"), lines[3]],
        lambda lines: [lines[0], lines[2], lines[3]],
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [*lines[:3], b"[1]\n"],
        lambda lines: [*lines[:3], b"no JSON\n", lines[3]],
    ],
    ids=["changed", "lost", "moved", "no object", "no JSON"],
)
def test_anything_else_is_refused(path: Path, damage: object) -> None:
    """The message names the line, and the file stays as it was."""
    damaged = b"".join(damage(path.read_bytes().splitlines(keepends=True)))  # type: ignore[operator]
    path.write_bytes(damaged)
    for read in (read_results, ResultsFile):
        with pytest.raises(RunFileError, match=r"results.jsonl, line [234]: "):
            read(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"format":"lmaas-bench/9","sum":"0"}\n'])
def test_what_is_no_results_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A name that was mistyped costs nobody a file."""
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match="notes"):
        ResultsFile(path)
    assert path.read_bytes() == content


def test_one_at_a_time_adds_to_it(path: Path) -> None:
    """By whatever name; reading is free, and so is the file afterwards."""
    with ResultsFile(path):
        with pytest.raises(RunFileError, match="in use: one process at a time"):
            ResultsFile(path.parent / "." / path.name)
        assert read_results(path) == RECORDS
    with ResultsFile(path) as results:
        assert results.records == RECORDS


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    """Reading or writing, with the path."""
    with pytest.raises(RunFileError, match="cannot use the results file"):
        ResultsFile(tmp_path / "missing" / "results.jsonl")
    with pytest.raises(RunFileError, match="cannot read the results file"):
        read_results(tmp_path / "results.jsonl")


def test_a_closed_file_takes_nothing(path: Path) -> None:
    """It belongs to others then."""
    with ResultsFile(path) as results:
        pass
    with pytest.raises(RunFileError, match="cannot write"):
        results.add({"key": "late"})
    assert read_results(path) == RECORDS
