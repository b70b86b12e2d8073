"""The manual prompt as a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_cases import DEV, TASK, TEST, TRAIN, mock

from lmaas_sdk import (
    Budget,
    BudgetTooSmall,
    MemoryLedger,
    Predictor,
    RetryPolicy,
    Task,
    TaskError,
    open_ledger,
)
from lmaas_sdk.methods import ManualPredictor, ManualPrompt
from lmaas_sdk.methods.calibration import calibrated, log_prior

TEXTS = ["a lovely thing", "an awful thing", ""]


async def test_fitting_sends_nothing() -> None:
    """There is nothing to find out: not even tokens are counted."""
    backend = mock()
    predictor = await ManualPrompt(backend, budget=Budget(calls=0)).fit(TRAIN, DEV)
    assert (backend.book.attempts, predictor.spend.total.calls) == (0, 0)


@pytest.mark.parametrize("purpose", ["bogus", ["test"], None])
async def test_an_unknown_purpose_is_refused(purpose: Any) -> None:
    """Nothing is sent, and nothing is booked under it."""
    backend = mock()
    for predictor in (await ManualPrompt(backend).fit(TRAIN), Predictor.manual(backend, TASK)):
        with pytest.raises(ValueError, match="purpose is one of train, dev, test, predict, features, probe, not"):
            await predictor.evaluate(TEST, purpose=purpose)
    assert backend.book.attempts == 0


async def test_it_predicts_as_the_template_alone_does() -> None:
    """The same logits, labels and evaluation as `Predictor.manual`."""
    predictor, plain = await ManualPrompt(mock()).fit(TRAIN), Predictor.manual(mock(), TASK)
    assert (await predictor.logits(TEXTS)).tobytes() == (await plain.logits(TEXTS)).tobytes()
    assert await predictor.predict(TEXTS) == await plain.predict(TEXTS)
    assert await predictor.evaluate(TEST) == await plain.evaluate(TEST)
    assert (await predictor.logits([])).shape == (0, 2)


async def test_calibrated_the_mean_prediction_on_the_texts_is_divided_by() -> None:
    """The logits are those of the template, calibrated by its own mean over the training texts."""
    predictor = await ManualPrompt(mock(), calibration="prior").fit(TRAIN)
    plain = Predictor.manual(mock(), TASK)
    prior = log_prior(await plain.logits(TRAIN.fields))
    assert predictor.prior is not None
    np.testing.assert_array_equal(prior, predictor.prior)
    found = await predictor.logits(TEXTS)
    np.testing.assert_array_equal(calibrated(await plain.logits(TEXTS), prior), found)
    assert found.dtype == np.float32


async def test_calibration_takes_away_what_the_model_likes_by_itself() -> None:
    """Of a model that says the same to most texts, half the training texts are then predicted as either class."""
    predictor = await ManualPrompt(mock(), calibration="prior").fit(TRAIN)
    plain = await Predictor.manual(mock(), TASK).predict(TRAIN.fields)
    balanced = await predictor.predict(TRAIN.fields)
    assert abs(balanced.count("positive") - 8) <= abs(plain.count("positive") - 8)


async def test_no_label_is_looked_at() -> None:
    """The same texts under other labels give the same predictor."""
    swapped = TASK.examples([(example.fields, 1 - example.label) for example in TRAIN])
    one, other = [await ManualPrompt(mock(), calibration="prior").fit(train) for train in (TRAIN, swapped)]
    assert one.saved().to_bytes() == other.saved().to_bytes()


async def test_texts_of_ones_own_may_be_calibrated_on() -> None:
    """In the place of the training texts."""
    predictor = await ManualPrompt(mock(), calibration="prior").fit(TRAIN, unlabelled=TEXTS)
    assert predictor.prior is not None
    np.testing.assert_array_equal(log_prior(await Predictor.manual(mock(), TASK).logits(TEXTS)), predictor.prior)


async def test_calibration_is_booked_as_a_probe_and_predictions_by_what_they_are_for() -> None:
    """No evaluation is counted; what the backend billed is what was booked."""
    backend, budget = mock(), Budget(calls=20)
    predictor = await ManualPrompt(backend, budget=budget, calibration="prior").fit(TRAIN)
    assert {"probe": 1} == {purpose: amounts.calls for purpose, amounts in predictor.spend.by_purpose.items()}
    await predictor.evaluate(DEV, purpose="dev")
    await predictor.evaluate(TEST)
    await predictor.predict(TEXTS)
    calls = {purpose: amounts.calls for purpose, amounts in predictor.spend.by_purpose.items()}
    assert calls == {"probe": 1, "dev": 1, "test": 1, "predict": 1}
    assert (predictor.spend.total.tokens, predictor.spend.total.evaluations) == (backend.book.tokens, 0)
    assert budget.posted.tokens == backend.book.tokens


async def test_a_budget_below_the_calibration_is_refused_before_anything_is_sent() -> None:
    """There is no calibrated predictor without it; the texts go out together or not at all."""
    backend = mock(max_texts=4)
    with pytest.raises(BudgetTooSmall, match="before the first call"):
        await ManualPrompt(backend, budget=Budget(calls=3), calibration="prior").fit(TRAIN)
    assert backend.book.attempts == 0
    await ManualPrompt(backend, budget=Budget(calls=4), calibration="prior").fit(TRAIN)
    assert backend.book.attempts == 4


async def test_what_was_spent_is_in_the_ledger_file(tmp_path: Path) -> None:
    """A budget of the same name that is opened later knows what calibration took."""
    backend, file = mock(), tmp_path / "spend.db"
    async with open_ledger(file) as ledger:
        budget = Budget(tokens=10_000, name="manual", ledger=ledger)
        await ManualPrompt(backend, budget=budget, calibration="prior").fit(TRAIN)
    async with open_ledger(file) as ledger:
        again = Budget(tokens=10_000, name="manual", ledger=ledger)
        await again.ready()
        assert again.posted.tokens == backend.book.tokens > 0


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"calibration": "contextual"}, ValueError, "'prior' or None, not 'contextual'"),
        ({"budget": 5}, TypeError, "budget is a Budget"),
        ({"retry": MemoryLedger}, TypeError, "retry is a RetryPolicy"),
        ({"quotas": "none-2021"}, ValueError, "none-2021"),
        ({"cache": "yes"}, TypeError, "cache is True, False"),
    ],
)
def test_options_are_checked_when_they_are_given(
    options: dict[str, object], error: type[Exception], named: str
) -> None:
    """Not when the first call is made."""
    with pytest.raises(error, match=named):
        ManualPrompt(mock(), **options)  # type: ignore[arg-type]


def test_what_is_no_backend_is_refused() -> None:
    """A backend that was not opened, say."""
    with pytest.raises(TypeError, match="backend is an open one"):
        ManualPrompt("roberta-tiny")  # type: ignore[arg-type]


async def test_data_are_checked() -> None:
    """A list is no data set, two sets are of one task, and a prior is taken from something."""
    other = Task("other", template="{text} <mask>", labels=["a", "b"], words=["x", "y"])
    method, calibrating = ManualPrompt(mock(), retry=RetryPolicy()), ManualPrompt(mock(), calibration="prior")
    with pytest.raises(TypeError, match="the train set is a Dataset"):
        await method.fit([("a", 0)])  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="the dev set is of task 'other'"):
        await method.fit(TRAIN, other.examples([("a", 0)]))
    with pytest.raises(TaskError, match="at least one text"):
        await calibrating.fit(TASK.examples([]))
    with pytest.raises(ValueError, match="there is none"):
        await method.fit(TRAIN, unlabelled=TEXTS)


async def test_a_set_that_is_empty_or_of_another_task_cannot_be_judged_on() -> None:
    """As with any predictor."""
    predictor = await ManualPrompt(mock()).fit(TRAIN)
    other = Task("other", template="{text} <mask>", labels=["a", "b"], words=["x", "y"])
    with pytest.raises(ValueError, match="no examples"):
        await predictor.evaluate(TASK.examples([]))
    with pytest.raises(TaskError, match="'other'"):
        await predictor.evaluate(other.examples([("a text", 0)]))


async def test_texts_that_lose_words_are_counted() -> None:
    """In the evaluation, and over all that was predicted."""
    predictor = await ManualPrompt(mock(max_tokens=20)).fit(TRAIN)
    long = TASK.examples([("thing " * 40, 0), ("a thing", 1)])
    assert (await predictor.evaluate(long)).shortened == 1
    await predictor.predict(["thing " * 40])
    assert predictor.shortened == 2
    assert isinstance(predictor, ManualPredictor)
