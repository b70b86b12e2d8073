"""Methods that train by gradients, as far as no model is needed: what a training goes by, and who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tuning_cases import DEV, TASK, TRAIN, examples, mock

from lmaas_sdk import Budget, BudgetExceeded, Client, EmptyClass, NotFinite, TaskError, TextSet, Unsupported
from lmaas_sdk.methods import ModelTuning, PromptTuning, TrainableBackend, load_predictor
from lmaas_sdk.methods.descent import Descent
from lmaas_sdk.methods.model_tuning import ModelTuningPredictor
from lmaas_sdk.testing import run_virtual

METHODS = [PromptTuning, ModelTuning]
TOKENS = (10,) * 16


class Scripted:
    """A training whose losses and dev logits are written down; what it has learned is the number of its steps."""

    def __init__(self, dev: Sequence[float] = (), losses: Mapping[int, float] | None = None) -> None:
        self._dev, self._losses = list(dev), losses or {}
        self.rows: list[list[int]] = []
        self.looks: list[int] = []

    async def step(self, rows: Sequence[int]) -> float:
        self.rows.append(list(rows))
        return self._losses.get(len(self.rows), 1.0 / len(self.rows))

    async def logits(self, texts: TextSet) -> NDArray[np.float32]:
        """As sure of the right labels as was written down for this look; below 0 it is wrong about every text."""
        sure = self._dev[len(self.looks)]
        self.looks.append(len(self.rows))
        labels = np.array([example.label for example in DEV])
        return np.where(labels[:, None] == np.arange(2), sure, 0.0).astype(np.float32)

    async def learned(self) -> dict[str, NDArray[np.float32]]:
        return {"z": np.full(1, len(self.rows), np.float32)}


def descent(**changes: Any) -> Descent:
    return Descent(
        **({"epochs": 6, "learning_rate": 0.1, "batch_size": 8, "seed": 1, "dev_every": 2, "patience": None} | changes)
    )


async def ran(plan: Descent, training: Scripted, *, with_dev: bool = True, budget: Budget | None = None) -> Any:
    return await plan.run(training, TRAIN, DEV if with_dev else None, tokens=TOKENS, budget=budget or Budget())


async def test_every_epoch_sees_every_text_once_in_another_order() -> None:
    """In batches of the size asked for, the last one smaller; the seed decides the order."""
    orders = []
    for seed in (1, 1, 2):
        training = Scripted()
        _, record = await ran(descent(epochs=2, batch_size=6, seed=seed), training, with_dev=False)
        assert [len(rows) for rows in training.rows] == [6, 6, 4] * 2
        epochs = [[row for rows in training.rows[start : start + 3] for row in rows] for start in (0, 3)]
        assert [sorted(rows) for rows in epochs] == [list(range(16))] * 2
        assert epochs[0] != epochs[1]
        assert (record.epochs, record.steps, record.tokens) == (2, 6, 320)
        orders.append(epochs)
    assert orders[0] == orders[1] != orders[2]


async def test_without_dev_the_last_epoch_is_kept() -> None:
    """And the losses are the means over each epoch's texts."""
    learned, record = await ran(descent(epochs=3), Scripted(), with_dev=False)
    assert learned["z"].tolist() == [6]
    assert record.losses == ((1 + 1 / 2) / 2, (1 / 3 + 1 / 4) / 2, (1 / 5 + 1 / 6) / 2)
    assert (record.chosen, record.dev, record.stopped) == (3, None, "done")


@pytest.mark.parametrize(
    ("dev", "chosen"),
    [
        ((1.0, -1.0, -1.0), 2),  # the metric
        ((1.0, 3.0, 2.0), 4),  # equally right: the lower cross entropy
        ((2.0, 2.0, 2.0), 2),  # equal in both: the earlier
        ((-1.0, -1.0, 1.0), 6),
    ],
)
async def test_the_epoch_is_chosen_on_dev(dev: tuple[float, ...], chosen: int) -> None:
    """By the metric, then the cross entropy; what was learned by then is what is returned."""
    training = Scripted(dev)
    learned, record = await ran(descent(), training)
    assert training.looks == [4, 8, 12]
    assert (record.chosen, learned["z"].tolist()) == (chosen, [2 * chosen])
    assert record.dev is not None
    assert record.dev.value == float(max(dev) > 0)


