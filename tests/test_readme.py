"""README.md: its code runs, its links lead somewhere, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import paper_tables
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted(path.name for path in ROOT.glob("*.md"))


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    language: str
    code: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)]


def test_the_python_blocks_run(tmp_path: Path) -> None:
    """A reader who pastes the code gets what it promises: a run within its budget, and a prediction."""
    programs = [block.code for block in BLOCKS if block.language == "python"]
    assert 1 == len(programs)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", programs[0]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert re.fullmatch(r"200 evaluations 0\.0\d+ dollars\n\['(low|high)'\]\n", done.stdout)


def test_the_sample_is_short() -> None:
    """The first sample of code has at most thirteen lines, blank ones aside."""
    (sample,) = (block.code for block in BLOCKS if block.language == "python")
    assert sum(bool(line.strip()) for line in sample.splitlines()) <= 13


def test_the_two_commands_are_targets() -> None:
    """Every `make` target the pages name exists."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = {
        name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / page).read_text("utf-8"), re.M)
    }
    assert {"demo", "test"} <= named
    assert set() == {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link names a file or folder of the tree."""
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text("utf-8"))
    assert [] == [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_every_page_of_the_documentation_is_linked() -> None:
    """A reader of README.md finds all of them."""
    pages = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
    assert [] == [page for page in pages if f"({page}" not in README]


def test_the_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Every `lmaas` command of the table, with the options it shows, is understood as far as its help goes."""
    commands = re.findall(r"^\| `lmaas ([^`]+)` \|", README, re.MULTILINE)
    expected = ["demo", "estimate", "simulate", "simulate-jobs", "tune", "bench", "report", "serve", "ledger", "prices"]
    assert expected == [command.split()[0] for command in commands]
    with pytest.raises(SystemExit):
        main(["--help"])
    assert sorted(expected) == sorted(re.findall(r"^ {4}([a-z][a-z-]*)\b", capsys.readouterr().out, re.MULTILINE))
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--help"])
        assert 0 == ended.value.code
        shown = capsys.readouterr().out
        assert [] == [word for word in command.split() if word.startswith("--") and word not in shown]


def test_the_budget_is_described_whole() -> None:
    """The units in the text are the budget's."""
    named = re.search(r"`Budget\(([a-z_=, ]+)\)`", README)
    assert named is not None
    limits = {"usd" if unit == "nanousd" else unit for unit in Budget().limits}
    assert limits == {unit.strip(" =") for unit in named[1].split(",")}


def test_the_extras_are_all_named() -> None:
    """The table of extras is that of pyproject.toml."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    table = README.split("| Extra | Brings | For |", 1)[1].split("\n\n", 1)[0]
    assert list(extras) == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_architecture_fits_on_two_pages() -> None:
    """An overview that is too long is not read."""
    assert len((ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines()) <= 100


def test_the_papers_tables_are_those_of_the_results() -> None:
    """To the last digit; `python -m benchmarks.paper_tables --write` puts them there."""
    assert paper_tables.tables() == paper_tables.written(README)
