"""Tests of lmaas_sdk.tasks.dataset and lmaas_sdk.tasks.source."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from lmaas_sdk.errors import EmptyClass, TaskError, VerbalizerError
from lmaas_sdk.tasks import Dataset, Example, Source, Task, Template, Verbalizer
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet

TICKETS = Task(
    "tickets", template="{text} This is about <mask> .", labels=["billing", "technical"], words=["money", "computers"]
)
PAIRS = Task("pairs", template="{S1} ? <mask> , {S2}", labels=["no", "yes"], words=["No", "Yes"], metric="f1")
ROWS = [("My invoice is wrong", "billing"), ("It crashes", "technical"), ("Refund me", "billing")]


def task(**changes: Any) -> Task:
    description: dict[str, Any] = {"template": "{S} <mask>", "labels": ["a", "b"], "words": ["A", "B"]}
    return Task("letters", **(description | changes))


def test_a_users_own_task_takes_a_few_lines() -> None:
    """A description and pairs make a data set with labels, texts and words."""
    train = TICKETS.examples(ROWS, name="mine")

    assert (3, "mine", (2, 1)) == (len(train), train.name, train.class_counts)
    assert np.int64 == train.labels.dtype
    assert [0, 1, 0] == train.labels.tolist()
    assert [Example((text,), index) for (text, _), index in zip(ROWS, [0, 1, 0], strict=True)] == list(train)
    assert LabelWords((" money", " computers")) == train.text_set.label_words
    assert train.text_set.texts[1] == (
        Piece("field", "It crashes"),
        Piece("template", " This is about "),
        MASK,
        Piece("template", " ."),
    )


def test_a_template_may_come_parsed() -> None:
    """A string and a Template describe the same task."""
    assert task() == task(template=Template("{S} <mask>"))


def test_words_may_come_by_label() -> None:
    """A mapping in any order describes the same task as a list."""
    assert task() == task(words={"b": "B", "a": "A"})
    assert ("A", "B") == task(words={"b": "B", "a": "A"}).words


def test_word_options_reach_the_verbalizer() -> None:
    """leading_space and pieces are the verbalizer's."""
    assert Verbalizer(["A", "B"], False, "mean") == task(leading_space=False, pieces="mean").verbalizer


@pytest.mark.parametrize(
    ("label", "index"),
    [("billing", 0), ("technical", 1), (0, 0), (1, 1), ("1", 1), (" technical ", 1), (True, 1), (np.int64(1), 1)],
    ids=repr,
)
def test_a_label_is_a_name_an_index_or_its_digits(label: Any, index: int) -> None:
    """All of them name the same class."""
    assert index == TICKETS.label_index(label)


@pytest.mark.parametrize(
    "label", [2, "2", 10, -1, "-1", "Billing", "", "01", "\u0661", 0.0, None, np.float64(1)], ids=repr
)
def test_an_unknown_label_is_refused(label: Any) -> None:
    """The message lists the labels by index, or says that a label is of another type."""
    with pytest.raises(
        TaskError, match=r"its labels are 0 'billing', 1 'technical'|a label is a name or a class index"
    ):
        TICKETS.label_index(label)


def test_classes_named_by_numbers_are_never_taken_for_indices() -> None:
    """With the stars 1, 2 and 5 as names, label 1 is the first class and 0 is none."""
    stars = task(labels=["1", "2", "5"], words=["bad", "poor", "great"])

    assert [0, 1, 2, 0] == [stars.label_index(label) for label in ("1", 2, "5", 1)]
    with pytest.raises(TaskError, match="no label 0"):
        stars.label_index(0)


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"labels": ["a"]}, TaskError, "at least two classes"),
        ({"labels": "ab"}, TaskError, "a list of class names, not 'ab' of str"),
        ({"labels": b"ab"}, TaskError, "a list of class names, not b'ab' of bytes"),
        ({"labels": {"a", "b"}}, TaskError, "a list of class names, not {.*} of set"),
        ({"labels": {"a": "A", "b": "B"}}, TaskError, "a list of class names, not {.*} of dict"),
        ({"labels": None}, TaskError, "a list of class names, not None of NoneType"),
        ({"words": {"A", "B"}}, VerbalizerError, "a list, one by class, or a mapping .* not {.*} of set"),
        ({"words": None}, VerbalizerError, "not None of NoneType"),
        ({"words": "AB"}, VerbalizerError, "not the single string 'AB'"),
        ({"source": "SST-2"}, TaskError, "source is a Source .*, not 'SST-2'"),
        ({"labels": ["a", "a"]}, TaskError, "given twice: 'a'"),
        ({"labels": ["a", ""]}, TaskError, "not ''"),
        ({"labels": ["a", 1]}, TaskError, "not 1"),
        ({"words": ["A"]}, VerbalizerError, "no word for 'b'"),
        ({"words": {"a": "A"}}, VerbalizerError, "no word for 'b'"),
        ({"words": {"a": "A", "b": ""}}, VerbalizerError, "label 'b' has no word"),
        ({"words": ["A", "A"]}, VerbalizerError, "labels 'a' and 'b' share"),
        ({"metric": "bleu"}, TaskError, "no metric 'bleu'"),
        ({"template": "{S}"}, TaskError, "exactly one <mask>"),
        ({"pieces": "some"}, VerbalizerError, "not 'some'"),
    ],
)
def test_an_unusable_task_is_refused(changes: Any, error: type[TaskError], complaint: str) -> None:
    """The message names the label, word, metric or template at fault."""
    with pytest.raises(error, match=complaint):
        task(**changes)


