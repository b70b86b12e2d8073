"""What was chosen of several ways to ask, what else was tried, and what that took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.spend import Purpose, Spend
from lmaas_sdk.errors import BudgetExceeded, QuotaExceeded, TaskError
from lmaas_sdk.tasks import Dataset, Example, Task
from lmaas_sdk.tasks.template import Template
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.predictor import Evaluation
from lmaas_sdk.tuning.scheduler import Scheduler

__all__ = [
    "Ended",
    "PromptChoice",
    "Scores",
    "TriedPrompt",
    "asked_as",
    "asked_otherwise",
    "ended_by",
    "labelled_sets",
    "ranked",
    "read_templates",
    "scored",
    "worst_of",
]

Ended = Literal["done", "budget", "quota"]


@dataclass(frozen=True, slots=True)
class TriedPrompt:
    """One way to ask, and how well the labelled examples were answered.

    Args:
        task: With its template and label words.
        train: On the training set.
        dev: On the development set; None: there is none, or it was not paid for.
    """

    task: Task
    train: Evaluation
    dev: Evaluation | None = None

    @property
    def cross_entropy(self) -> float:
        """The mean over all labelled examples, of train and dev."""
        found = [self.train] if self.dev is None else [self.train, self.dev]
        return sum(one.cross_entropy * one.n_texts for one in found) / sum(one.n_texts for one in found)

    def to_dict(self) -> dict[str, object]:
        """A row of a table, for JSON."""
        row = {"template": self.task.template.text, "words": list(self.task.words)}
        found = {"train": self.train, "dev": self.dev}
        scores = {
            name: None if one is None else {one.metric: one.value, "cross_entropy": one.cross_entropy}
            for name, one in found.items()
        }
        return row | scores | {"cross_entropy": self.cross_entropy}


@dataclass(frozen=True, eq=False)
class PromptChoice:
    """The best of several ways to ask.

    Args:
        tried: What was tried, the best first.
        spend: What it took, by purpose.
        stopped: "done": all was tried; "budget", "quota": it ended before.
    """

    tried: tuple[TriedPrompt, ...]
    spend: Spend = field(repr=False)
    stopped: Ended = "done"

    @property
    def task(self) -> Task:
        """The task as it is best asked; data sets for it are made by `asked`."""
        return self.tried[0].task

    def asked(self, dataset: Dataset) -> Dataset:
        """The same examples, asked that way: what every method takes.

        Raises:
            TaskError: They are of a task with other labels or fields.
        """
        return asked_as(self.task, dataset)

    def to_dict(self) -> dict[str, object]:
        """All of it as plain values for JSON."""
        return {
            "task": self.task.to_wire(),
            "tried": [one.to_dict() for one in self.tried],
            "stopped": self.stopped,
            "spend": self.spend.to_dict(),
        }


def asked_as(task: Task, dataset: Dataset) -> Dataset:
    """The examples of a data set under a task with another template or other words.

    Raises:
        TaskError: The task has other labels, or its template other fields.
    """
    before = dataset.task
    if task == before:
        return dataset
    if task.labels != before.labels:
        raise TaskError(f"the labels of {task.name!r} are {list(task.labels)}, those of the data {list(before.labels)}")
    names, wanted = before.template.fields, task.template.fields
    if set(names) != set(wanted):
        raise TaskError(
            f"{task.template.text!r} has the fields {list(wanted)}, the data {list(names)}: a template asks of the "
            "same fields"
        )
    places = [names.index(name) for name in wanted]
    moved = (Example(tuple(row.fields[place] for place in places), row.label) for row in dataset)
    return Dataset(task, tuple(moved), dataset.name)


def labelled_sets(train: Dataset, dev: Dataset | None) -> dict[Purpose, Dataset]:
    """The sets to judge on, by what they are for.

    Raises:
        EmptyClass: A class has no training example.
        TaskError: The dev set is empty.
    """
    train.require_every_class()
    if dev is None:
        return {"train": train}
    if not len(dev):
        raise TaskError("the dev set has no examples: leave it out, or read it again")
    return {"train": train, "dev": dev}


def read_templates(templates: Sequence[str | Template]) -> tuple[Template, ...]:
    """Templates that are given as such or as text.

    Raises:
        TaskError: One is unusable, or a single one is given for the list.
    """
    if isinstance(templates, (str, Template)):
        raise TaskError(f"templates are a list of templates, not the single {str(templates)!r:.80}")
    return tuple(one if isinstance(one, Template) else Template(one) for one in templates)


def ranked(tried: Iterable[TriedPrompt]) -> tuple[TriedPrompt, ...]:
    """The lowest cross entropy first; of equal ones that which was tried earlier."""
    return tuple(sorted(tried, key=lambda one: one.cross_entropy))


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the manual prompt says of some texts: (n_texts, n_words) float32, and how many of them lost words."""

    logits: NDArray[np.float32]
    shortened: int


async def scored(scheduler: Scheduler, sets: Mapping[Purpose, TextSet], *, label: object) -> dict[Purpose, Scores]:
    """Scores several sets, each for its purpose.

    Raises:
        BudgetExceeded: They do not fit together; nothing was sent.
    """
    ready = {purpose: await scheduler.prepare(texts, None, precise=True) for purpose, texts in sets.items()}
    scheduler.client.budget.check(worst_of(scheduler.worst(texts, 1, purpose) for purpose, texts in ready.items()))
    found = {}
    for purpose, texts in ready.items():
        logits = await scheduler.score(texts, None, purpose, label=label)
        found[purpose] = Scores(logits[0], texts.shortened)
    return found


def worst_of(parts: Iterable[Amounts]) -> Amounts:
    """What all of it takes together at most."""
    return sum(parts, Amounts())


def ended_by(end: BudgetExceeded | QuotaExceeded) -> Ended:
    """Why no more was tried."""
    return "budget" if isinstance(end, BudgetExceeded) else "quota"


def asked_otherwise(task: Task, *, template: Template | None = None, words: Sequence[str] | None = None) -> Task:
    """The task with another template, or with other label words, each of one token."""
    spoken = task.verbalizer
    return Task(
        task.name,
        template=template or task.template,
        labels=task.labels,
        words=words or task.words,
        metric=task.metric,
        leading_space=spoken.leading_space,
        pieces=spoken.pieces if words is None else "whole",
        source=task.source,
    )
