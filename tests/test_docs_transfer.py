"""docs/transfer.md: its program runs and prints what the page says, and the options that it names are there."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from benchmarks import next_steps
from lmaas_sdk import Tuner, TunerGroup
from lmaas_sdk.methods.black_box import TunerOptions

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "transfer.md").read_text("utf-8")


def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what the page says beside it."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/transfer.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    assert re.findall(r"print\(.*\)  # (.*)", program) == capsys.readouterr().out.splitlines()
    assert (tmp_path / "things.predictor").exists()


def test_the_options_are_where_the_page_says() -> None:
    """Each of the four takes both."""
    takes = [set(inspect.signature(call).parameters) for call in (Tuner, Tuner.resume, TunerGroup.add)]
    assert all({"base", "projection"} <= options for options in (*takes, set(TunerOptions.__annotations__)))


def test_the_figures_are_those_that_were_measured() -> None:
    """The page's table is what the benchmark prints of its results file."""
    cells = json.loads(next_steps.RESULTS.read_text("utf-8"))["cells"]
    assert [] == [line for line in next_steps.table(cells).splitlines() if line not in PAGE.splitlines()]
