"""Training a head on features on the user's side: the one place of the package where torch computes."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.finite import all_finite
from lmaas_sdk.methods.descent import Stopped, diverged
from lmaas_sdk.methods.features import Features
from lmaas_sdk.seeding import permutation, raw_words, whole_number
from lmaas_sdk.side_thread import SideThread
from lmaas_sdk.tasks.metrics import get_metric
from lmaas_sdk.tuning.objective import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ChosenBy",
    "Head",
    "Labelled",
    "Lesson",
    "Parameter",
    "Trained",
    "Training",
    "Weights",
    "check_torch",
    "train_head",
]

Weights = Mapping[str, NDArray[np.float32]]
"""Of a head, by name."""

ChosenBy = Literal["dev", "last"]
"""How the epoch was chosen: by the dev set, or as the last there was."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """An array of a head: its shape, and the inputs that an entry sums over, which say how large it is at first."""

    shape: tuple[int, ...]
    fan: int


class Head(Protocol):
    """What is trained on features."""

    def parameters(self, hidden_size: int, n_labels: int) -> Mapping[str, Parameter]:
        """Its arrays, by name, for features of such a width."""
        ...

    def forward(self, weights: Mapping[str, Tensor], batch: Sequence[Tensor]) -> Tensor:
        """Logits of some texts, (n, n_labels), with torch, so that they have a gradient."""
        ...

    def logits(self, weights: Weights, features: Sequence[Features]) -> NDArray[np.float32]:
        """The same without torch."""
        ...


@dataclass(frozen=True, slots=True)
class Training:
    """How a head is trained: Adam on the cross entropy.

    Args:
        epochs: Times that each example is seen.
        learning_rate: Of Adam.
        batch_size: Examples a step; their order is new in every epoch.
        seed: Of the first weights and of these orders.
        patience: Epochs that may be no better on dev than the best before it ends; None: it does not end by that.

    Raises:
        TypeError: One is no number.
        ValueError: One is out of its range.
    """

    epochs: int = 1000
    learning_rate: float = 3e-4
    batch_size: int = 32
    seed: int = 42
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), at_least=1))
        object.__setattr__(self, "seed", whole_number("seed", self.seed))
        if self.patience is not None:
            object.__setattr__(self, "patience", whole_number("patience", self.patience, at_least=1))
        rate: object = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, Real):
            raise TypeError(f"learning_rate is a number above 0, not {rate!r:.80} of {type(rate).__name__}")
        if not 0 < float(rate) < math.inf:
            raise ValueError(f"learning_rate is a finite number above 0, not {rate!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Features of texts with their class indices, (n,) int64."""

    features: Sequence[Features]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a head is trained on.

    Args:
        train: Examples.
        dev: Others to choose the epoch by: best metric, ties by cross entropy, then the earliest. None: the last.
        metric: The task's.
        n_labels: Classes.
    """

    train: Labelled
    dev: Labelled | None
    metric: str
    n_labels: int


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A head's weights after an epoch, counted from 1, how that was chosen, and what ended the training."""

    weights: Weights
    epoch: int
    chosen_by: ChosenBy
    stopped: Stopped = "done"


def check_torch() -> None:
    """Refuses to train where that is not possible; slow where torch was not imported yet.

    Raises:
        MissingExtra: torch is not installed.
    """
    try:
        import torch  # noqa: F401, PLC0415  (optional and slow to import)
    except ImportError as error:
        raise MissingExtra("a head is trained with torch: pip install 'lmaas-sdk[local]'") from error


async def train_head(head: Head, training: Training, lesson: Lesson, *, left_s: float | None) -> Trained:
    """Trains off the event loop's thread, in one thread: the same bits for the same seed and features.

    Args:
        head: What is trained.
        training: How.
        lesson: On what.
        left_s: Seconds it may take; the epoch in which they end is the last. None: no limit.

    Raises:
        NotFinite: The training diverged: the train loss, a weight or a logit of the dev set is no number any more.
    """
    clock, halt = asyncio.get_running_loop().time, threading.Event()
    end_s = math.inf if left_s is None else clock() + left_s
    course = _Course(head, training, lesson, lambda: halt.is_set() or clock() >= end_s)
    with SideThread("lmaas-training") as thread:
        work = thread.run(course.run)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            halt.set()  # so that no thread goes on for nobody
            await asyncio.wait([work])
            raise