def test_a_task_needs_a_name() -> None:
    """An empty name is refused."""
    with pytest.raises(TaskError, match="name"):
        Task("", template="{S} <mask>", labels=["a", "b"], words=["A", "B"])


def test_a_task_is_a_frozen_value() -> None:
    """It is compared and hashed by content, pickled, and not changed."""
    assert hash(task()) == hash(task())
    assert task() == pickle.loads(pickle.dumps(task()))  # noqa: S301  # our own bytes
    for value in (task(), task().template, task().verbalizer, task().source, Example(("x",), 0), task().examples([])):
        with pytest.raises(FrozenInstanceError):
            setattr(value, fields(value)[0].name, None)


@pytest.mark.parametrize(
    "described",
    [TICKETS, PAIRS, task(leading_space=False, pieces="first", source=Source(("X-1",), ("s",), "dev", ("-1",)))],
)
def test_a_tasks_wire_form_reads_back(described: Task) -> None:
    """A task goes through JSON and comes back equal."""
    assert described == Task.from_wire(json.loads(json.dumps(described.to_wire())))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "a task has name"),
        ({}, "a task has name"),
        (TICKETS.to_wire() | {"more": 1}, "a task has name"),
        (TICKETS.to_wire() | {"source": {}}, "a source has names"),
        (TICKETS.to_wire() | {"source": Source().to_wire() | {"names": [1]}}, "a source has names"),
        (TICKETS.to_wire() | {"verbalizer": []}, "a verbalizer has words"),
        (TICKETS.to_wire() | {"labels": ["a"]}, "at least two classes"),
        (TICKETS.to_wire() | {"metric": "unheard"}, "no metric 'unheard'"),
    ],
)
def test_another_wire_form_is_refused(value: object, complaint: str) -> None:
    """Missing, further and mistyped keys are errors, and so is unusable content."""
    with pytest.raises(TaskError, match=complaint):
        Task.from_wire(value)


def test_fields_come_as_tuples_or_mappings() -> None:
    """Both forms of a pair make the same example."""
    expected = PAIRS.examples([(("one", "two"), "yes")])

    assert expected == PAIRS.examples([({"S2": "two", "S1": "one"}, 1)])
    assert (("one", "two"),) == expected.fields


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        ([("fine", "billing"), ("bad", "unknown")], "example 1: .*no label 'unknown'"),
        ([("one", "two", "billing")], r"example 0 is not \(text, label\)"),
        (["ab"], "example 0 is not"),
        ([(3, "billing")], "example 0: .*not 3"),
        ([(("one", "two"), "billing")], "example 0: .*2 given"),
    ],
)
def test_an_unusable_example_is_refused(pairs: Any, complaint: str) -> None:
    """The message gives the example's position."""
    with pytest.raises(TaskError, match=complaint):
        TICKETS.examples(pairs)


def test_texts_without_labels_are_rendered() -> None:
    """Inputs to predict get the same pieces as examples."""
    assert TICKETS.examples(ROWS).text_set.texts == TICKETS.texts([text for text, _ in ROWS])


def test_one_string_is_not_a_list_of_texts() -> None:
    """A lone string is refused rather than read letter by letter."""
    with pytest.raises(TaskError, match=r"write \['It crashes'\]"):
        TICKETS.texts("It crashes")


