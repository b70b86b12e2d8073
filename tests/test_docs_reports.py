"""docs/reports.md: its program and commands run, and its tables name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from run_cases import tuned

from lmaas_sdk import read_run
from lmaas_sdk.cli import main

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "reports.md").read_text("utf-8")


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the page's program prints, in a folder where its files are afterwards."""
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/reports.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    return capsys.readouterr().out.splitlines()


def test_the_program_runs(printed: list[str]) -> None:
    """It prints what the page says beside it."""
    assert re.findall(r"print\(.*\)  # (.*)", PAGE) == printed


def test_the_commands_run(printed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every report of the page, on the program's runs; the first writes the files that the page names."""
    commands = re.findall(r"^\$ lmaas (report .*)$", PAGE, re.MULTILINE)
    assert 3 == len(commands)
    told = []
    for command in commands:
        words = shlex.split(re.sub(r"\S+\.(run\.json|journal)", "seed-1.run.json", command, count=1))
        words = ["seed-2.run.json" if word.endswith(".journal") else word for word in words]
        assert 0 == main(words)
        told.append(capsys.readouterr().out.split())
    shown = re.findall(r"^report/\S+$", PAGE, re.MULTILINE)
    assert shown[:2] == told[0]  # without a dev set, which the program leaves out, there is one picture
    assert printed


async def test_the_keys_of_the_file_are_named() -> None:
    """The table has what `to_record` has beside `to_dict`, and the digest."""
    result = await tuned(16)
    table = PAGE.split("| key | what is there |", 1)[1].split("\n\n", 1)[0]
    added = result.to_record().keys() - result.to_dict().keys()
    assert {*added, "digest"} == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    for name in ("dev_metric", "dev_cross_entropy", "spent", "elapsed_s"):
        assert f"`{name}`" in table
        assert any(name in row for row in result.to_record()["history"])


async def test_a_result_saves_itself(tmp_path: Path) -> None:
    """`result.save` writes what `read_run` reads."""
    result = await tuned(16)
    assert result.evaluations == read_run(result.save(tmp_path / "a.run.json")).evaluations
