"""Tests of lmaas_sdk.tasks.few_shot."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas_sdk.errors import EmptyClass, TaskError
from lmaas_sdk.tasks import Dataset, Task, few_shot, subsample

LETTERS = Task("letters", template="{S} <mask>", labels=["a", "b", "c"], words=["A", "B", "C"])


def rows(labels: list[int]) -> Dataset:
    """A data set whose texts are the row numbers."""
    return LETTERS.examples([(str(row), label) for row, label in enumerate(labels)], name="rows")


def numbers(dataset: Dataset) -> list[int]:
    return [int(example.fields[0]) for example in dataset]


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 4), st.lists(st.integers(0, 2), max_size=30), st.integers(0, 2**63))
def test_samples_are_balanced_and_disjoint(shots: int, extra: list[int], seed: int) -> None:
    """Both sets have `shots` of each class, share no row and keep every row's label."""
    full = rows([0, 1, 2] * (2 * shots) + extra)

    train, dev = few_shot(full, shots, seed=seed)

    assert (shots,) * 3 == train.class_counts == dev.class_counts
    assert set() == set(numbers(train)) & set(numbers(dev))
    assert 1 == max(Counter(numbers(train) + numbers(dev)).values())
    for sample in (train, dev):
        assert [full.examples[number] for number in numbers(sample)] == list(sample)


def test_the_same_seed_draws_the_same_rows_everywhere() -> None:
    """The rows of two seeds are pinned: figures of any machine are about the same samples."""
    full = rows([0, 1, 2, 0] * 8)

    drawn = {seed: [numbers(part) for part in few_shot(full, 2, seed=seed)] for seed in (13, 42)}

    assert {
        13: [[1, 19, 0, 13, 30, 2], [7, 20, 9, 5, 26, 6]],
        42: [[28, 9, 29, 2, 10, 16], [25, 17, 15, 26, 7, 6]],
    } == drawn


def test_the_first_of_a_shuffle_train_and_the_next_are_for_dev() -> None:
    """With one more shot, the training set of fewer shots is contained in the larger one."""
    full = rows([0, 1, 2] * 20)

    (small, _), (large, _) = few_shot(full, 3, seed=7), few_shot(full, 4, seed=7)

    assert set(numbers(small)) < set(numbers(large))


def test_samples_say_where_they_come_from() -> None:
    """The names give source, shots and seed."""
    train, dev = few_shot(rows([0, 1, 2] * 2), 1, seed=5)

    assert ("rows, 1 shots, seed 5, train", "rows, 1 shots, seed 5, dev") == (train.name, dev.name)


def test_sixteen_shots_and_seed_42_are_the_defaults() -> None:
    """The setting of the published figures needs no mention."""
    full = rows([0, 1, 2] * 40)

    assert few_shot(full, 16, seed=42) == few_shot(full)
    assert subsample(full, 5, seed=42) == subsample(full, 5)


def test_a_class_with_too_few_rows_is_named() -> None:
    """Twice the shots are needed; the message gives the counts."""
    with pytest.raises(EmptyClass, match=r"2 shots take 4 .* of 'c' \('a': 4, 'b': 4, 'c': 3\)"):
        few_shot(rows([0, 1, 2] * 3 + [0, 1]), 2)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "16"])
def test_a_count_is_a_whole_number(count: Any) -> None:
    """Zero, fractions and other types are refused."""
    with pytest.raises(TaskError, match="shots is a whole number of at least 1"):
        few_shot(rows([0, 1, 2]), count)
    with pytest.raises(TaskError, match="rows is a whole number of at least 1"):
        subsample(rows([0, 1, 2]), count)


@pytest.mark.parametrize("seed", [1.5, 42.0, True, "42", None, float("nan")], ids=repr)
def test_a_seed_is_an_integer(seed: Any) -> None:
    """No seed is rounded or read in silence, not even where nothing needs to be drawn."""
    with pytest.raises(TypeError, match="seed is a whole number"):
        few_shot(rows([0, 1, 2] * 2), 1, seed=seed)
    with pytest.raises(TypeError, match="seed is a whole number"):
        subsample(rows([0, 1, 2]), 5, seed=seed)


def test_numpys_integers_are_seeds_too() -> None:
    """A seed from an array draws the rows, and has the name, of the number it equals."""
    full = rows([0, 1, 2] * 4)
    assert few_shot(full, 2, seed=42) == few_shot(full, 2, seed=np.int64(42))  # type: ignore[arg-type]


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(0, 2**63))
def test_a_subsample_keeps_the_order(count: int, seed: int) -> None:
    """It has as many distinct rows as asked for, where there are, in the set's own order."""
    full = rows([0, 1, 2] * 10)

    part = numbers(subsample(full, count, seed=seed))

    assert min(count, 30) == len(part)
    assert sorted(set(part)) == part


def test_a_subsample_is_drawn_by_the_seed() -> None:
    """One seed draws one sample, pinned; a set that is small enough is returned itself."""
    full = rows([0, 1, 2] * 10)

    assert [4, 6, 12, 17, 25] == numbers(subsample(full, 5, seed=42))
    assert numbers(subsample(full, 5, seed=42)) != numbers(subsample(full, 5, seed=43))
    assert subsample(full, 30) is full
    assert "rows, 5 rows, seed 42" == subsample(full, 5, seed=42).name


def test_sampling_leaves_other_generators_alone() -> None:
    """numpy's global state is not touched."""
    before = repr(np.random.get_state())  # noqa: NPY002  # the global state is what is looked at

    few_shot(rows([0, 1, 2] * 2), 1)

    assert before == repr(np.random.get_state())  # noqa: NPY002
