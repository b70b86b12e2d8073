"""docs/tuning.md: its example runs, and its tables name what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from lmaas_sdk import PRESETS, Scheduling, TuningResult
from lmaas_sdk.testing.optimizers import RULES
from lmaas_sdk.tuning.scheduling import OnFailure, Stragglers

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "tuning.md").read_text("utf-8")
PROGRAMS = [program for program in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "import " in program]


def run(program: str) -> None:
    exec(compile(program, "docs/tuning.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's program tunes, reports, saves and predicts."""
    monkeypatch.chdir(tmp_path)
    run(PROGRAMS[0])
    printed = capsys.readouterr().out
    assert "RunPlanned(generations=50, population=10)" in printed
    assert "budget dev_metric" in printed
    assert (tmp_path / "things.prompt").exists()


def test_the_example_of_several_runs_runs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program prints a row a run, keeps journals, and says the same again from these."""
    monkeypatch.chdir(tmp_path)
    printed = []
    for _ in range(2):
        run(PROGRAMS[1])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert all(f"seed-{seed}" in printed[0] for seed in (13, 21, 42))
    assert {"seed-13.journal", "seed-21.journal", "seed-42.journal"} == {
        path.name for path in (tmp_path / "runs").iterdir()
    }


def test_the_search_of_ones_own_conforms_and_descends(capsys: pytest.CaptureFixture[str]) -> None:
    """The page's other program checks a wrapped search, and runs it to the minimum."""
    (program,) = PROGRAMS[2:]
    run(program)
    assert capsys.readouterr().out == "0.000 from the minimum\n"


def test_the_rules_for_searches_are_all_named() -> None:
    """The table of rules is the conformance suite's."""
    section = PAGE.split("| rule | what holds |", 1)[1].split("## Data", 1)[0]
    named = {name for row in section.splitlines()[2:] for name in re.findall(r"`([a-z-]+)`", row.split(" | ")[0])}
    assert named == set(RULES)


def test_the_ways_to_schedule_are_all_named() -> None:
    """The page shows a `Scheduling` that can be made, and tells of every way there is."""
    section = PAGE.split("## Slow calls and failures", 1)[1].split("## Spending less", 1)[0]
    (shown,) = re.findall(r"Scheduling\((\w.*?)\)$", section, re.MULTILINE)
    assert Scheduling(**dict(re.findall(r'(\w+)="(\w+)"', shown))).failed == "resample"
    ways = {way for choice in (Stragglers, OnFailure) for way in get_args(choice)}
    assert {way for way in ways if f'`"{way}"`' in section} == ways


def test_the_presets_are_all_named() -> None:
    """The table of presets is the package's."""
    section = PAGE.split("## Presets", 1)[1].split("`dataclasses", 1)[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)`", section, re.MULTILINE)) == set(PRESETS)


def test_the_attributes_of_a_result_exist() -> None:
    """Every attribute that the page names is there."""
    section = PAGE.split("| `result.` |", 1)[1].split("## Presets", 1)[0]
    named = {
        name
        for row in section.splitlines()[2:]
        for name in re.findall(r"`(\w+)(?:\(\))?`", row.split("| ")[1] if "| " in row else "")
    }
    assert named <= {field.name for field in fields(TuningResult)} | set(dir(TuningResult))
    assert {"prompt", "spend", "core", "to_dict"} <= named
