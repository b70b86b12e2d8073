"""Tasks and data sets: what is asked of a model, and examples of the answer."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import digest
from lmaas_sdk.errors import EmptyClass, TaskError
from lmaas_sdk.tasks.metrics import get_metric
from lmaas_sdk.tasks.source import Source
from lmaas_sdk.tasks.template import Fields, Template
from lmaas_sdk.tasks.verbalizer import Verbalizer, words_by_class
from lmaas_sdk.texts import PieceRule, Text, TextSet

__all__ = ["Dataset", "Example", "Task", "check_are_texts"]


@dataclass(frozen=True, slots=True, init=False)
class Task:
    """A classification task as a cloze question.

    Args:
        name: For people and files.
        template: Where the text and the mask stand.
        labels: Names of the classes, by index.
        words: The word at the mask for each class, by index or as a mapping from label to word.
        metric: Name of a metric (see `register_metric`).
        leading_space, pieces: As in `Verbalizer`.
        source: How the task's data usually lie on disk.

    Raises:
        TaskError: The labels are no list, one is empty or given twice, there are fewer than two, or the template,
            metric or source is unusable.
        VerbalizerError: A label has no word, or the words are unusable.
    """

    name: str
    template: Template
    labels: tuple[str, ...]
    verbalizer: Verbalizer
    metric: str
    source: Source

    def __init__(  # noqa: PLR0913  # a task is described in one place; all but the name are by keyword
        self,
        name: str,
        *,
        template: str | Template,
        labels: Sequence[str],
        words: Mapping[str, str] | Sequence[str],
        metric: str = "accuracy",
        leading_space: bool = True,
        pieces: PieceRule = "whole",
        source: Source | None = None,
    ) -> None:
        get_metric(metric)
        values = {
            "name": _checked_name(name),
            "template": template if isinstance(template, Template) else Template(template),
            "labels": _checked_labels(labels),
            "verbalizer": Verbalizer(words_by_class(labels, words), leading_space, pieces),
            "metric": metric,
            "source": _checked_source(source),
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    @property
    def words(self) -> tuple[str, ...]:
        """The label words by class index, as written (without a leading space)."""
        return self.verbalizer.words

    def label_index(self, label: str | SupportsIndex) -> int:
        """The class index of a label given by its name, its index or the index in decimal ("1").

        Where the names themselves are numbers, a number is always a name.

        Raises:
            TaskError: The task has no such label; the message lists what it has.
        """
        text = label.strip() if isinstance(label, str) else _index_text(label)
        if text in self.labels:
            return self.labels.index(text)
        indices = [str(index) for index in range(len(self.labels))]
        if text in indices and not any(name.isdecimal() for name in self.labels):
            return int(text)
        known = ", ".join(f"{index} {name!r}" for index, name in enumerate(self.labels))
        raise TaskError(f"task {self.name!r} has no label {label!r:.80}: its labels are {known}")

    def examples(self, pairs: Iterable[tuple[Fields, str | SupportsIndex]], name: str = "") -> Dataset:
        """A data set from (text, label) pairs; with several fields the text is a tuple or a mapping of them.

        Raises:
            TaskError: An item is no such pair; the message gives its position.
        """
        return Dataset(self, tuple(self._example(position, pair) for position, pair in enumerate(pairs)), name)

    def texts(self, items: Iterable[Fields]) -> tuple[Text, ...]:
        """Texts to predict, without labels.

        Raises:
            TaskError: An item does not fill the template, or a single string, a mapping or a set was given for the
                list.
        """
        check_are_texts(items)
        return tuple(self.template.render(item) for item in items)

    def text_set(self, items: Iterable[Fields]) -> TextSet:
        """The same with the label words: what a backend scores. Raises as `texts`."""
        return TextSet(self.texts(items), self.verbalizer.label_words)

    def to_wire(self) -> dict[str, object]:
        return self._question() | {"source": self.source.to_wire()}

    @classmethod
    def from_wire(cls, value: object) -> Task:
        """Reads what `to_wire` wrote.

        Raises:
            TaskError: It is of another form or its parts are unusable.
        """
        match value:
            case {
                "name": str(name),
                "template": str(template),
                "labels": list(labels),
                "verbalizer": verbalizer,
                "metric": str(metric),
                "source": source,
                **rest,
            } if not rest:
                spoken = Verbalizer.from_wire(verbalizer)
                return cls(
                    name,
                    template=template,
                    labels=labels,
                    words=spoken.words,
                    metric=metric,
                    leading_space=spoken.leading_space,
                    pieces=spoken.pieces,
                    source=Source.from_wire(source),
                )
        raise TaskError(f"a task has name, template, labels, verbalizer, metric and source, not {value!r:.120}")

    def _question(self) -> dict[str, object]:
        """All that decides a score, in JSON: without where the data lie."""
        return {
            "name": self.name,
            "template": self.template.text,
            "labels": list(self.labels),
            "verbalizer": self.verbalizer.to_wire(),
            "metric": self.metric,
        }

    def _example(self, position: int, pair: object) -> Example:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise TaskError(f"example {position} is not (text, label) but {pair!r:.80}: put several fields in a tuple")
        try:
            return Example(self.template.arrange(pair[0]), self.label_index(pair[1]))
        except TaskError as error:
            raise TaskError(f"example {position}: {error}") from error


@dataclass(frozen=True, slots=True)
class Example:
    """A text and its class: `fields` in the order of the template's fields, `label` a class index."""

    fields: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Dataset:
    """Labelled examples of a task.

    Args:
        task: What is asked.
        examples: The rows, in order.
        name: Where they came from, for people; it is no part of the digest.

    Raises:
        TaskError: A row does not fill the task's template, or its label is out of range.
    """

    task: Task
    examples: tuple[Example, ...] = field(repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        n_fields, n_labels = len(self.task.template.fields), len(self.task.labels)
        for row, example in enumerate(self.examples):
            if len(example.fields) != n_fields or not 0 <= example.label < n_labels:
                raise TaskError(
                    f"example {row} has {len(example.fields)} fields and label {example.label}, where task "
                    f"{self.task.name!r} has {n_fields} fields and labels 0 .. {n_labels - 1}"
                )

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    @property
    def fields(self) -> tuple[tuple[str, ...], ...]:
        """The texts of all rows, each in the order of the template's fields."""
        return tuple(example.fields for example in self.examples)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(n,) int64 class indices, read-only."""
        labels = np.array([example.label for example in self.examples], dtype=np.int64)
        labels.flags.writeable = False
        return labels

    @property
    def class_counts(self) -> tuple[int, ...]:
        """How many rows each class has, by class index."""
        return tuple(np.bincount(self.labels, minlength=len(self.task.labels)).tolist())

    @cached_property
    def text_set(self) -> TextSet:
        """The rendered texts with the label words: what a backend scores. The labels are not in it."""
        return self.task.text_set(self.fields)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over task, texts and labels, in hex; where the data lie is no part of it."""
        return digest({"task": self.task._question(), "fields": self.fields, "labels": self.labels.tolist()})

    def subset(self, indices: Iterable[SupportsIndex], name: str | None = None) -> Dataset:
        """The rows of those indices, in their order; `name` None keeps the name.

        Raises:
            TaskError: An index is not in 0 .. n-1.
        """
        rows = [operator.index(index) for index in indices]
        if outside := [row for row in rows if not 0 <= row < len(self)]:
            raise TaskError(f"rows {outside[:5]} are not in 0 .. {len(self) - 1}")
        return Dataset(self.task, tuple(self.examples[row] for row in rows), self.name if name is None else name)

    def require_every_class(self, at_least: int = 1) -> None:
        """Refuses a set in which a class has fewer than `at_least` rows.

        Raises:
            EmptyClass: The message gives the classes that lack rows, and the count of each class.
        """
        counts = dict(zip(self.task.labels, self.class_counts, strict=True))
        if lacking := [label for label, count in counts.items() if count < at_least]:
            listed = ", ".join(f"{label!r}: {count}" for label, count in counts.items())
            raise EmptyClass(
                f"data set {self.name or self.task.name!r} has fewer than {at_least} examples of "
                f"{', '.join(map(repr, lacking))} ({listed}): add some or leave the class out of the task"
            )


def check_are_texts(items: object) -> None:
    """Refuses what holds characters or has no order, where a list of texts is meant.

    Raises:
        TaskError: It is a single string, bytes, a mapping or a set, or nothing to go through.
    """
    if isinstance(items, str):
        raise TaskError(f"texts takes a list of texts, not one string: write [{items!r:.40}]")
    # the order of a set or a mapping would not be that of the answers
    if not isinstance(items, Iterable) or isinstance(items, (bytes, Mapping, Set)):
        raise TaskError(f"texts takes a list of texts, not a {type(items).__name__}: {items!r:.80}")


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise TaskError(f"a task's name is a string that is not empty, not {name!r:.80}")
    return name


def _checked_source(source: object) -> Source:
    if source is not None and not isinstance(source, Source):
        raise TaskError(f"source is a Source such as Source(names=('SST-2',)), not {source!r:.80}")
    return source or Source()


def _checked_labels(labels: object) -> tuple[str, ...]:
    # a set or a mapping has no order that names a class by its index; a set's even differs from run to run
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):
        raise TaskError(f"labels are a list of class names, not {labels!r:.80} of {type(labels).__name__}")
    if len(labels) < 2:
        raise TaskError(f"labels are the names of at least two classes, not {labels!r:.80}")
    for label in labels:
        if not _is_label(label):
            raise TaskError(f"a label is a name without spaces around it, not {label!r:.80}")
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise TaskError(f"labels are given twice: {', '.join(map(repr, repeated))}")
    return tuple(labels)


def _is_label(value: object) -> bool:
    return isinstance(value, str) and value != "" and value == value.strip()


def _index_text(label: SupportsIndex) -> str:
    try:
        return str(operator.index(label))
    except TypeError as error:
        raise TaskError(f"a label is a name or a class index, not {label!r:.80} of {type(label).__name__}") from error
