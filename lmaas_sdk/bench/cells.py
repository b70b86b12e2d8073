"""Cells: a configuration on a task with a seed; the key of one names all that decides its result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.bench.configurations import Configuration
from lmaas_sdk.canonical import digest
from lmaas_sdk.tasks import Dataset, Task, few_shot, read_folder, subsample
from lmaas_sdk.tasks.source import squash

__all__ = ["Cell", "ReadSplit", "TaskData", "cells_of", "folder_reader", "model_of", "read_task"]

_TEST_SEED = 0  # the same test rows for all, whatever the seed of a cell
_WEIGHTS = re.compile(r"\bweights=(\S+)")

ReadSplit = Callable[[Task, str | None], Dataset]
"""(task, split) -> its rows; None: the split that the task is evaluated on."""


def folder_reader(folder: str | Path) -> ReadSplit:
    """Reads the splits of every task from a folder, as `read_folder` does."""
    return lambda task, split: read_folder(folder, task, split)


@dataclass(frozen=True, slots=True)
class TaskData:
    """The data of a task.

    Args:
        pool: What few-shot samples are drawn from.
        test: The rows that results are reported on, the same for all.
        shots: Examples a class, for train and for dev each.
    """

    pool: Dataset = field(repr=False)
    test: Dataset = field(repr=False)
    shots: int = 16

    @property
    def task(self) -> Task:
        return self.test.task

    def drawn(self, seed: int) -> tuple[Dataset, Dataset]:
        """The training and the development set of a seed."""
        return few_shot(self.pool, self.shots, seed=seed)


def read_task(read: ReadSplit, task: Task, *, shots: int = 16, test_rows: int | None = 1000) -> TaskData:
    """Reads a task; blocking.

    Args:
        read: Reads a split.
        task: Which.
        shots: Examples a class.
        test_rows: Most rows to report on, drawn by seed 0 where there are more; None: all.

    Raises:
        TaskError: The data cannot be used.
    """
    test = read(task, None)
    return TaskData(
        read(task, "train"), test if test_rows is None else subsample(test, test_rows, seed=_TEST_SEED), shots
    )


def model_of(card: ModelCard) -> dict[str, Any]:
    """What tells a model from another: by which path it computes is no part of it."""
    weights = _WEIGHTS.search(card.fingerprint)
    return {
        "name": card.name,
        "hidden_size": card.hidden_size,
        "vocab_size": card.vocab_size,
        "tokenizer_digest": card.tokenizer_digest,
        "weights": weights[1] if weights else "",
    }


@dataclass(frozen=True, eq=False)  # no slots: a key is kept once it is worked out
class Cell:
    """What is measured once.

    Args:
        configuration: The method and its settings.
        settings: These settings for the model.
        evaluations: Those of its search; None: it searches nothing.
        seed: Of the data and of the method; one whose seed does not matter has that of the first.
        train, dev, test: The data.
        model: What `model_of` says.
    """

    configuration: Configuration
    settings: Mapping[str, Any]
    evaluations: int | None
    seed: int
    train: Dataset = field(repr=False)
    dev: Dataset = field(repr=False)
    test: Dataset = field(repr=False)
    model: Mapping[str, Any] = field(repr=False)

    @property
    def task(self) -> Task:
        return self.test.task

    @property
    def row(self) -> str:
        """What stands for its configuration and budget: "black-box:paper@8000"."""
        name = self.configuration.name
        return name if self.evaluations is None else f"{name}@{self.evaluations}"

    @property
    def label(self) -> str:
        """For people: "sst2, black-box:paper@8000, seed 42"."""
        return f"{self.task.name}, {self.row}" + (f", seed {self.seed}" if self.configuration.is_seeded else "")

    @cached_property
    def key(self) -> str:
        """SHA-256 over all that decides the result, in hex: the configuration by what it does, not by its name."""
        seeded = self.configuration.is_seeded
        return digest(
            {
                "format": "lmaas-bench-cell/1",
                "method": self.configuration.method,
                "settings": dict(self.settings),
                "evaluations": self.evaluations,
                "seed": self.seed if seeded else None,
                "train": self.train.digest if seeded else None,
                "dev": self.dev.digest if seeded else None,
                "test": self.test.digest,  # with the task's template, label words and metric
                "model": dict(self.model),
            }
        )

    @property
    def stem(self) -> str:
        """A name for its files and its budget."""
        return f"{squash(self.task.name)}-{re.sub('[^a-z0-9]+', '-', self.row.lower())}-{self.seed}-{self.key[:12]}"


def cells_of(
    configurations: Sequence[Configuration],
    tasks: Iterable[TaskData],
    seeds: Sequence[int],
    *,
    card: ModelCard,
    evaluations: int,
) -> Iterator[Cell]:
    """The cells of a plan: a task after the other, a configuration after the other, a seed after the other; blocking.

    Args:
        configurations: Which.
        tasks: Their data.
        seeds: Of the data and the methods.
        card: The model's.
        evaluations: Those of a search that has none of its own.

    Raises:
        EmptyClass: There are too few examples of a class.
    """
    model = model_of(card)
    settings = [configuration.settings(card) for configuration in configurations]
    for data in tasks:
        drawn = {seed: data.drawn(seed) for seed in seeds}
        for configuration, settled in zip(configurations, settings, strict=True):
            budget = (configuration.evaluations or evaluations) if configuration.searches else None
            for seed in seeds if configuration.is_seeded else seeds[:1]:
                train, dev = drawn[seed]
                yield Cell(configuration, settled, budget, seed, train, dev, data.test, model)
