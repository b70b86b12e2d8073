"""docs/deployment.md: its program runs, and its table names what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from test_bench_deployment import write_data

from lmaas_sdk.bench.deployment import DeploymentRow

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "deployment.md").read_text("utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints of a search is there: a service, as many queries as evaluations, and what one sends up."""
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    (program,) = PROGRAMS
    exec(compile(program, "docs/deployment.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    configuration, is_service, queries, upload_bytes, _ = capsys.readouterr().out.split()
    assert ("black-box:paper@20", "True", "20.0") == (configuration, is_service, queries)
    assert float(upload_bytes) > 4 * 500  # z


def test_every_figure_that_is_named_is_there() -> None:
    """The page's table and text name fields of a row."""
    known = {field.name for field in fields(DeploymentRow)}
    named = {
        name for cell in re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert len(named) > 10
    assert named <= known
