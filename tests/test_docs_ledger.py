"""docs/ledger.md: its examples run, and its tables name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lmaas_sdk.accounting.schema import migrate
from lmaas_sdk.cli import main

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "ledger.md").read_text(encoding="utf-8")


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the Python blocks of the page print, run one after another."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/ledger.md", "exec"), names)  # noqa: S102 - our own page
    return capsys.readouterr().out.splitlines()


def test_the_examples_run(printed: list[str]) -> None:
    """They print what the page says beside them."""
    assert ["budget 200 1800", "team/tuesday calls 0.5 5", "True", "True"] == printed[:4]
    assert re.findall(r"print\(.*\)  # (.*)", PAGE) == printed[:4]


def test_the_commands_run(printed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of the page, on the ledger of its examples; they leave it right."""
    commands = re.findall(r"^lmaas (ledger [^#>\n]*[^#>\s])", PAGE, re.MULTILINE)
    assert {"show", "export", "verify", "limits"} == {command.split()[1] for command in commands}
    for command in (*commands, "ledger verify spend.db"):
        assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.endswith("all right\n")


def test_the_kinds_are_all_named() -> None:
    """The table of kinds has every one that the file may hold."""
    rows = PAGE.split("| kind | what happened |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    schema = Path(migrate.__code__.co_filename).read_text(encoding="utf-8")
    kinds = re.findall(r"kind IN \(\s*('limits'[^)]*)\)", schema)[-1]
    assert re.findall(r"'(\w+)'", kinds) == [row.split("`")[1] for row in rows]
