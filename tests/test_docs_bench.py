"""docs/bench.md: its program runs, its commands can be given, and its tables name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lmaas_sdk import bench
from lmaas_sdk.bench.sweep_settings import SETTINGS
from lmaas_sdk.cli import main

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "bench.md").read_text("utf-8")


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It measures what is missing, and prints a table."""
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for labels in (["things, manual done", *(f"things, black-box:small@100, seed {n} done" for n in (13, 21))], []):
        exec(compile(program, "docs/bench.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
        printed = capsys.readouterr().out
        assert sorted(line for line in printed.splitlines() if line.endswith(" done")) == sorted(labels)
        assert "| Black-Box Tuning (small), 100 evaluations |" in printed


def commands() -> list[list[str]]:
    shell = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    inline = re.findall(r"`(lmaas bench --\w[^`]*)`", PAGE)
    return [shlex.split(command, comments=True)[1:] for command in (*shell, *inline)]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_can_be_given(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand there, they get as far as what is not there: the data, or the results."""
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert re.search(r"no folder FOLDER|cannot read the results file bench.jsonl", capsys.readouterr().err)


def test_every_name_is_on_the_page() -> None:
    """Those of the package, configurations, and settings that can be swept."""
    assert [name for name in bench.__all__ if name not in PAGE] == []
    kinds = {re.sub(":.*", ":PRESET", name) for name in bench.CONFIGURATIONS}
    table = PAGE.partition("| `--methods` |")[2].partition("\n\n")[0]
    named = [name for first in re.findall(r"^\|(.*?)\|", table, re.MULTILINE) for name in re.findall("`(.*?)`", first)]
    assert set(named) == kinds
    assert [name for name in SETTINGS if f"`{name}`" not in PAGE] == []
