"""Few-shot samples: a balanced training and development set from a larger one."""

from __future__ import annotations

import numpy as np

from lmaas_sdk.errors import EmptyClass, TaskError
from lmaas_sdk.seeding import permutation, whole_number
from lmaas_sdk.tasks.dataset import Dataset

__all__ = ["few_shot", "subsample"]


def few_shot(dataset: Dataset, shots: int = 16, *, seed: int = 42) -> tuple[Dataset, Dataset]:
    """`shots` examples a class for training, and as many others for development.

    One shuffle with the seed: the first `shots` of each class are the training set, the next the development set, both
    in shuffled order (the procedure of Sun et al. 2022). The same seed and data give the same sets everywhere.

    Returns:
        The training and the development set; no row is in both.

    Raises:
        TaskError: `shots` is not a whole number of at least 1.
        EmptyClass: A class has fewer than 2 * shots examples.
        TypeError: The seed is no integer.
    """
    _check_count("shots", shots)
    seed = whole_number("seed", seed)
    try:
        dataset.require_every_class(2 * shots)
    except EmptyClass as error:
        raise EmptyClass(
            f"{shots} shots take {2 * shots} examples of each class, half of them for dev: {error}"
        ) from error
    order = permutation(seed, "few-shot/1", len(dataset))
    labels = dataset.labels[order]
    rank = np.empty(len(order), dtype=np.int64)  # how many of the row's own class come before it
    for label in range(len(dataset.task.labels)):
        rank[labels == label] = np.arange(np.sum(labels == label))
    about = f"{dataset.name or dataset.task.name}, {shots} shots, seed {seed}"
    train = dataset.subset(order[rank < shots], name=f"{about}, train")
    dev = dataset.subset(order[(rank >= shots) & (rank < 2 * shots)], name=f"{about}, dev")
    return train, dev


def subsample(dataset: Dataset, rows: int, *, seed: int = 42) -> Dataset:
    """A random part of a large set, in the set's own order; the set itself where it has no more than `rows`.

    Raises:
        TaskError: `rows` is not a whole number of at least 1.
        TypeError: The seed is no integer.
    """
    _check_count("rows", rows)
    seed = whole_number("seed", seed)
    if rows >= len(dataset):
        return dataset
    chosen = np.sort(permutation(seed, "subsample/1", len(dataset))[:rows])
    return dataset.subset(chosen, name=f"{dataset.name or dataset.task.name}, {rows} rows, seed {seed}")


def _check_count(name: str, value: object) -> None:
    try:
        whole_number(name, value, at_least=1)
    except (TypeError, ValueError) as error:
        raise TaskError(str(error)) from error
