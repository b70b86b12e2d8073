"""The benchmark of prompts: it keeps its cells and tells differences; what they are is not tested."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import prompt_choices
from lmaas_sdk import Backend


async def two_ways(backend: Backend, sets: prompt_choices.Sets) -> dict[str, prompt_choices.Row]:
    """The first rows right or the last, for as many as the seed says."""
    right = np.arange(len(sets.test)) < sets.seed
    rows = {prompt_choices.PLAIN: right, "manual, words": ~right}
    return {
        way: {"right": np.packbits(one).tobytes().hex(), "accuracy": float(one.mean())} for way, one in rows.items()
    }


def test_cells_that_are_done_are_not_run_again(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the table compares what is paired: seed by seed, row by row."""
    monkeypatch.setattr(prompt_choices, "TEST_ROWS", 12)
    monkeypatch.setattr(prompt_choices, "TASKS", ("mr",))
    results = tmp_path / "cells.json"
    for seeds in ([3, 4], [3, 4, 5]):
        asyncio.run(prompt_choices.fill(real_data, seeds, results, {"one": two_ways}))
        assert len(capsys.readouterr().out.splitlines()) == len(seeds) - (2 if len(seeds) == 3 else 0)
    cells = json.loads(results.read_text("utf-8"))["cells"]
    assert sorted(cells) == ["mr | 3 | one", "mr | 4 | one", "mr | 5 | one"]
    lines = prompt_choices.table(cells, "mr").splitlines()
    assert lines[-1].split(" | ")[:4] == ["| manual, words", "66.67 +- 8.33", "manual, own", "+33.33"]


def test_an_interval_is_of_seeds_and_rows() -> None:
    """None where nothing differs, and wider with fewer rows."""
    assert prompt_choices.interval(np.ones((3, 40))) == pytest.approx((1.0, 1.0))
    chance = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=(5, 400))
    many, few = prompt_choices.interval(chance), prompt_choices.interval(chance[:, :40])
    assert many[1] - many[0] < few[1] - few[0]


def test_what_was_kept_makes_the_tables() -> None:
    """Of both tasks, with five seeds of the manual prompt."""
    cells = prompt_choices.read_results(prompt_choices.RESULTS)
    for task in prompt_choices.TASKS:
        right = prompt_choices.right_of(cells, task)
        assert set(right[prompt_choices.PLAIN]) == set(prompt_choices.SEEDS)
        assert prompt_choices.table(cells, task).count("\n") > 10