async def test_dev_is_looked_at_in_the_end_too() -> None:
    """Five epochs, a look at every second: the fifth is looked at as well."""
    training = Scripted((1.0, 2.0, 3.0))
    _, record = await ran(descent(epochs=5), training)
    assert (training.looks, record.chosen) == ([4, 8, 10], 5)


async def test_patience_ends_it() -> None:
    """After two looks that were no better, and a better one begins the count anew."""
    training = Scripted((1.0, 0.5, 2.0, 1.0, 1.0, 9.0))
    _, record = await ran(descent(epochs=20, patience=2), training)
    assert (training.looks, record.epochs, record.chosen, record.stopped) == ([4, 8, 12, 16, 20], 10, 6, "plateau")


def test_wall_time_ends_it_with_what_was_learned() -> None:
    """A step takes a second, and three epochs fit; before the first epoch ends there is nothing to return."""

    class Slow(Scripted):
        async def step(self, rows: Sequence[int]) -> float:
            await asyncio.sleep(1.0)
            return await super().step(rows)

    async def trained(wall_s: float, with_dev: bool) -> Any:
        budget = Budget(wall_s=wall_s, clock=asyncio.get_running_loop().time)
        budget.start()
        return await ran(descent(), Slow((3.0, 2.0)), with_dev=with_dev, budget=budget)

    for with_dev, chosen in ((False, 3), (True, 2)):
        _, record = run_virtual(trained(6.5, with_dev))
        assert (record.epochs, record.steps, record.chosen, record.stopped) == (3, 7, chosen, "budget")
    with pytest.raises(BudgetExceeded, match="wall_s"):
        run_virtual(trained(0.5, True))


async def test_a_loss_that_is_no_number_ends_it() -> None:
    """The message says at which step, and what to lower."""
    with pytest.raises(NotFinite, match=r"nan at step 3.*learning_rate below 0\.1"):
        await ran(descent(), Scripted((1.0,) * 3, losses={3: float("nan")}))


@pytest.mark.parametrize("method", METHODS)
def test_a_backend_that_can_only_be_called_is_refused(method: Any) -> None:
    """When the method is made, so nothing was sent; the message says what to use."""
    backend = mock()
    assert not isinstance(backend, TrainableBackend)
    with pytest.raises(Unsupported, match=r"as-a-service: no.*load_backend\('roberta-tiny', in_process=True\)"):
        method(backend)
    assert backend.book.attempts == 0


async def test_a_file_of_weights_needs_a_model_that_takes_them(tmp_path: Path) -> None:
    """The mock is none."""
    weights = {"words": np.ones((2, 3), np.float32)}
    file = ModelTuningPredictor(Client(mock(), Budget()), TASK, weights).save(tmp_path / "weights.predictor")
    with pytest.raises(Unsupported, match="model tuning needs gradients"):
        load_predictor(file, mock())


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"epochs": 0}, ValueError, "epochs is a whole number of at least 1, not 0"),
        ({"epochs": 1.5}, TypeError, "epochs is a whole number"),
        ({"learning_rate": 0}, ValueError, "learning_rate is a positive number"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate is a positive number"),
        ({"batch_size": 0}, ValueError, "batch_size is a whole number of at least 1"),
        ({"seed": None}, TypeError, "seed is a whole number"),
        ({"dev_every": 0}, ValueError, "dev_every is a whole number of at least 1"),
        ({"patience": 0}, ValueError, "patience is a whole number of at least 1"),
    ],
)
def test_options_are_checked_when_they_are_given(changes: dict[str, Any], error: type[Exception], named: str) -> None:
    """The message says the option, the value and what would do."""
    with pytest.raises(error, match=named):
        descent(**changes)


def test_data_are_checked_before_anything_is_trained() -> None:
    """A class without examples, patience without dev, a dev set of nothing."""
    with pytest.raises(EmptyClass):
        descent().check_data(examples(0, 1), DEV)
    with pytest.raises(ValueError, match="give dev=, or patience=None"):
        descent(patience=3).check_data(TRAIN, None)
    with pytest.raises(TaskError, match="dev set has no examples"):
        descent().check_data(TRAIN, TASK.examples([]))
