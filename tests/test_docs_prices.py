"""docs/prices.md: its examples run, and its table of keys is the reader's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmaas_sdk.accounting.price_files import PRICE_KEYS

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "prices.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All Python blocks of the page run one after another, with its table beside them, and print what it says."""
    (table,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "prices.toml").write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/prices.md", "exec"), names)  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:6] == ["$0.09", "$0.018", "$1.80", "https://example.com/pricing", "2026-07-01"]
    assert [said in PAGE for said in printed[1:6]] == [True] * 5


def test_the_examples_take_what_is_public() -> None:
    """From the package itself, never from its modules."""
    assert {"datetime", "lmaas_sdk", "asyncio"} >= set(re.findall(r"^(?:from|import) (\S+)", PAGE, re.MULTILINE))


def test_the_keys_are_all_named() -> None:
    """The table of keys is the reader's, the prices of 1,000 tokens apart."""
    rows = PAGE.split("| key | meaning |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert named == {key for key in PRICE_KEYS if not key.endswith("_ktok")}
