"""docs/budgets-and-quotas.md: its examples run, its commands print what it says, and its tables name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lmaas_sdk import Budget
from lmaas_sdk.cli import main
from lmaas_sdk.traffic.waits import CAUSES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "budgets-and-quotas.md").read_text("utf-8")
ELISION = "..."


def first_column(header: str) -> list[str]:
    table = PAGE.split(header, 1)[1].split("\n\n", 1)[0]
    return [row.split("|")[1].strip(" `") for row in table.splitlines()[2:]]


def commands() -> list[tuple[list[str], list[str]]]:
    """Every command of the page, and the lines that the page has below it."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"```\n(\$ .*?)```", PAGE, re.DOTALL):
        for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            found.append((shlex.split(command)[1:], lines))
    return found


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    """They print what the page says beside them."""
    ZoneInfo("Asia/Shanghai")  # a zone is read from a file once, which tests do not allow on a loop's thread
    names: dict[str, object] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/budgets-and-quotas.md", "exec"), names)  # noqa: S102 - our own page
    promised = re.findall(r"print\(.*\)  # (.*)", PAGE)
    assert (2, 4) == (len(blocks), len(promised))
    assert promised == capsys.readouterr().out.splitlines()


def test_the_commands_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line and in this order, but for what the page leaves out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mood").mkdir()
    rows = [f"a {('dull', 'lovely')[n % 2]} thing, number {n}\t{n % 2}" for n in range(40)]
    (tmp_path / "mood" / "train.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    codes = []
    for command, lines in commands():
        codes.append(main(command))
        printed = capsys.readouterr()
        parts = [re.escape(line).replace(re.escape(ELISION), ".*") for line in lines]
        assert re.search(r"(?s:\A|.*\n)" + r"\n(?:(?s:.*)\n)?".join(parts), printed.out + printed.err), command
        assert parts
    assert [3, 2, 0, 3, 0, 0] == codes


def test_the_limits_are_all_named() -> None:
    """Every limit of a budget, each with an option that there is."""
    limits = {"usd" if unit == "nanousd" else unit for unit in Budget().limits}
    assert limits == set(first_column("| limit | option of `lmaas tune` | what counts |"))


def test_the_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option that the page names is one of `lmaas tune` or `lmaas ledger`."""
    helped = ""
    for command in (["tune"], ["ledger", "limits"], ["ledger", "show"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        helped += capsys.readouterr().out
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", PAGE))
    assert len(named) > 10
    assert named <= set(re.findall(r"--[a-z]+(?:-[a-z]+)*", helped))


def test_the_causes_are_all_named() -> None:
    """The table has those that `result.waits` has."""
    assert list(CAUSES) == first_column("| cause | what was waited for |")
