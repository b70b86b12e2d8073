"""Which examples are shown, in which order, and how they read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tuning_cases import TRAIN, examples

from lmaas_sdk import Piece, Task, get_task
from lmaas_sdk.methods import draw_demonstrations
from lmaas_sdk.methods.demonstrations import joined, written_out
from lmaas_sdk.tasks import Example

POOL = examples(0, 40)


def read(pieces: tuple[Piece, ...]) -> str:
    return "".join("<mask>" if piece.kind == "mask" else piece.text for piece in pieces)


@pytest.mark.parametrize("draw", ["random", "balanced"])
def test_a_draw_is_a_function_of_the_seed(draw: str) -> None:
    """The same seed draws the same examples in the same order; another one others."""
    drawn = [draw_demonstrations(POOL, 8, draw=draw, seed=seed).examples for seed in (1, 1, 2)]  # type: ignore[arg-type]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 8


@pytest.mark.parametrize("draw", ["random", "balanced"])
def test_fewer_shots_are_the_first_of_more(draw: str) -> None:
    """What is shown at 4 is shown at 8 in the same places, so that a curve over shots adds examples."""
    few, more = (draw_demonstrations(POOL, shots, draw=draw).examples for shots in (4, 8))  # type: ignore[arg-type]
    assert few == more[:4]


def test_drawn_at_random_the_classes_fall_as_they_may() -> None:
    """Over many seeds four demonstrations of two classes are of one class at times, as chance has it."""
    counts = [draw_demonstrations(POOL, 4, seed=seed).class_counts for seed in range(40)]
    assert {(4, 0), (0, 4)} & set(counts)
    assert (2, 2) in counts


def test_drawn_in_balance_no_class_is_ahead_by_more_than_one() -> None:
    """Wherever the row is cut."""
    for seed, shots in itertools.product(range(20), range(1, 12)):
        negative, positive = draw_demonstrations(POOL, shots, draw="balanced", seed=seed).class_counts
        assert abs(negative - positive) <= 1


def test_a_class_that_runs_out_leaves_the_rest_to_others() -> None:
    """Two of one class and six of the other: all eight are drawn."""
    uneven = POOL.subset([0, 2, 1, 3, 5, 7, 9, 11])
    drawn = draw_demonstrations(uneven, 32, draw="balanced")
    assert drawn.class_counts == (2, 6)
    assert sorted(drawn.labels[:4].tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize(("shots", "drawn"), [(0, 0), (1, 1), (32, 16)])
def test_there_are_as_many_as_asked_for_or_as_there_are(shots: int, drawn: int) -> None:
    """Sixteen examples give sixteen demonstrations at most."""
    assert len(draw_demonstrations(TRAIN, shots)) == drawn


@pytest.mark.parametrize(
    ("task", "fields", "label", "text"),
    [
        ("sst2", ("a fine film",), 1, "a fine film . It was great ."),
        ("agnews", ("They won",), 1, " Sports News: They won"),
        ("mrpc", ("It rains", "Rain falls"), 0, "It rains ? No , Rain falls"),
        ("dbpedia", ("A village",), 8, "[ Category: Village ] A village"),
    ],
)
def test_the_word_stands_in_the_place_of_the_mask(task: str, fields: tuple[str, ...], label: int, text: str) -> None:
    """With one space before it, which is its own."""
    assert read(written_out(get_task(task), Example(fields, label))) == text


def test_a_word_without_a_leading_space_stands_as_it_is() -> None:
    """The template's white space is all there is."""
    task = Task("t", template="{S} -> [<mask>]", labels=["n", "p"], words=["bad", "good"], leading_space=False)
    assert read(written_out(task, Example(("x",), 1))) == "x -> [good]"
    spaced = Task("t", template="{S} is <mask>", labels=["n", "p"], words=["bad", "good"], leading_space=False)
    assert read(written_out(spaced, Example(("x",), 1))) == "x is good"


def test_an_examples_own_words_stay_fields() -> None:
    """So that no backend takes `<mask>` or `</s>` in them for its own sign."""
    pieces = written_out(get_task("sst2"), Example(("a <mask> </s>",), 0))
    assert [piece.text for piece in pieces if piece.kind == "field"] == ["a <mask> </s>"]
    assert "mask" not in {piece.kind for piece in pieces}


@pytest.mark.parametrize(
    ("separator", "text"), [(" ", "a great. b <mask>"), ("\n", "a great.\nb <mask>"), ("", "a great.b <mask>")]
)
def test_texts_are_joined_by_the_separator(separator: str, text: str) -> None:
    """Which stands between two, not after the last."""
    task = Task("t", template="{S} <mask>", labels=["n", "p"], words=["bad", "great."])
    parts = [written_out(task, Example(("a",), 1)), task.template.render(("b",))]
    assert read(joined(parts, separator)) == text


def test_a_word_that_begins_a_text_brings_its_own_space() -> None:
    """Two spaces in a row would be another token."""
    task = get_task("agnews")
    parts = [written_out(task, Example((text,), label)) for text, label in (("They won", 1), ("They fell", 2))]
    assert read(joined(parts, " ")) == " Sports News: They won Business News: They fell"


def test_an_order_is_no_numpy_state() -> None:
    """The global generator is left alone."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is not used is what is tested)
    draw_demonstrations(POOL, 8)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
