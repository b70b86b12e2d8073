"""Black-box tuning as one method among others."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from tuning_cases import DEV, SMALL, TASK, TEST, TRAIN, mock

from lmaas_sdk import Budget, BudgetTooSmall, Predictor, Tuner
from lmaas_sdk.methods import BlackBoxPredictor, BlackBoxTuning
from lmaas_sdk.methods.black_box import FitOptions, TunerOptions

TEXTS = ["a lovely thing", "an awful thing", ""]


async def test_it_is_the_tuner() -> None:
    """The same run to the byte, and a predictor with its prompt."""
    run = await Tuner(mock(), budget=Budget(evaluations=80), preset=SMALL, seed=3).fit(TRAIN, DEV)
    method = BlackBoxTuning(mock(), budget=Budget(evaluations=80), preset=SMALL, seed=3)
    predictor = await method.fit(TRAIN, DEV)
    assert predictor.result is not None
    assert predictor.result.core.to_bytes() == run.core.to_bytes()
    assert predictor.prompt.to_bytes() == run.prompt.to_bytes()
    assert (await predictor.logits(TEXTS)).tobytes() == (await run.predictor.logits(TEXTS)).tobytes()
    assert await predictor.evaluate(TEST) == await run.evaluate(TEST)


async def test_predictions_are_paid_from_the_budget_of_the_run() -> None:
    """And their spend is that of the run and since."""
    backend, budget = mock(), Budget(calls=200, evaluations=40)
    predictor = await BlackBoxTuning(backend, budget=budget, preset=SMALL).fit(TRAIN, DEV)
    assert predictor.spend.by_purpose["train"].evaluations == 40
    await predictor.predict(TEXTS)
    assert predictor.spend.by_purpose["predict"].calls == 1
    assert predictor.spend.total.tokens == backend.book.tokens == budget.posted.tokens


async def test_a_budget_below_a_generation_is_refused() -> None:
    """By the tuner, before anything is sent."""
    backend = mock()
    with pytest.raises(BudgetTooSmall):
        await BlackBoxTuning(backend, budget=Budget(evaluations=7), preset=SMALL).fit(TRAIN)
    assert backend.book.attempts == 0


async def test_what_fit_takes_is_passed_on(tmp_path: Path) -> None:
    """Events, a test set, a target; and a tuner that goes on with a journal is a method as well."""
    events: list[object] = []
    journal = tmp_path / "run.journal"
    method = BlackBoxTuning(mock(), budget=Budget(evaluations=40), preset=SMALL, journal=journal)
    predictor = await method.fit(TRAIN, DEV, test=TEST, compare_manual=True, on_event=events.append)
    assert events
    assert predictor.result is not None
    assert predictor.result.test is not None
    again = await BlackBoxTuning.of(Tuner.resume(journal, mock())).fit(TRAIN, DEV, test=TEST, compare_manual=True)
    assert again.saved().to_bytes() == predictor.saved().to_bytes()


def test_every_option_of_the_tuner_is_there() -> None:
    """Those of `Tuner` and of `Tuner.fit`, under their names, so that a type checker knows them."""
    assert set(TunerOptions.__annotations__) == set(inspect.signature(Tuner).parameters) - {"backend"}
    fit = set(inspect.signature(Tuner.fit).parameters)
    assert set(FitOptions.__annotations__) == fit - {"self", "train", "dev"}


def test_an_unknown_option_is_refused() -> None:
    """When it is given."""
    with pytest.raises(TypeError, match="bugdet"):
        BlackBoxTuning(mock(), bugdet=5)  # type: ignore[call-arg]


def test_a_predictor_without_a_prompt_is_none_of_this_method() -> None:
    """The manual prompt has a method of its own."""
    with pytest.raises(ValueError, match="use ManualPrompt"):
        BlackBoxPredictor(Predictor.manual(mock(), TASK))
