"""docs/prompt-choices.md: its program runs, and what it names is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from lmaas_sdk import methods
from lmaas_sdk.methods import word_choice, word_pool

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "prompt-choices.md").read_text("utf-8")


def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It chooses, tunes and predicts, and spends what the page says."""
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/prompt-choices.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith("done")] == [["done", "2", "2"], ["done", "21", "2"]]
    assert [line.split()[::2] for line in lines[-3:]] == [["manual", "0"], ["black-box", "40"], ["ensemble", "90"]]
    assert (tmp_path / "things.predictor").exists()


def test_the_numbers_are_those_of_the_code() -> None:
    """How many words are asked for, scored and combined, and how many combinations are all compared."""
    asked = inspect.signature(methods.choose_words).parameters["top_k"].default
    for number in (asked, word_choice._POOL, word_choice._CANDIDATES, f"{word_pool._MOST_AT_ONCE:,}"):
        assert re.search(rf"(?<![\d,]){number}(?![\d,])", PAGE), number
