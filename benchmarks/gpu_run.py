"""A whole run at the paper's setting: the tuner, over HTTP, against a server that is started for it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu_parts import Found, bar
from benchmarks.gpu_ways import CANDIDATES, Bench, Memory, gb
from lmaas_backends.local import open_backend
from lmaas_sdk import Budget, ScoreQuery, ScoreReply, Tuner, TuningResult

__all__ = ["EVALUATIONS", "importable", "name_checkout", "run_through_a_server"]

EVALUATIONS = 8000
MOST_S, AIM_S = 60.0, 28.0  # for 8000 evaluations of roberta-large on one H200
_SEED = 42
_STARTUP_S = 120.0


class Listening:
    """A backend that notes how long its calls take, and keeps the last generation's candidates."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.card = inner, inner.card
        self.in_calls_s = 0.0
        self.last: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        """As the backend itself."""
        if query.n_candidates == CANDIDATES and query.Z is not None:
            self.last = query.Z
        began = time.perf_counter()
        try:
            reply: ScoreReply = await self.inner.score(query, key=key)
            return reply
        finally:
            self.in_calls_s += time.perf_counter() - began


def run_through_a_server(bench: Bench, dtype: str, *, most_s: float) -> Found:
    """Tunes until so many evaluations are made, or until `most_s` seconds are over."""
    figures, last = asyncio.run(_run(bench, dtype, most_s))
    if last is not None:
        bench.last_generation.append(last)
    bars = [bar(f"run in {dtype}: all evaluations were made", figures["evaluations"] >= bench.evaluations)]
    if bench.is_cuda and bench.model == "roberta-large" and bench.evaluations == EVALUATIONS:
        what = f"run in {dtype}: seconds for {EVALUATIONS} evaluations"
        bars.append(bar(what, figures["wall_s"], at_most=MOST_S, aim=AIM_S))
    return Found(figures, bars)


async def _run(bench: Bench, dtype: str, most_s: float) -> tuple[dict[str, Any], Any]:
    began, memory = time.perf_counter(), Memory(bench.device)
    before = memory.used()
    async with open_backend(
        str(bench.folder), device=bench.device, dtype=dtype, startup_timeout_s=_STARTUP_S
    ) as served:
        backend, started_s = Listening(served), time.perf_counter() - began
        tuner = Tuner(backend, budget=Budget(evaluations=bench.evaluations, wall_s=most_s), preset="paper", seed=_SEED)
        result = await tuner.fit(bench.train, bench.dev)
        server_gb = gb(memory.used() - before)
    told = {"dtype": dtype, "server_started_s": round(started_s, 1), "in_calls_s": round(backend.in_calls_s, 2)}
    return told | _figures(result) | {"server_gb_of_the_card": server_gb}, backend.last


def _figures(result: TuningResult) -> dict[str, Any]:
    ends = [event.elapsed_s for event in result.generations]
    each = [after - before for before, after in pairwise(ends)]
    last = [loss for loss in result.core.losses[-1] if loss is not None]
    return {
        "wall_s": round(result.wall_s, 2),
        "evaluations": result.evaluations,
        "generations": len(ends),
        "median_generation_s": round(median(each), 4) if each else None,
        "calls": result.spent.calls,
        "tokens": result.spent.tokens,
        "stopped": result.stopped,
        "failure": None if result.failure is None else str(result.failure),
        "first_median_loss": round(result.generations[0].median_loss, 5),
        "last_median_loss": round(result.generations[-1].median_loss, 5),
        "last_losses_from_to": [round(min(last), 6), round(max(last), 6)],
        "sigma": round(result.generations[-1].sigma, 4),
        "engine": result.versions["engine"],
    }


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Has a child process import what this one does, and a checkout that is not installed know its own name.

    The tuner tells the version of the package it comes from, which a checkout alone has none of.
    """
    before, path = os.environ.get("PYTHONPATH"), list(sys.path)
    try:
        importlib.metadata.version("lmaas-sdk")
    except importlib.metadata.PackageNotFoundError:
        name_checkout(folder)
        sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        yield
    finally:
        sys.path[:] = path
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def name_checkout(folder: Path) -> None:
    """Writes the metadata that an installed package has, which are found when `folder` is among the import paths."""
    place = folder / "lmaas_sdk-0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: lmaas-sdk\nVersion: 0+checkout\n", "utf-8")
