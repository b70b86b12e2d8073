"""docs/backends.md: its examples run, and its tables name what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from lmaas_backends.mock import MockBackend
from lmaas_sdk.testing import FaultKind
from lmaas_sdk.testing.conformance import RULES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "backends.md").read_text(encoding="utf-8")


def names_in_table(header: str) -> set[str]:
    """The code words in the first column of the table with that header."""
    rows = PAGE.split(header, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_examples_run() -> None:
    """All Python blocks of the page run one after another, the example through the conformance suite."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/backends.md", "exec"), names)  # noqa: S102 - our own page


def test_the_rules_are_all_named() -> None:
    """The table of rules is the suite's."""
    assert names_in_table("| rule | what holds |") == set(RULES)


def test_the_options_are_all_named() -> None:
    """The table of options is the mock's."""
    assert names_in_table("| option | default | meaning |") == {option.name for option in fields(MockBackend)}


def test_the_faults_are_all_named() -> None:
    """The table of faults has every kind."""
    assert names_in_table("| kind | what the caller sees") == set(get_args(FaultKind))
