"""The benchmark of a GPU does all of its parts on a processor and on a pretended card, and tells what went wrong."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from roberta.pretended_card import NAME, pretended_card

from benchmarks import gpu, gpu_parts, gpu_run, gpu_ways
from benchmarks.gpu_parts import Found, bar, spearman
from benchmarks.gpu_ways import Bench
from lmaas_sdk import ScoreQuery, ScoreReply, Subspace

ROOT = Path(__file__).resolve().parent.parent
TIMED = "times faster"


def bench(folder: Path, device: str) -> Bench:
    """A small model, timed with one candidate."""
    made = gpu._bench(folder, device=device, model="tiny", quick=True, evaluations=20)
    return replace(made, candidates=1)


def test_the_command_measures_all_parts_on_a_processor(tmp_path: Path) -> None:
    """A server of its own included; the file holds what was printed, and every bar but those of time is passed."""
    options = ["--device", "cpu", "--model", "tiny", "--quick", "--evaluations", "40", "--json", str(tmp_path / "f")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode in {0, gpu.NOT_PASSED}, done.stderr
    kept = json.loads((tmp_path / "f").read_text("utf-8"))
    parts = kept["parts"]
    assert ["loading", "parity", "speed", "run bfloat16", "ranks", "sameness"] == list(parts)
    assert {} == {name: part for name, part in parts.items() if "error" in part}
    assert [] == [one for one in kept["bars"] if not one["passed"] and TIMED not in one["what"]]
    run = parts["run bfloat16"]["figures"]
    assert (40, 2, "budget") == (run["evaluations"], run["generations"], run["stopped"])
    assert {"early", "late", "close"} == parts["ranks"]["figures"].keys()
    assert pytest.approx(gpu_parts.CLOSE, rel=0.2) == parts["ranks"]["figures"]["close"]["spread_of_losses"]
    ways = {f"{way} {dtype}" for way in ("naive", "reference", "engine") for dtype in ("float32", "bfloat16")}
    assert ways == {row["way"] for row in parts["speed"]["figures"]["rows"]}
    assert {"command", "environment", "torch", "device"} <= kept.keys()
    assert "passed  engine float32: the same call twice, the same bits: True (holds)" in done.stdout


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, and nothing is begun."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.NO_DEVICE == gpu.main()
    told = capsys.readouterr()
    assert ("", 1) == (told.out, told.err.count("\n"))
    assert "finds no CUDA device" in told.err


def test_what_needs_no_server_goes_on_a_card_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended one: every way in every dtype of a GPU, and no tensor is on the wrong side."""
    measured = bench(tmp_path, NAME)
    for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *of: None)
    for name, nbytes in (("memory_allocated", 10**7), ("max_memory_allocated", 10**9), ("memory_reserved", 2 * 10**9)):
        monkeypatch.setattr(torch.cuda, name, lambda device, nbytes=nbytes: nbytes)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 4 * 10**9))
    with pretended_card(monkeypatch):
        gpu_ways.load_ways(measured, note=lambda line: None)
        parts = (gpu_parts.parity, gpu_parts.speed, gpu_parts.ranks, gpu_parts.sameness)
        exact, fast, ranked, same = (part(measured) for part in parts)
    for engine in measured.engines.values():
        engine.close()
    assert {} == measured.left_out
    bars = [*exact.bars, *fast.bars, *ranked.bars, *same.bars]
    assert [] == [one for one in bars if not one["passed"] and TIMED not in one["what"]]
    assert 2 + 2 + 2 + 3 == len(bars)
    assert {"early", "close"} == ranked.figures.keys()  # no run, no late candidates
    assert {0.99} == {row["scoring_gb"] for row in fast.figures["rows"]}
    told = fast.figures["memory"]
    assert (2.0, 3.0) == (told["kept_by_torch_gb"], told["of_the_card_gb"])


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its error and where it happened; so is one for which there is no time, and the file has all of it."""
    report = gpu.Report(tmp_path / "f", {"parts": {}, "bars": []})

    def fails() -> Found:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    report.add("one", lambda: Found({"a": 1}, [bar("small", 1, at_most=2)]))
    assert report.passed
    report.add("two", fails)
    report.add("three", lambda: Found({"b": 2}), needs_s=gpu.LIMIT_S + 1)
    report.add("four", lambda: Found({"c": 3}, [bar("small", 3, at_most=2)]))
    kept = json.loads((tmp_path / "f").read_text("utf-8"))
    parts = kept["parts"]
    assert "RuntimeError: CUDA error: an illegal memory access was encountered" == parts["two"]["error"]
    assert "in fails" in parts["two"]["where"]
    assert parts["three"]["error"].startswith("left out: ")
    assert ({"a": 1}, {"c": 3}) == (parts["one"]["figures"], parts["four"]["figures"])
    assert [True, False] == [one["passed"] for one in kept["bars"]]
    assert not report.passed
    assert 4 == capsys.readouterr().out.count("\n")


def test_a_way_that_cannot_be_loaded_leaves_the_others(tmp_path: Path) -> None:
    """A dtype that the device refuses, say."""
    measured = bench(tmp_path, "cpu")
    gpu_ways._attempt(measured, "engine float16", lambda: gpu_ways._load_engine(measured, "float16"), lambda line: None)
    gpu_ways._attempt(measured, "engine float32", lambda: gpu_ways._load_engine(measured, "float32"), lambda line: None)
    measured.engines["float32"].close()
    assert {"engine float32"} == measured.ways.keys()
    assert "dtype float16 is for CUDA" in measured.left_out["engine float16"]


def test_ranks_are_compared_by_spearman() -> None:
    """Of the same order, of the opposite one, of three with one exchange, and with two that are equal."""
    up = np.array([1.0, 2.0, 5.0, 9.0])
    assert pytest.approx(1.0) == spearman(up, up**3)
    assert pytest.approx(-1.0) == spearman(up, -up)
    assert pytest.approx(0.5) == spearman(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0]))
    assert pytest.approx(0.9**0.5) == spearman(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize(
    ("bounds", "measured", "told", "passed"),
    [
        ({"at_most": 1e-5}, 2e-6, "<= 1e-05", True),
        ({"at_most": 1e-5}, 2e-5, "<= 1e-05", False),
        ({"at_most": 1e-5}, float("nan"), "<= 1e-05", False),
        ({"at_least": 1.0}, 0.9, ">= 1", False),
        ({}, True, "holds", True),
        ({}, False, "holds", False),
    ],
)
def test_bars_are_held_against_what_was_measured(bounds: Any, measured: Any, told: str, passed: bool) -> None:
    """From above or below; without bounds the measured thing itself is to hold."""
    found = bar("what", measured, **bounds)
    assert (told, passed) == (found["bar"], found["passed"])


async def test_the_last_whole_generation_is_kept() -> None:
    """Neither the few that dev looks at nor the manual prompt are one."""

    class Quick:
        card = None

        async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
            return key  # type: ignore[return-value]

    listening = gpu_run.Listening(Quick())
    space = Subspace(d=3, prompt_tokens=2, hidden_size=4)
    for candidates in (20, 20, 2):
        Z = np.full((candidates, 3), candidates, np.float32)
        assert "key" == await listening.score(ScoreQuery("digest", subspace=space, Z=Z), key="key")
    await listening.score(ScoreQuery("digest"), key="key")
    assert (20, 3) == listening.last.shape


def test_a_checkout_that_is_not_installed_has_a_version(tmp_path: Path) -> None:
    """Which the tuner tells with its results."""
    gpu_run.name_checkout(tmp_path)
    found = list(importlib.metadata.distributions(name="lmaas-sdk", path=[str(tmp_path)]))
    assert ["0+checkout"] == [one.version for one in found]


def test_children_import_what_this_process_does(tmp_path: Path) -> None:
    """While the server may be started, and no longer."""
    before, path = os.environ.get("PYTHONPATH"), list(sys.path)
    with gpu_run.importable(tmp_path):
        assert set(filter(None, path)) <= set(os.environ["PYTHONPATH"].split(os.pathsep))
    assert (before, path) == (os.environ.get("PYTHONPATH"), sys.path)
