"""Templates to choose from, where a task's own may not be the best: a few by hand for each kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from lmaas_sdk.errors import TaskError
from lmaas_sdk.tasks.dataset import Task
from lmaas_sdk.tasks.template import Template

__all__ = ["TaskKind", "candidate_templates"]

TaskKind = Literal["opinion", "topic", "question", "pair"]
"""What is asked of a text: whether it likes something, what it is about, what it asks for; or how two texts agree."""

_PATTERNS: Mapping[TaskKind, tuple[str, ...]] = {
    "opinion": (
        "{S} . It was <mask> .",
        "{S} . It is <mask> .",
        "{S} . I found it <mask> .",
        "{S} . What a <mask> thing .",
        "{S} . A <mask> one .",
        "{S} . In short , <mask> .",
        "{S} . They were <mask> .",
        "It was <mask> . {S}",
        "<mask> : {S}",
    ),
    "topic": (
        "<mask> : {S}",
        "<mask> News: {S}",
        "[ Category: <mask> ] {S}",
        "{S} . This is about <mask> .",
        "Read more in the <mask> section : {S}",
        "{S} ( <mask> )",
        "{S} . Filed under <mask> .",
    ),
    "question": (
        "<mask> : {S}",
        "[ <mask> ] {S}",
        "Tell me the <mask> . {S}",
        "{S} The answer is a <mask> .",
        "{S} ( <mask> )",
        "{S} He asked about the <mask> .",
    ),
    "pair": (
        "{S1} ? <mask> , {S2}",
        "{S1} . <mask> , {S2}",
        "{S1} ? <mask> . {S2}",
        "{S1} . <mask> ! {S2}",
        "{S1} . So {S2} ? <mask> .",
        "{S2} ? <mask> , {S1}",
        "{S1} , and <mask> {S2}",
    ),
}
_KINDS: Mapping[str, TaskKind] = {
    **dict.fromkeys(("sst2", "yelp", "mr"), "opinion"),
    **dict.fromkeys(("agnews", "dbpedia"), "topic"),
    **dict.fromkeys(("mrpc", "rte", "snli"), "pair"),
    "trec": "question",
}
_PLACES = ("S1", "S2")


def candidate_templates(task: Task, kind: TaskKind | None = None) -> tuple[Template, ...]:
    """The task's own template, and others that ask the same of the same fields.

    Args:
        task: What is asked.
        kind: Of the task; None: as the catalogue has it, and of a task of one's own all that take as many fields.

    Raises:
        TaskError: There is no such kind, or none of its templates takes as many fields as the task has.
    """
    if kind is not None and kind not in get_args(TaskKind):
        raise TaskError(f"the kind of a task is one of {', '.join(get_args(TaskKind))}, not {kind!r:.80}")
    known = kind or _KINDS.get(task.name)
    fields = task.template.fields
    patterns = [text for one in get_args(TaskKind) if known in (None, one) for text in _PATTERNS[one]]
    fitting = [renamed for text in patterns if (renamed := _renamed(text, fields)) is not None]
    if not fitting:
        wanted = "any kind" if known is None else f"the kind {known!r}"
        raise TaskError(
            f"no template of {wanted} takes the {len(fields)} fields of {task.template.text!r}: give some of your own"
        )
    return tuple(dict.fromkeys((task.template, *fitting)))


def _renamed(text: str, fields: tuple[str, ...]) -> Template | None:
    """The template with the task's own names of its fields; None: it takes more or fewer."""
    places = _PLACES if "{S1}" in text else ("S",)
    if len(places) != len(fields):
        return None
    named = {place: f"{{{name}}}" for place, name in zip(places, fields, strict=True)}
    return Template(text.format_map(named))