@pytest.mark.parametrize("items", [{"It crashes", "Refund me"}, {"It crashes": 1}])
def test_texts_are_in_an_order(items: Any) -> None:
    """A set or a mapping is refused: its order would not be that of the answers."""
    with pytest.raises(TaskError, match=f"a list of texts, not a {type(items).__name__}"):
        TICKETS.texts(items)


def test_a_text_set_is_rendered_once() -> None:
    """The rendered set is kept, and its content does not depend on the labels."""
    train = TICKETS.examples(ROWS)
    relabelled = TICKETS.examples([(text, "billing") for text, _ in ROWS])

    assert train.text_set is train.text_set
    assert isinstance(train.text_set, TextSet)
    assert relabelled.text_set == train.text_set


def test_the_labels_cannot_be_overwritten() -> None:
    """A data set is a value, its arrays included."""
    with pytest.raises(ValueError, match="read-only"):
        TICKETS.examples(ROWS).labels[0] = 1


def test_the_digest_names_the_content() -> None:
    """It is the same for the same content, and pinned: journals and caches are named by it."""
    train = TICKETS.examples(ROWS)

    assert "320124b3b68fbe3fea5e45572c0093e63ee69218327fb4eb5e7fb878e93d4429" == train.digest
    assert train.digest == TICKETS.examples(ROWS, name="elsewhere").digest


@pytest.mark.parametrize(
    "other",
    [
        TICKETS.examples([(text, "billing") for text, _ in ROWS]),
        TICKETS.examples(ROWS[::-1]),
        TICKETS.examples(ROWS[:2]),
        TICKETS.examples([(text + "!", label) for text, label in ROWS]),
        Task("tickets", template="{text} <mask>", labels=TICKETS.labels, words=TICKETS.words).examples(ROWS),
        Task("tickets", template=TICKETS.template, labels=TICKETS.labels, words=["cash", "computers"]).examples(ROWS),
        Task("tickets", template=TICKETS.template, labels=TICKETS.labels, words=TICKETS.words, metric="f1").examples(
            ROWS
        ),
    ],
)
def test_the_digest_changes_with_the_content(other: Dataset) -> None:
    """Another label, order, text, template, word or metric is another data set."""
    assert other.digest != TICKETS.examples(ROWS).digest


def test_the_digest_leaves_out_where_the_data_lie() -> None:
    """A further folder name does not make a finished run's data another set."""
    elsewhere = task(source=Source(("letters-2",)))

    assert task().examples([("x", "a")]).digest == elsewhere.examples([("x", "a")]).digest


def test_a_subset_keeps_the_given_order() -> None:
    """Rows come in the order of the indices, more than once if asked."""
    train = TICKETS.examples(ROWS, name="mine")

    assert ("Refund me", "My invoice is wrong", "Refund me") == tuple(row.fields[0] for row in train.subset([2, 0, 2]))
    assert ("mine", "part") == (train.subset([0]).name, train.subset(np.array([0]), name="part").name)


@pytest.mark.parametrize("index", [3, -1])
def test_a_subset_has_no_rows_outside(index: int) -> None:
    """A negative index is not counted from the end."""
    with pytest.raises(TaskError, match=rf"rows \[{index}\] are not in 0 .. 2"):
        TICKETS.examples(ROWS).subset([index])


def test_an_empty_class_is_named_with_all_counts() -> None:
    """The message says which class lacks examples and how many each has."""
    train = TICKETS.examples([("Refund me", "billing")], name="mine")

    with pytest.raises(
        EmptyClass, match=r"'mine' has fewer than 1 examples of 'technical' \('billing': 1, 'technical': 0\)"
    ):
        train.require_every_class()


def test_a_complete_set_passes() -> None:
    """Every class has its examples, up to the number asked for."""
    TICKETS.examples(ROWS).require_every_class()
    with pytest.raises(EmptyClass, match="fewer than 2 examples of 'technical'"):
        TICKETS.examples(ROWS).require_every_class(2)


def test_an_empty_data_set_is_a_value_too() -> None:
    """It has no rows, and no class has any."""
    empty = TICKETS.examples([])

    assert (0, (0, 0), (0,)) == (len(empty), empty.class_counts, empty.labels.shape)
    with pytest.raises(EmptyClass, match="'billing', 'technical'"):
        empty.require_every_class()


@pytest.mark.parametrize("example", [Example(("one", "two"), 0), Example(("one",), 2), Example(("one",), -1)])
def test_examples_of_another_task_are_refused(example: Example) -> None:
    """The number of fields and the label fit the task."""
    with pytest.raises(TaskError, match="example 1 has"):
        Dataset(TICKETS, (Example(("fine",), 0), example))
