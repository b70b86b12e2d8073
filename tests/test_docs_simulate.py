"""docs/simulate.md: its commands print what it says, its program runs, and its table names every option."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lmaas_sdk.cli import main
from lmaas_sdk.cli.simulate import add_command

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "simulate.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n\$ lmaas ((?:[^\n]*\\\n)*[^\n]*)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[str(number) for number in range(len(COMMANDS))])
def test_the_commands_print_what_the_page_says(command: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure of the tables, to the last digit."""
    assert 0 == main(shlex.split(command.replace("\\\n", " ")))
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert output.splitlines() == printed


def test_the_page_has_its_commands() -> None:
    """So that none is lost unseen."""
    assert 3 == len(COMMANDS)


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what stands beside its lines."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/simulate.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r"print\(.*\)  # (.*)", program)
    assert 2 == len(said)
    assert [line for line in printed if line in said] == said


def test_the_options_are_all_named() -> None:
    """The table of options is the command's."""
    commands = argparse.ArgumentParser().add_subparsers()
    add_command(commands)
    options = {option for option in commands.choices["simulate"]._option_string_actions if option.startswith("--")}
    rows = PAGE.split("| option | |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    assert options - {"--help"} == {name for row in rows for name in re.findall(r"`(--[a-z-]+)`", row.split("|")[1])}
