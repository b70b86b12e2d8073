"""Small cells that the tests of benchmarks share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tuning_cases import SMALL, TASK, TEST, examples

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, ModelCard, ScoreQuery, ScoreReply
from lmaas_sdk.bench import (
    Benchmark,
    Cell,
    CellEnded,
    Configuration,
    TaskData,
    black_box,
    cells_of,
    get_configuration,
    open_results,
    read_results,
)
from lmaas_sdk.bench.measuring import packed

DATA = TaskData(examples(0, 40), TEST, shots=4)
SEARCH, MANUAL, CALIBRATED = black_box(SMALL), get_configuration("manual"), get_configuration("manual-calibrated")
SEEDS = (1, 2)
EVALUATIONS = 40


class HookedMock(MockBackend):
    """A mock that calls something at one of its scorings, before it answers."""

    def __init__(self, at: int, hook: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._left, self._hook = at, hook

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        self._left -= 1
        if self._left == 0:
            self._hook()
        return await super().score(query, key=key)


def cells(
    card: ModelCard,
    configurations: Sequence[Configuration] = (SEARCH,),
    *,
    seeds: Sequence[int] = SEEDS,
    evaluations: int = EVALUATIONS,
    tasks: Sequence[TaskData] = (DATA,),
) -> list[Cell]:
    return list(cells_of(configurations, tasks, seeds, card=card, evaluations=evaluations))


async def measured(
    folder: Path,
    backend: MockBackend,
    configurations: Sequence[Configuration] = (SEARCH,),
    *,
    budget: Budget | None = None,
    jobs: int = 1,
    **plan: Any,
) -> list[CellEnded]:
    """One slice, into FOLDER/results.jsonl."""
    async with open_results(folder / "results.jsonl") as results:
        bench = Benchmark(backend, results, work=folder / "work", budget=budget, jobs=jobs)
        return await bench.run(cells(backend.card, configurations, **plan))


async def records(folder: Path) -> list[dict[str, Any]]:
    return await asyncio.to_thread(read_results, folder / "results.jsonl")


def done_record(
    configuration: str = "manual",
    *,
    task: str = "sst2",
    seed: int | None = None,
    evaluations: int | None = None,
    right: Sequence[bool] = (True,) * 8 + (False,) * 2,
    labels: Sequence[int] = (0, 1) * 5,
    **more: Any,
) -> dict[str, Any]:
    """A record of a cell that is done, with as many test rows as there are values in `right`."""
    import numpy as np

    truth = np.array(labels)
    predictions = np.where(np.array(right), truth, 1 - truth)
    name = configuration.partition(":")[0]
    method = "manual" if name.startswith("manual") else name
    accuracy = float(np.mean(right))
    return {
        "status": "done",
        "key": f"{configuration} {task} {seed} {evaluations} {more.get('note', '')}",
        "configuration": configuration,
        "title": configuration.title(),
        "method": method,
        "settings": {},
        "evaluations_limit": evaluations,
        "evaluations": evaluations or 0,
        "seed": seed,
        "task": task,
        "metric": "accuracy",
        "rows": {"train": 32, "dev": 32, "test": len(truth)},
        "shots": 16,
        "digests": {"train": "t", "dev": "d", "test": f"rows of {task}"},
        "model": {"name": "roberta-tiny"},
        "spend_of_fit": {"total": {"tokens": 1000}},
        "test": {"value": accuracy, "labels": packed(truth), "predictions": packed(predictions)},
        "environment": {"fingerprint": "engine 1"},
        **more,
    }


__all__ = [
    "CALIBRATED",
    "DATA",
    "EVALUATIONS",
    "MANUAL",
    "SEARCH",
    "SEEDS",
    "TASK",
    "HookedMock",
    "cells",
    "done_record",
    "measured",
    "records",
]
