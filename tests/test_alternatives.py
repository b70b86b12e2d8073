"""Templates to choose from."""

from __future__ import annotations

import pytest

from lmaas_sdk import Task, TaskError
from lmaas_sdk.tasks import TASKS, candidate_templates


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_own_template_comes_first_and_none_twice(task: Task) -> None:
    """Each catalogue task has several, over the same fields."""
    templates = candidate_templates(task)
    assert templates[0] == task.template
    assert len(set(templates)) == len(templates) >= 5
    assert {frozenset(template.fields) for template in templates} == {frozenset(task.template.fields)}


def test_fields_keep_their_names() -> None:
    """Whatever they are called, a name that is another's place included."""
    pair = Task("pair", template="{S2} then {S1} <mask>", labels=["a", "b"], words=["No", "Yes"])
    assert "{S2} ? <mask> , {S1}" in [template.text for template in candidate_templates(pair)]
    assert all(template.fields in (("S2", "S1"), ("S1", "S2")) for template in candidate_templates(pair))


def test_a_task_of_ones_own_has_those_of_every_kind_with_as_many_fields() -> None:
    """Unless its kind is told."""
    task = Task("things", template="{text} is <mask>", labels=["a", "b"], words=["bad", "great"])
    every, some = candidate_templates(task), candidate_templates(task, "topic")
    assert set(some) < set(every)
    assert "<mask> News: {text}" in [template.text for template in some]


def test_what_fits_no_kind_is_refused() -> None:
    """With what to do."""
    three = Task("three", template="{a} {b} {c} <mask>", labels=["x", "y"], words=["bad", "great"])
    with pytest.raises(TaskError, match="no template of any kind takes the 3 fields"):
        candidate_templates(three)
    with pytest.raises(TaskError, match="the kind 'opinion' takes the 3 fields"):
        candidate_templates(three, "opinion")
    with pytest.raises(TaskError, match="one of opinion, topic, question, pair, not 'mood'"):
        candidate_templates(three, "mood")  # type: ignore[arg-type]
