"""docs/many-jobs.md: its command prints what it says, its example runs, its figures are the benchmark's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from lmaas_sdk.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "many-jobs.md").read_text(encoding="utf-8")


def test_the_command_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """To the last figure."""
    command, shown = re.findall(r"```console\n\$ lmaas (.*?)\n(.*?)```", PAGE, re.DOTALL)[0]
    assert 0 == main(shlex.split(command))
    lines = capsys.readouterr().out.splitlines()
    assert shown.splitlines() == [line.rstrip() for line in lines]


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends after as many midnights as its quota says."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/many-jobs.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    assert "requests_per_day 50 of 50" in capsys.readouterr().out


def test_the_figures_are_those_of_the_benchmark() -> None:
    """Every row of the table, and the bar is held."""
    results = json.loads((ROOT / "benchmarks" / "results" / "thousand_jobs.json").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| ([\d,]+) \| (\S+) \| ([\d.]+) s \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    told = {(count.replace(",", ""), name): figures for count, name, *figures in rows}
    assert {(count, name) for count, found in results["jobs"].items() for name in found} == told.keys()
    for (count, name), figures in told.items():
        found = results["jobs"][count][name]
        assert [f"{found['cpu_s']:.1f}", f"{found['highest']:.3f}", f"{found['turns_ahead']:.2f}"] == figures
        assert found["over"] == found["refused_by_quota"] == 0
        assert found["highest"] <= 1.2 + 1e-9
        assert found["cpu_s"] < 180
