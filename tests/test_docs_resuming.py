"""docs/resuming.md: its example runs, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from lmaas_sdk.cli import main
from lmaas_sdk.tuning import journal

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "resuming.md").read_text("utf-8")


def rows(header: str) -> list[str]:
    """First column of a table."""
    table = PAGE.split(header, 1)[1].split("\n\n", 1)[0]
    return [row.split("|")[1].strip() for row in table.splitlines()[2:]]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what the page says beside it."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/resuming.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    assert re.findall(r"print\(.*\)\)?  # (.*)", program) == capsys.readouterr().out.splitlines()


def test_the_records_and_durabilities_are_all_named() -> None:
    """The tables have every kind of record that the journal's own table has, and every policy."""
    kinds = re.findall(r"^\| `(\w+)` \|", journal.__doc__ or "", re.MULTILINE)
    assert kinds == [row.strip("`") for row in rows("| Record | When | What is in it |")]
    assert list(get_args(journal.Durability)) == [
        re.findall(r"\w+", row)[0] for row in rows("| `durability` | waits for the disk |")
    ]


def test_the_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of `lmaas tune` that the page names is in its help."""
    with pytest.raises(SystemExit):
        main(["tune", "--help"])
    helped = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    named = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", PAGE)) - {"--budget", "--state"}
    assert named
    assert named <= helped
