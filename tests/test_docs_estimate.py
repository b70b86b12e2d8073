"""docs/estimate.md and the arithmetic in README.md: their commands say what the pages say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from lmaas_sdk.cli import main
from lmaas_sdk.planning.estimated import QUANTITIES

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "estimate.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8").split("## What will it cost?", 1)[1].split("\n## ", 1)[0]
FIGURES = json.loads((ROOT / "benchmarks" / "results" / "estimate_coverage.json").read_text("utf-8"))


def command(page: str) -> list[str]:
    (line,) = re.findall(r"```sh\nlmaas (.*?)\n```", page)
    return shlex.split(line)


def rows(page: str, header: str) -> list[list[str]]:
    table = page.split(header, 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*arguments, *([] if "--json" in arguments else ["--json"])]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_program_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    """To the letter."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/estimate.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    assert capsys.readouterr().out == printed


def test_the_command_of_the_page_says_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """808 calls for sure, some attempts more, and the time by the quota."""
    found = told(command(PAGE), capsys)
    assert "the 808 calls of the run" in PAGE
    assert found["calls"] == dict.fromkeys(("low", "expected", "high"), 808)
    assert found["attempts"]["expected"] == pytest.approx(808 / 0.98, rel=0.01)
    assert 13 * 60 < found["wall_s"]["low"] < found["wall_s"]["high"] < 16 * 60


def test_the_quantities_and_options_are_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of quantities is the code's, and every option in the tables exists."""
    assert [row[0].strip("`") for row in rows(PAGE, "| quantity | what it is |")] == list(QUANTITIES)
    with pytest.raises(SystemExit):
        main(["estimate", "--help"])
    helped = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    named = {option for row in rows(PAGE, "| option | what it says |") for option in re.findall(r"--[a-z-]+", row[0])}
    assert named
    assert named <= helped


def test_the_arithmetic_of_the_readme_is_the_output_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens, the four prices, and the days: one candidate a call and twenty, with dev scoring and without."""
    found = told(command(README), capsys)
    (prices,) = rows(README, "| 8,000 evaluations of 32 sentences |")
    costs = [f"${found['models'][name]['expected']:,.2f}" for name in ("ada", "babbage", "curie", "davinci")]
    assert prices == [f"{found['tokens']['expected']:,} tokens", *costs]
    shapes = [
        [
            str(one["candidates_a_call"]),
            "yes" if one["dev"] else "no",
            f"{one['calls']['expected']:,}",
            str(one["quota_days"]["expected"]),
        ]
        for one in found["shapes"]
    ]
    assert shapes == rows(README, "| Candidates a call | Dev scoring |")
    assert [row[-1] for row in shapes if row[1] == "no"] == ["80", "4"]
    assert all(one["calls"]["low"] == one["calls"]["high"] for one in found["shapes"])


def test_the_coverage_is_that_of_the_benchmark() -> None:
    """Both pages have its figures, and they meet the bars."""
    varied = FIGURES["varied"]
    assert FIGURES["meets_bars"] is True
    assert varied["runs"] >= 200
    claim = re.search(
        r"Of (\d+) simulated runs .* the time of ([\d.]+) % and the cost of ([\d.]+) %", README, re.DOTALL
    )
    assert claim is not None
    assert claim.groups() == (
        str(varied["runs"]),
        f"{100 * varied['wall_s_within']:.1f}",
        f"{100 * varied['cost_usd_within']:.1f}",
    )
    table = {tuple(row[:2]): row[2:] for row in rows(PAGE, "| runs | | within 90 % |")}
    for name in ("wall_s", "cost_usd"):
        within, ratio, width = (varied[f"{name}_{figure}"] for figure in ("within", "ratio", "width"))
        assert table[f"{varied['runs']} varied", name] == [f"{within:.1%}", f"{ratio:.3f}", f"{width:.1%}"]