@dataclass(frozen=True, slots=True, eq=False)
class _Course:
    """A training, for the thread that it runs on."""

    head: Head
    training: Training
    lesson: Lesson
    is_over: Callable[[], bool]

    def run(self) -> Trained:
        import torch  # noqa: PLC0415  (optional and slow to import)

        hidden_size = self.lesson.train.features[0].shape[1]
        first = _first_weights(self.head.parameters(hidden_size, self.lesson.n_labels), self.training.seed)
        with _one_thread():
            weights = {name: torch.from_numpy(array).requires_grad_() for name, array in first.items()}
            optimizer = torch.optim.Adam(weights.values(), lr=self.training.learning_rate)
            train, choice = _tensors(self.lesson.train), _Choice(self.head, self.lesson, self.training)
            stopped: Stopped = "done"
            for epoch in range(1, self.training.epochs + 1):
                self._see_all(weights, optimizer, train, epoch)
                if not choice.look(weights, epoch):
                    stopped = "plateau"
                    break
                if epoch < self.training.epochs and self.is_over():
                    stopped = "budget"
                    break
            trained = replace(choice.made(weights, epoch), stopped=stopped)
        if not all(map(all_finite, trained.weights.values())):  # of the last step nobody has seen the loss
            raise diverged(f"a weight is no number after epoch {trained.epoch}", self.training.learning_rate)
        return trained

    def _see_all(self, weights: Mapping[str, Tensor], optimizer: Any, train: Sequence[Tensor], epoch: int) -> None:
        """One epoch. Raises NotFinite where it diverges."""
        import torch  # noqa: PLC0415

        order = permutation(self.training.seed, f"local-training/1/epoch {epoch}", len(train))
        starts = range(0, len(order), self.training.batch_size)
        for step, start in enumerate(starts, (epoch - 1) * len(starts) + 1):
            rows = order[start : start + self.training.batch_size]
            logits = self.head.forward(weights, [train[row] for row in rows])
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(self.lesson.train.labels[rows]))
            if not math.isfinite(told := loss.item()):
                raise diverged(f"the loss is {told} at step {step}", self.training.learning_rate)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


class _Choice:
    """Which epoch's weights are returned."""

    def __init__(self, head: Head, lesson: Lesson, training: Training) -> None:
        self._head, self._lesson, self._training = head, lesson, training
        self._dev = [] if lesson.dev is None else _tensors(lesson.dev)
        self._best: Trained | None = None
        self._rank = (-math.inf, -math.inf)

    def look(self, weights: Mapping[str, Tensor], epoch: int) -> bool:
        """Scores the weights on dev, if there is one; whether there is patience for another epoch.

        Raises:
            NotFinite: A logit is no number.
        """
        import torch  # noqa: PLC0415

        if self._lesson.dev is None:
            return True
        with torch.no_grad():
            logits: NDArray[np.float32] = self._head.forward(weights, self._dev).numpy()
        if not all_finite(logits):
            raise diverged(f"a logit of the dev set is no number after epoch {epoch}", self._training.learning_rate)
        labels = self._lesson.dev.labels
        value = get_metric(self._lesson.metric)(labels, logits.argmax(axis=1).astype(np.int64))
        rank = float(value), -cross_entropy(logits, labels)
        if self._best is None or rank > self._rank:
            self._rank, self._best = rank, Trained(_arrays(weights), epoch, "dev")
        patience = self._training.patience
        return patience is None or epoch - self._best.epoch < patience

    def made(self, weights: Mapping[str, Tensor], epoch: int) -> Trained:
        """The choice, after the last epoch."""
        return self._best or Trained(_arrays(weights), epoch, "last")


def _first_weights(parameters: Mapping[str, Parameter], seed: int) -> dict[str, NDArray[np.float32]]:
    """Uniform within 1 / sqrt(fan) of 0, as torch has it by default, from words of our own."""
    weights = {}
    for name, parameter in parameters.items():
        words = raw_words(seed, f"local-training/1/{name}", math.prod(parameter.shape))
        halves = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)  # exact: 24 bits
        weights[name] = (halves * np.float32(parameter.fan**-0.5)).reshape(parameter.shape)
    return weights


def _arrays(weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in weights.items()}


def _tensors(labelled: Labelled) -> list[Tensor]:
    import torch  # noqa: PLC0415

    return [torch.tensor(one) for one in labelled.features]  # copies: what is kept cannot be written to


_lock = threading.Lock()
_before: list[int] = []


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch computes in one thread inside: the order of a sum, and so its bits, depends on how many there are.

    The setting is partly one of the process, so who leaves last puts back what who came first has found.
    """
    import torch  # noqa: PLC0415

    with _lock:
        _before.append(_before[0] if _before else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            before = _before.pop()
            if not _before:
                torch.set_num_threads(before)
