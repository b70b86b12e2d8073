"""Every kind of configuration on a real model in this process, side by side, through one results file."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lmaas_sdk import PRESETS, Dataset, Task, load_backend
from lmaas_sdk.bench import (
    Benchmark,
    BenchReport,
    Configuration,
    TaskData,
    black_box,
    cells_of,
    get_configuration,
    open_results,
    trained,
)
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.methods import DEEP_PRESET, DeepBlackBoxTuning, FeatureBiLSTM, FeatureLinear, ModelTuning, PromptTuning

TASK = Task("reviews", template="{S} . It was <mask> .", labels=["negative", "positive"], words=["bad", "great"])
DEEP = replace(DEEP_PRESET, d=10, prompt_tokens=2, population=4)
SMALL = replace(PRESETS["small-model"], d=10, prompt_tokens=2, population=4, plateau=None)


def reviews(start: int, count: int) -> Dataset:
    rows = demo_splits().test
    assert rows is not None
    return TASK.examples([(row.fields, row.label) for row in rows.examples[start : start + count]])


CONFIGURATIONS: list[Configuration] = [
    *(get_configuration(name) for name in ("manual", "manual-calibrated", "in-context")),
    trained(partial(FeatureLinear, epochs=3), "feature-linear", "Feature-Linear"),
    trained(partial(FeatureBiLSTM, epochs=2), "feature-bilstm", "Feature-BiLSTM"),
    trained(partial(PromptTuning, epochs=2, prompt_tokens=2), "prompt-tuning", "Prompt Tuning", needs_weights=True),
    trained(partial(ModelTuning, epochs=2), "model-tuning", "Model Tuning", needs_weights=True),
    black_box(SMALL),
    black_box(DEEP, name="deep", title="BBTv2", method=DeepBlackBoxTuning),
]


async def measured(model: str, folder: Path) -> list[dict[str, Any]]:
    """One cell each."""
    await asyncio.to_thread(folder.mkdir)
    data = TaskData(reviews(0, 40), reviews(200, 10), shots=4)
    async with (
        load_backend(model, in_process=True, threads=1) as backend,
        open_results(folder / "results.jsonl") as results,
    ):
        cells = cells_of(CONFIGURATIONS, [data], [1], card=backend.card, evaluations=8)
        ended = await Benchmark(backend, results, work=folder / "work", jobs=3).run(cells)
        assert [(one.cell.row, one.status) for one in ended if one.error is not None] == []
        return results.records


@pytest.mark.parametrize("model", ["roberta-tiny", "bert"])
async def test_every_method_is_measured(model: str, bert_folder: Path, tmp_path: Path) -> None:
    """With a metric and a prediction of every row, and again the same."""
    spec = str(bert_folder) if model == "bert" else model
    first, again = [await measured(spec, tmp_path / name) for name in ("first", "again")]
    trainings = {one["configuration"]: one["training"]["epochs"] for one in first if "training" in one}
    assert trainings == {"prompt-tuning": 2, "model-tuning": 2}
    table = BenchReport.of(first).accuracy
    assert [row.name.configuration for row in table.rows] == [one.name for one in CONFIGURATIONS]
    assert {row.scores["reviews"].test_rows for row in table.rows} == {10}
    assert table == BenchReport.of(again).accuracy
    by_key = [{one["key"]: one["test"]["predictions"] for one in records} for records in (first, again)]
    assert by_key[0] == by_key[1]
