"""Choosing a template, and what a choice is."""

from __future__ import annotations

import json

import pytest
from tuning_cases import DEV, SMALL, TASK, TRAIN, mock

from lmaas_sdk import Budget, BudgetTooSmall, EmptyClass, Limits, Predictor, RetryPolicy, Task, TaskError, Template
from lmaas_sdk.methods import BlackBoxTuning, InContextLearning, ManualPrompt, asked_as, choose_template
from lmaas_sdk.tasks import candidate_templates

TEMPLATES = ["<mask> : {text}", Template("{text} Really <mask> ."), TASK.template]
PAIR = Task("pair", template="{one} ? <mask> , {two}", labels=["no", "yes"], words=["No", "Yes"])
PAIRS = PAIR.examples([(("a", "b"), 0), (("c", "d"), 1)])


async def test_the_lowest_cross_entropy_over_train_and_dev_wins() -> None:
    """As the manual prompt has it under each template, the task's own included."""
    choice = await choose_template(mock(), TRAIN, DEV, templates=TEMPLATES)
    found = {}
    for text in ("{text} It was <mask> .", "<mask> : {text}", "{text} Really <mask> ."):
        task = Task.from_wire(TASK.to_wire() | {"template": text})
        predictor = Predictor.manual(mock(), task)
        train, dev = [await predictor.evaluate(asked_as(task, data)) for data in (TRAIN, DEV)]
        assert [(one.train, one.dev) for one in choice.tried if one.task == task] == [(train, dev)]
        found[text] = (train.cross_entropy * len(TRAIN) + dev.cross_entropy * len(DEV)) / (len(TRAIN) + len(DEV))
    assert [one.task.template.text for one in choice.tried] == sorted(found, key=lambda text: found[text])
    assert [one.cross_entropy for one in choice.tried] == pytest.approx(sorted(found.values()))
    assert choice.task == choice.tried[0].task
    assert choice.stopped == "done"


async def test_each_template_is_an_evaluation() -> None:
    """Dev counts none; what was booked is what the backend billed."""
    backend, budget = mock(), Budget(calls=6)
    choice = await choose_template(backend, TRAIN, DEV, templates=TEMPLATES, budget=budget)
    calls = {purpose: (amounts.calls, amounts.evaluations) for purpose, amounts in choice.spend.by_purpose.items()}
    assert calls == {"train": (3, 3), "dev": (3, 0)}
    assert choice.spend.total.tokens == budget.posted.tokens == backend.book.tokens


async def test_without_any_the_kinds_of_the_task_are_tried() -> None:
    """And dev may be left out."""
    choice = await choose_template(mock(), TRAIN)
    assert {one.task.template for one in choice.tried} == set(candidate_templates(TASK))
    assert {one.dev for one in choice.tried} == {None}
    assert set(choice.spend.by_purpose) == {"train"}


async def test_a_budget_that_ends_leaves_the_best_so_far() -> None:
    """The own template is tried first; one whose dev is not paid for is not begun."""
    backend = mock()
    choice = await choose_template(backend, TRAIN, DEV, templates=TEMPLATES, budget=Budget(calls=5))
    assert ([one.task.template for one in choice.tried].count(TASK.template), len(choice.tried)) == (1, 2)
    assert (choice.stopped, backend.book.attempts) == ("budget", 4)


async def test_a_quota_that_ends_leaves_the_best_so_far() -> None:
    """Whoever has no patience takes what there is."""
    backend = mock(limits=Limits(requests_per_day=4))
    choice = await choose_template(backend, TRAIN, DEV, templates=TEMPLATES, retry=RetryPolicy(max_wait_s=1.0))
    assert (choice.stopped, len(choice.tried), backend.book.attempts) == ("quota", 2, 4)


async def test_a_budget_below_one_template_is_refused() -> None:
    """Nothing is sent."""
    backend = mock()
    with pytest.raises(BudgetTooSmall, match="before the first call"):
        await choose_template(backend, TRAIN, DEV, budget=Budget(calls=1))
    assert backend.book.attempts == 0


async def test_every_method_takes_what_was_chosen() -> None:
    """As the task of its data."""
    choice = await choose_template(mock(), TRAIN, DEV, templates=TEMPLATES)
    train, dev = choice.asked(TRAIN), choice.asked(DEV)
    methods = [ManualPrompt(mock()), InContextLearning(mock(), shots=2)]
    for method in [*methods, BlackBoxTuning(mock(), budget=Budget(evaluations=8), preset=SMALL)]:
        predictor = await method.fit(train, dev)
        assert predictor.task == choice.task
        assert len(await predictor.predict(TRAIN.fields)) == len(TRAIN)


async def test_a_choice_is_told_in_plain_values() -> None:
    """With what was tried, its scores and the spend."""
    choice = await choose_template(mock(), TRAIN, DEV, templates=TEMPLATES)
    told = json.loads(json.dumps(choice.to_dict()))
    assert Task.from_wire(told["task"]) == choice.task
    assert [row["cross_entropy"] for row in told["tried"]] == [one.cross_entropy for one in choice.tried]
    assert told["spend"]["train"]["evaluations"] == 3
    assert told["tried"][0]["dev"]["accuracy"] == choice.tried[0].dev.value if choice.tried[0].dev else False


def test_fields_go_by_their_names() -> None:
    """A template may ask of them in another order."""
    turned = Task.from_wire(PAIR.to_wire() | {"template": "{two} ? <mask> , {one}"})
    asked = asked_as(turned, PAIRS)
    assert [example.fields for example in asked] == [("b", "a"), ("d", "c")]
    assert asked_as(PAIR, asked) == PAIRS
    assert asked_as(PAIR, PAIRS) is PAIRS


async def test_what_cannot_be_asked_is_refused_before_anything_is_sent() -> None:
    """Other fields, other labels, a single template for the list, data of no use."""
    backend = mock()
    with pytest.raises(TaskError, match="asks of the same fields"):
        await choose_template(backend, TRAIN, templates=["{other} <mask>"])
    with pytest.raises(TaskError, match="exactly one <mask>"):
        await choose_template(backend, TRAIN, templates=["{text}"])
    with pytest.raises(TaskError, match="not the single"):
        await choose_template(backend, TRAIN, templates="{text} <mask>")
    with pytest.raises(EmptyClass):
        await choose_template(backend, TASK.examples([("a", 0)]))
    with pytest.raises(TaskError, match="the dev set has no examples"):
        await choose_template(backend, TRAIN, TASK.examples([]))
    with pytest.raises(TaskError, match="the labels of 'pair'"):
        asked_as(PAIR, TRAIN)
    assert backend.book.attempts == 0
