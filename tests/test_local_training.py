"""Training on the user's side: how it ends early, and that nothing goes on behind one's back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaas_sdk.errors import NotFinite
from lmaas_sdk.methods.local_training import Labelled, Lesson, Parameter, Training, train_head

LABELS = np.array([0, 1, 0, 1])
TRAIN = Labelled([np.array([[label - 0.5, 1.0]], np.float32) for label in LABELS], LABELS)


class Counting:
    """A linear head that counts its steps, and says so at each."""

    def __init__(self, tell: Callable[[int], None] = lambda step: None) -> None:
        self.steps, self._tell = 0, tell

    def parameters(self, hidden_size: int, n_labels: int) -> Mapping[str, Parameter]:
        return {"weight": Parameter((n_labels, hidden_size), hidden_size)}

    def forward(self, weights: Mapping[str, Tensor], batch: Sequence[Tensor]) -> Tensor:
        if torch.is_grad_enabled():
            self.steps += 1
            self._tell(self.steps)
        return torch.cat(list(batch)) @ weights["weight"].T

    def logits(self, weights: object, features: object) -> np.ndarray:
        raise NotImplementedError


async def test_every_example_is_seen_in_each_epoch_in_batches() -> None:
    """Four in batches of three are two steps."""
    head = Counting()
    trained = await train_head(head, Training(epochs=5, batch_size=3), Lesson(TRAIN, None, "accuracy", 2), left_s=None)
    assert (head.steps, trained.epoch, trained.chosen_by, trained.stopped) == (10, 5, "last", "done")


async def test_where_time_ends_the_epoch_under_way_is_the_last() -> None:
    """One at least, so that there is something to predict with."""
    head = Counting()
    trained = await train_head(head, Training(epochs=500), Lesson(TRAIN, None, "accuracy", 2), left_s=0.0)
    assert (head.steps, trained.epoch, trained.chosen_by, trained.stopped) == (1, 1, "last", "budget")


async def test_patience_with_dev_ends_it_and_the_best_epoch_is_kept() -> None:
    """On labels turned around every epoch is worse than the one before: the first is best, three are waited for."""
    wrong = Labelled(TRAIN.features, 1 - LABELS)
    head, lesson = Counting(), Lesson(TRAIN, wrong, "accuracy", 2)
    trained = await train_head(head, Training(epochs=500, patience=3), lesson, left_s=None)
    assert (head.steps, trained.epoch, trained.chosen_by, trained.stopped) == (4, 1, "dev", "plateau")


async def test_who_gets_better_needs_no_patience() -> None:
    head, lesson = Counting(), Lesson(TRAIN, TRAIN, "accuracy", 2)
    trained = await train_head(head, Training(epochs=50, patience=1), lesson, left_s=None)
    assert (head.steps, trained.epoch, trained.chosen_by, trained.stopped) == (50, 50, "dev", "done")


async def test_cancelled_it_has_ended_when_that_is_known() -> None:
    """No thread trains for nobody."""
    begun, go_on = threading.Event(), threading.Event()

    def tell(step: int) -> None:
        begun.set()
        go_on.wait(60)

    head = Counting(tell)
    work = asyncio.create_task(train_head(head, Training(epochs=500), Lesson(TRAIN, None, "accuracy", 2), left_s=None))
    await asyncio.to_thread(begun.wait, 60)
    work.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await work
    assert head.steps == 1


async def test_a_failure_in_the_thread_is_told() -> None:
    """As it was raised."""

    def fail(step: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await train_head(Counting(fail), Training(), Lesson(TRAIN, None, "accuracy", 2), left_s=None)


class Steep(Counting):
    """Has a finite loss, and a gradient that is none."""

    def forward(self, weights: Mapping[str, Tensor], batch: Sequence[Tensor]) -> Tensor:
        return super().forward(weights, batch) + torch.sqrt(weights["weight"].sum() * 0)


@pytest.mark.parametrize(
    ("dev", "epochs", "what"),
    [
        (None, 5, "the loss is nan at step 2"),
        (None, 1, "a weight is no number after epoch 1"),
        (TRAIN, 5, "a logit of the dev set is no number after epoch 1"),
    ],
)
async def test_a_training_that_diverges_is_told(dev: Labelled | None, epochs: int, what: str) -> None:
    """Where it was seen, and what to lower; so is a last step that leaves no numbers."""
    lesson = Lesson(TRAIN, dev, "accuracy", 2)
    with pytest.raises(NotFinite, match=rf"{what}: .*learning_rate below 0\.5"):
        await train_head(Steep(), Training(epochs=epochs, learning_rate=0.5), lesson, left_s=None)


async def test_dev_ties_are_broken_by_cross_entropy_and_then_by_time() -> None:
    """Where all is right from some epoch on, the surest is taken; labels that nothing tells apart leave the first."""
    flipped = Labelled(TRAIN.features, 1 - LABELS)
    sure = await train_head(Counting(), Training(epochs=40), Lesson(TRAIN, TRAIN, "accuracy", 2), left_s=None)
    unsure = await train_head(Counting(), Training(epochs=40), Lesson(TRAIN, flipped, "accuracy", 2), left_s=None)
    assert (sure.epoch, unsure.epoch) == (40, 1)


async def test_two_at_a_time_are_as_one_after_the_other() -> None:
    """Their number of threads is put back by whoever ends last."""
    before = torch.get_num_threads()
    lesson = Lesson(TRAIN, None, "accuracy", 2)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(train_head(Counting(), Training(epochs=20, seed=seed), lesson, left_s=None))
            for seed in (1, 2, 1)
        ]
    found = [task.result().weights["weight"].tobytes() for task in tasks]
    alone = await train_head(Counting(), Training(epochs=20, seed=1), lesson, left_s=None)
    assert found[0] == found[2] == alone.weights["weight"].tobytes() != found[1]
    with ThreadPoolExecutor() as another:
        assert (before, before) == (torch.get_num_threads(), another.submit(torch.get_num_threads).result())
