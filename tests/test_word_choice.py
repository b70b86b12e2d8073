"""Choosing label words from what the model would say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tuning_cases import DEV, TASK, TRAIN, mock

from lmaas_backends.mock.model import TOP_WORDS
from lmaas_sdk import Budget, BudgetTooSmall, Predictor, Task, Unsupported, Verbalizer
from lmaas_sdk.methods import ManualPrompt, asked_as, choose_words
from lmaas_sdk.methods.word_choice import _sound


async def test_the_lowest_cross_entropy_over_train_and_dev_wins() -> None:
    """As the manual prompt has it with these words, to the last bit; the task's own were compared, too."""
    choice = await choose_words(mock(), TRAIN, DEV)
    for one in (choice.tried[0], choice.tried[5]):
        predictor = Predictor.manual(mock(), one.task)
        assert one.train == await predictor.evaluate(asked_as(one.task, TRAIN))
        assert one.dev == await predictor.evaluate(asked_as(one.task, DEV))
    own = next(one for one in choice.tried if one.task == TASK)
    assert choice.tried[0].cross_entropy < own.cross_entropy
    losses = [one.cross_entropy for one in choice.tried]
    assert losses == sorted(losses)


async def test_words_are_the_models_own_and_differ() -> None:
    """One token each, with the leading space of the task's own."""
    choice = await choose_words(mock(), TRAIN, DEV)
    for one in choice.tried:
        assert len(set(one.task.words)) == 2
        assert {f" {word}" for word in one.task.words} <= {*TOP_WORDS, " bad", " great"}
        assert one.task.verbalizer.pieces == "whole"


async def test_two_evaluations_pay_for_all_combinations() -> None:
    """And one call on dev; what was booked is what the backend billed."""
    backend, budget = mock(), Budget(calls=3, evaluations=2)
    choice = await choose_words(backend, TRAIN, DEV, budget=budget)
    calls = {purpose: (amounts.calls, amounts.evaluations) for purpose, amounts in choice.spend.by_purpose.items()}
    assert calls == {"train": (2, 2), "dev": (1, 0)}
    assert choice.spend.total.tokens == budget.posted.tokens == backend.book.tokens
    assert choice.stopped == "done"


async def test_texts_beyond_one_call_go_out_in_several() -> None:
    """And give the same words; together they are the same two evaluations."""
    choice = await choose_words(mock(max_texts=5), TRAIN, DEV)
    whole = await choose_words(mock(), TRAIN, DEV)
    assert choice.to_dict()["tried"] == whole.to_dict()["tried"]
    assert choice.spend.by_purpose["train"].evaluations == 2
    assert choice.spend.by_purpose["train"].calls == 8


async def test_words_beyond_one_answer_come_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are the same; the budget is asked for all of these calls beforehand."""
    whole = await choose_words(mock(), TRAIN, DEV)
    vocabulary = mock().card.vocab_size
    monkeypatch.setattr("lmaas_sdk.methods.word_choice._MOST_WORDS", 5 * min(200, vocabulary))
    backend = mock()
    choice = await choose_words(backend, TRAIN, DEV)
    assert choice.to_dict()["tried"] == whole.to_dict()["tried"]
    spent = choice.spend.by_purpose["train"]
    assert (spent.calls, spent.evaluations) == (5, 2)
    assert choice.spend.total.tokens == backend.book.tokens
    backend = mock()
    with pytest.raises(BudgetTooSmall):
        await choose_words(backend, TRAIN, budget=Budget(calls=4))
    assert backend.book.attempts == 0


async def test_a_budget_that_ends_before_dev_leaves_the_best_by_train() -> None:
    """Which says so."""
    choice = await choose_words(mock(), TRAIN, DEV, budget=Budget(calls=2))
    assert choice.stopped == "budget"
    assert choice.to_dict()["tried"] == (await choose_words(mock(), TRAIN)).to_dict()["tried"]


@pytest.mark.parametrize("budget", [{"evaluations": 1}, {"calls": 1}, {"tokens": 300}])
async def test_a_budget_below_the_two_evaluations_is_refused(budget: dict[str, int]) -> None:
    """Nothing is sent: words that cannot be scored are of no use."""
    backend = mock()
    with pytest.raises(BudgetTooSmall, match="before the first call"):
        await choose_words(backend, TRAIN, DEV, budget=Budget(**budget))
    assert backend.book.attempts == 0


async def test_a_backend_that_tells_no_words_is_refused() -> None:
    """Before anything is sent."""
    backend = mock()
    can = replace(backend.card.capabilities, top_k=False)
    with pytest.raises(Unsupported, match=r"words at the mask \(top_k\): give words yourself"):
        await choose_words(mock(capabilities=can), TRAIN)
    with pytest.raises(ValueError, match="top_k is a whole number of at least 2, not 1"):
        await choose_words(backend, TRAIN, top_k=1)
    assert backend.book.attempts == 0


async def test_a_predictor_with_the_words_predicts_with_them() -> None:
    """Every method takes the task that was chosen."""
    choice = await choose_words(mock(), TRAIN, DEV)
    predictor = await ManualPrompt(mock()).fit(choice.asked(TRAIN))
    assert await predictor.evaluate(choice.asked(TRAIN)) == choice.tried[0].train


async def test_words_without_a_space_stay_without() -> None:
    """Where the task's own have none, and none the model tells either, its own words remain."""
    task = Task("things", template="{text} is <mask>", labels=TASK.labels, words=["bad", "great"], leading_space=False)
    choice = await choose_words(mock(), asked_as(task, TRAIN))
    assert {one.task.words for one in choice.tried} == {("bad", "great"), ("great", "bad")}


async def test_own_words_of_several_tokens_give_way() -> None:
    """What is chosen is one token each, so `first` and `mean` are needed no more."""
    task = Task("things", template="{text} <mask>", labels=TASK.labels, words=["so so", "great"], pieces="first")
    choice = await choose_words(mock(), asked_as(task, TRAIN))
    assert "so so" not in [word for one in choice.tried for word in one.task.words]
    assert choice.task.verbalizer == Verbalizer(choice.task.words)


async def test_words_that_a_model_cannot_tell_apart_are_left_out() -> None:
    """Those that are one token, each but the first, and those that are several."""
    client = (await ManualPrompt(mock()).fit(TRAIN)).client
    text = TASK.texts(["a thing"])[0]
    words = [" bad", " great", " so so", " Bad", " fine", " GREAT"]
    assert await _sound(client, text, words) == [" bad", " great", " fine"]
    assert await _sound(client, text, [" so so"]) == []
