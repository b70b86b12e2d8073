"""Prompt tuning and model tuning on the real models of `test_methods`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
from predictor_process import told
from roberta.conftest import LARGE_SHAPES
from roberta.test_methods import FEW, PROGRAM, TASK, TEST, TRAIN

from lmaas_backends.roberta.in_process import InProcessBackend
from lmaas_backends.roberta.training import Training
from lmaas_sdk import Backend, BackendError, Budget, BudgetTooSmall, PredictorFileError, Unsupported, load_backend
from lmaas_sdk.methods import (
    ManualPrompt,
    ModelTuning,
    ModelTuningPredictor,
    PromptTuning,
    PromptTuningPredictor,
    TrainableBackend,
    load_predictor,
)

SMALL = TRAIN.subset(np.arange(8))


@pytest_asyncio.fixture
async def tiny() -> AsyncIterator[InProcessBackend]:
    async with InProcessBackend(threads=1) as opened:
        yield opened


def prompt_tuning(backend: Backend, **options: Any) -> PromptTuning:
    return PromptTuning(backend, **({"epochs": 3, "learning_rate": 0.01, "prompt_tokens": 4, "dev_every": 2} | options))


def model_tuning(backend: Backend, **options: Any) -> ModelTuning:
    return ModelTuning(backend, **({"epochs": 3, "learning_rate": 2e-4, "dev_every": 2} | options))


METHODS = [prompt_tuning, model_tuning]


async def test_they_learn_and_are_used_as_any_predictor(
    shape: str, name: str, backend: InProcessBackend, passing_folder: Path
) -> None:
    """The loss falls; what the record says of dev is what a call answers; a fresh process predicts the same bits."""
    train, dev = FEW if shape in LARGE_SHAPES else (SMALL, TEST)
    methods = [
        prompt_tuning(backend, budget=Budget(calls=3)),
        model_tuning(backend, budget=Budget(calls=3), learning_rate=1e-6 if shape in LARGE_SHAPES else 2e-4),
        prompt_tuning(backend, budget=Budget(calls=3), layout="cat"),
    ]
    predictors = [await method.fit(train, dev) for method in methods]
    for predictor in predictors:
        record = predictor.training
        assert record is not None
        assert record.dev is not None
        assert (record.epochs, record.steps, len(record.losses), record.stopped) == (3, 3, 3, "done")
        assert record.losses[-1] < record.losses[0]
        found = await predictor.evaluate(dev)
        assert (found.value, found.cross_entropy) == (
            record.dev.value,
            pytest.approx(record.dev.cross_entropy, abs=1e-4),
        )
    files = [predictor.save(passing_folder / f"{number}.predictor") for number, predictor in enumerate(predictors)]
    done = subprocess.run(  # noqa: ASYNC221  (nothing else is under way)
        [sys.executable, PROGRAM, name, *files], capture_output=True, text=True, check=True
    )
    expected = [await told(predictor) for predictor in predictors]
    for predictor in predictors:
        assert {what: paid.calls for what, paid in predictor.spend.by_purpose.items()} == {"test": 1, "predict": 1}
    assert json.loads(done.stdout) == expected
    assert len({str(one["logits"]) for one in expected}) == len(predictors)


@pytest.mark.parametrize("make", METHODS)
async def test_the_same_seed_has_the_same_bytes_and_no_global_generator_is_used(
    tiny: InProcessBackend, make: Any
) -> None:
    """Another seed shuffles otherwise; torch's and numpy's generators are where they were."""
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[index]  # noqa: NPY002
    fits = [await make(tiny, seed=seed, epochs=2, batch_size=3).fit(SMALL) for seed in (1, 1, 2)]
    files = [fit.saved().to_bytes() for fit in fits]
    assert files[0] == files[1] != files[2]
    assert fits[0].training == fits[1].training
    after = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[index]  # noqa: NPY002
    assert (torch.equal(before[0], after[0]), before[1] == after[1]) == (True, True)


@pytest.mark.parametrize("make", METHODS)
async def test_the_model_itself_stays_as_it_is(tiny: InProcessBackend, make: Any) -> None:
    """The manual prompt answers before and after with the same bits, the tuned predictor with others."""
    manual = await ManualPrompt(tiny, cache=False).fit(SMALL)
    before = await manual.logits(TEST.fields)
    predictor = await make(tiny).fit(SMALL)
    assert (await manual.logits(TEST.fields)).tobytes() == before.tobytes()
    assert (await predictor.logits(TEST.fields)).tobytes() != before.tobytes()


def test_a_training_is_gone_when_its_fit_is_over() -> None:
    """From the first in a process on, without Python's own garbage collection: it is several times the model."""
    done = subprocess.run([sys.executable, "-c", _FIRST_TRAININGS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]


_FIRST_TRAININGS = """
import asyncio, gc, threading

from lmaas_backends.roberta.in_process import InProcessBackend
from lmaas_backends.roberta.training import Training
from lmaas_sdk import Task
from lmaas_sdk.methods import ModelTuning, PromptTuning

async def main():
    gc.disable()
    task = Task("x", template="{S} <mask> .", labels=["no", "yes"], words=["bad", "great"])
    train = task.examples([("a dull film", 0), ("a fine film", 1)])
    async with InProcessBackend(threads=1) as backend:
        for make in (PromptTuning, ModelTuning):
            predictor = await make(backend, epochs=1).fit(train)
            for thread in threading.enumerate():  # that of the training ends, now that nobody has it any more
                if thread.name.startswith("lmaas-gradients"):
                    thread.join()
            print(sum(isinstance(one, Training) for one in gc.get_objects()))

asyncio.run(main())
"""


@pytest.mark.parametrize("make", METHODS)
async def test_tokens_are_those_of_the_steps(tiny: InProcessBackend, make: Any) -> None:
    """Every epoch goes through every text once, under the prompt where there is one."""
    method = make(tiny, epochs=2, batch_size=5)
    record = (await method.fit(SMALL)).training
    counts = (await tiny.register(SMALL.text_set, getattr(method, "subspace", None))).token_counts
    assert (record.epochs, record.steps, record.tokens) == (2, 4, 2 * sum(counts))
    assert (record.chosen, record.dev) == (2, None)


async def test_predictions_are_paid_from_the_budget(tiny: InProcessBackend) -> None:
    """Training costs no call, so two calls are two predictions; `spend` has them."""
    for make in METHODS:
        predictor = await make(tiny, budget=Budget(calls=1)).fit(SMALL)
        await predictor.predict(["a fine film"])
        assert predictor.spend.by_purpose["predict"].calls == predictor.client.budget.posted.calls == 1


async def test_wall_time_ends_the_training(tiny: InProcessBackend) -> None:
    """Before the first epoch there is nothing to return, and the error says so."""
    for make in METHODS:
        with pytest.raises(BudgetTooSmall):
            await make(tiny, budget=Budget(wall_s=0)).fit(SMALL)


async def test_a_cancelled_training_stops_at_the_next_step(
    tiny: InProcessBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step under way ends, no other begins, and the backend goes on answering; the loop is free meanwhile."""
    entered, opened, steps = threading.Event(), threading.Event(), []
    real = Training.step

    def step(training: Training, rows: Sequence[int]) -> float:
        steps.append(rows)
        entered.set()
        opened.wait(timeout=30)
        return real(training, rows)

    monkeypatch.setattr(Training, "step", step)
    fit = asyncio.ensure_future(prompt_tuning(tiny, epochs=50).fit(SMALL))
    await asyncio.to_thread(entered.wait, 30)
    assert not fit.done()
    fit.cancel()
    await asyncio.wait([fit])
    opened.set()
    answered = await (await ManualPrompt(tiny).fit(SMALL)).logits(["a fine film"])
    assert (fit.cancelled(), len(steps), answered.shape) == (True, 1, (1, 2))


async def test_trainings_run_side_by_side_and_beside_calls(
    tiny: InProcessBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No first step ends before all have begun and a call was answered; what is learned has the bits of one alone."""
    alone = [(await make(tiny).fit(SMALL, TEST)).saved().to_bytes() for make in METHODS]
    met, answered = threading.Barrier(len(METHODS) + 1, timeout=30), threading.Event()
    begun: set[Training] = set()
    real = Training.step

    def step(training: Training, rows: Sequence[int]) -> float:
        if training not in begun:
            begun.add(training)
            met.wait()
            assert answered.wait(timeout=30)
        return real(training, rows)

    async def call() -> None:
        await asyncio.to_thread(met.wait)
        await (await ManualPrompt(tiny).fit(SMALL)).logits(["a fine film"])
        answered.set()

    monkeypatch.setattr(Training, "step", step)
    fits, _ = await asyncio.gather(asyncio.gather(*(make(tiny).fit(SMALL, TEST) for make in METHODS)), call())
    assert [fit.saved().to_bytes() for fit in fits] == alone


async def test_a_thread_of_a_training_ends_with_it(tiny: InProcessBackend) -> None:
    """Dropped, or with its backend closed around it; a step asked for after that says so."""
    dropped, kept = [await tiny.training(SMALL.text_set, SMALL.labels, learning_rate=1e-3) for _ in ("dropped", "kept")]
    first, second = await dropped.thread(), await kept.thread()
    assert first is not second
    del dropped
    await asyncio.to_thread(first.join, 30)
    assert (first.is_alive(), second.is_alive()) == (False, True)
    async with asyncio.timeout(30):
        await tiny.aclose()
    assert not second.is_alive()
    with pytest.raises(BackendError, match="is closed"):
        await kept.step([0])


async def test_closing_waits_for_the_last_step_of_a_training_that_was_dropped(
    tiny: InProcessBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for all that computes: nothing of it, and none of its memory, outlives the backend."""
    entered, opened = threading.Event(), threading.Event()
    ended: list[bool] = []

    def step(training: Training, rows: Sequence[int]) -> float:
        entered.set()
        ended.append(opened.wait(timeout=30))
        return 0.0

    monkeypatch.setattr(Training, "step", step)
    fit = asyncio.ensure_future(prompt_tuning(tiny, epochs=50).fit(SMALL))
    await asyncio.to_thread(entered.wait, 30)
    fit.cancel()
    await asyncio.wait([fit])
    del fit
    closing = asyncio.ensure_future(tiny.aclose())
    done, _ = await asyncio.wait([closing], timeout=0.2)
    assert not done
    opened.set()
    await closing
    assert ended == [True]


async def test_over_http_there_is_no_gradient_but_the_prompt_is_used(tiny: InProcessBackend, tmp_path: Path) -> None:
    """Asked for there, each method says what to do; a prompt that was learned here answers there with the same bits."""
    predictors = [await make(tiny).fit(SMALL) for make in METHODS]
    prompt_file, model_file = [one.save(tmp_path / f"{one.name}.predictor") for one in predictors]
    async with load_backend("roberta-tiny", threads=1) as there:
        assert not isinstance(there, TrainableBackend)
        for make in METHODS:
            with pytest.raises(Unsupported, match=r"as-a-service: no.*in_process=True.*BlackBoxTuning"):
                make(there)
        with pytest.raises(Unsupported, match="as-a-service: no"):
            load_predictor(model_file, there)
        far = load_predictor(prompt_file, there)
        assert isinstance(far, PromptTuningPredictor)
        assert far.training is None
        near = await predictors[0].logits(TEST.fields)
        assert (await far.logits(TEST.fields)).tobytes() == near.tobytes()


async def test_weights_of_another_model_are_refused_by_the_file(
    tiny: InProcessBackend, roberta_folder: Path, tmp_path: Path
) -> None:
    """By its width; and a file whose arrays are not all the weights, by their names."""
    predictor = await model_tuning(tiny, epochs=1).fit(SMALL)
    file = predictor.save(tmp_path / "whole.predictor")
    async with InProcessBackend(str(roberta_folder), threads=1) as other:
        with pytest.raises(PredictorFileError, match="has width 32"):
            load_predictor(file, other)
    few = ModelTuningPredictor(predictor.client, TASK, {"words": predictor.weights["words"]})
    with pytest.raises(PredictorFileError, match=r"'embedding_norm.bias' are missing"):
        load_predictor(few.save(tmp_path / "few.predictor"), tiny)


async def test_a_tuned_model_is_tuned_on_and_closed_with_its_backend(tiny: InProcessBackend) -> None:
    """It is a backend like any: gradients start from its weights, and it ends with the one it came from."""
    predictor = await model_tuning(tiny).fit(SMALL)
    tuned = predictor.client.backend
    again = await model_tuning(tuned, epochs=1).fit(SMALL)
    assert predictor.training is not None
    assert again.training is not None
    assert again.training.losses[0] < predictor.training.losses[0]
    await tiny.aclose()
    for one in (predictor, again):
        with pytest.raises(BackendError, match="is closed"):
            await one.predict(["a fine film"])
