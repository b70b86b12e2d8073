"""docs/recorded-landscapes.md: its programs run, and its command prints what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lmaas_sdk.cli import main

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "recorded-landscapes.md").read_text(encoding="utf-8")


def test_the_programs_and_the_command_do_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is recorded, simulated by the command, and replayed by the second program: every figure."""
    monkeypatch.chdir(tmp_path)
    making, truly, replaying = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    ((command, output),) = re.findall(r"```sh\n\$ lmaas ((?:[^\n]*\\\n)*[^\n]*)\n(.*?)```", PAGE, re.DOTALL)
    names = {"__name__": "page"}
    assert said(making) == printed_by(making, names, capsys)
    assert 0 == main(shlex.split(command.replace("\\\n", " ")))
    assert output.splitlines() == [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert said(truly) == printed_by(truly, names, capsys)
    assert said(replaying) == printed_by(replaying, names, capsys)


def said(program: str) -> list[str]:
    """What the page has in its comments."""
    return re.findall(r"# (\S+)$", program, re.MULTILINE)


def printed_by(program: str, names: dict[str, object], capsys: pytest.CaptureFixture[str]) -> list[str]:
    exec(compile(program, "docs/recorded-landscapes.md", "exec"), names)  # noqa: S102 - our own page
    return capsys.readouterr().out.splitlines()
