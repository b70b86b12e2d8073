"""The benchmarks of tuning runs, on a few generations: they tell their figures; what the figures are is not tested."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import demo_seeds, stragglers, tuner_memory, tuner_overhead
from lmaas_sdk import PRESETS, Preset, subsample
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.cli.run_options import Splits

SMALL = Preset("small", d=4, prompt_tokens=2, population=8, dev_every=2)


def test_what_a_run_costs_is_told_for_every_way_to_keep_it() -> None:
    """All, pycma's, the mock's and the rest, which is what the others leave of all."""
    found = tuner_overhead.measure(SMALL, ways=list(tuner_overhead.WAYS), generations=4, rounds=1)
    assert list(tuner_overhead.WAYS) == list(found)
    for of_way in found.values():
        parts = [of_way[f"{part}_ms"] for part in ("pycma", "mock", "beside")]
        assert min(parts) > 0
        assert pytest.approx(of_way["all_ms"], abs=0.01) == sum(parts)


def test_what_a_run_keeps_in_memory_is_told_beside_what_pycma_does() -> None:
    """Three processes on one server; the runs are whole, and nothing is loaded here that is no part of the SDK."""
    found = tuner_memory.measure(Path(sys.executable), generations=3, rounds=1)
    alone, *runs = tuner_memory.WAYS
    assert [3, 3, 3] == [found["processes"][way][0]["generations"] for way in tuner_memory.WAYS]
    assert all(found["processes"][way][0]["calls"] > 3 for way in runs)
    assert runs == list(found["beside_pycma"])
    assert all(0 < found["medians"][way]["peak_grown_mb"] for way in (alone, *runs))


@pytest.fixture
def case() -> stragglers.Case:
    return stragglers.Case(SMALL, stragglers.BASES["lognormal"], seed=1, generations=6)


def test_a_run_without_stragglers_takes_its_slowest_calls(case: stragglers.Case) -> None:
    """In virtual time, so to the same second each time; a base of one second makes every generation one."""
    found = stragglers.run(case, stragglers.WAYS["wait"], slow=0.0)
    assert found == stragglers.run(case, stragglers.WAYS["wait"], slow=0.0)
    constant = stragglers.run(replace(case, base=stragglers.BASES["constant"]), stragglers.WAYS["wait"], slow=0.0)
    assert (6.0, 0, found["tokens"]) == (constant["wall_s"], constant["missing"], constant["tokens"])


def test_every_way_with_stragglers_is_compared(case: stragglers.Case) -> None:
    """Waiting takes the tokens of the run without any; who sends or asks for more takes more."""
    row = stragglers.compare(case, stragglers.WAYS)
    assert row["wait"]["wall_s_ratio"] > 1.0 == row["wait"]["tokens_ratio"]
    assert 1.5 == row["over_ask=4"]["tokens_ratio"]
    figures = stragglers.summary([row], stragglers.WAYS)
    assert list(stragglers.WAYS) == list(figures)
    assert row["drop"]["tokens_ratio"] == figures["drop"]["tokens_ratio"]


async def test_seeds_of_the_demo_are_kept_and_not_run_again(tmp_path: Path) -> None:
    """A row a seed, with both accuracies and what was chosen; other settings begin anew."""
    train, seeds = demo_splits().train, [3, 4]
    splits = Splits(*(subsample(train, 8, seed=seed) for seed in range(3)))
    preset = replace(PRESETS["small-model"], d=4, prompt_tokens=2, population=4)
    results = demo_seeds.Results(tmp_path / "rows.json", {"evaluations": 8})
    found = await demo_seeds.run(preset, seeds, splits=splits, evaluations=8, results=results)
    rows = json.loads((tmp_path / "rows.json").read_text("utf-8"))["rows"]
    assert (seeds, [8, 8]) == ([row["seed"] for row in rows], [row["evaluations"] for row in rows])
    assert 2 == found["seeds"] == found["above_manual"] + found["equal_to_manual"] + found["below_manual"]
    again = demo_seeds.Results(tmp_path / "rows.json", {"evaluations": 8})
    assert found == await demo_seeds.run(preset, seeds, splits=splits, evaluations=8, results=again)
    assert rows == again.rows
    assert [] == demo_seeds.Results(tmp_path / "rows.json", {"evaluations": 9}).rows
