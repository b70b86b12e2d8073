"""Calibration of tuned prompts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, BudgetTooSmall, PaymentRequired, ScoreQuery, ScoreReply, TaskError, Tuner
from lmaas_sdk.methods import CONTENT_FREE, BlackBoxTuning, DeepBlackBoxPredictor, DeepBlackBoxTuning, load_predictor
from lmaas_sdk.methods.calibration import calibrated, log_prior

DEEP = replace(SMALL, projection="normal", scale=0.5)
TEXTS = ["a lovely thing", "an awful thing", ""]


@pytest.mark.parametrize("calibration", ["prior", "contextual"])
async def test_the_tuned_prompts_own_mean_is_divided_by(calibration: str) -> None:
    """Over the training texts, or inputs without content; the prompt is that of a run without calibration."""
    budget = Budget(evaluations=40)
    method = BlackBoxTuning(mock(), budget=budget, preset=SMALL, calibration=calibration)  # type: ignore[arg-type]
    predictor = await method.fit(TRAIN, DEV)
    plain = await BlackBoxTuning(mock(), budget=Budget(evaluations=40), preset=SMALL).fit(TRAIN, DEV)
    assert predictor.prompt.to_bytes() == plain.prompt.to_bytes()
    prior = log_prior(await plain.logits(TRAIN.fields if calibration == "prior" else CONTENT_FREE))
    assert predictor.prior is not None
    np.testing.assert_array_equal(predictor.prior, prior)
    np.testing.assert_array_equal(await predictor.logits(TEXTS), calibrated(await plain.logits(TEXTS), prior))


async def test_texts_of_ones_own_may_be_calibrated_on() -> None:
    """In the place of the training texts; no label is looked at."""
    method = BlackBoxTuning(mock(), budget=Budget(evaluations=16), preset=SMALL, calibration="prior")
    predictor = await method.fit(TRAIN, unlabelled=TEXTS)
    plain = await BlackBoxTuning(mock(), budget=Budget(evaluations=16), preset=SMALL).fit(TRAIN)
    assert predictor.prior is not None
    np.testing.assert_array_equal(predictor.prior, log_prior(await plain.logits(TEXTS)))


async def test_prompts_of_several_layers_are_calibrated_too(tmp_path: Path) -> None:
    """By the same rule, set aside first at no more and no less than it comes to; a file keeps the prior."""
    backend, budget = mock(), Budget(calls=9)
    method = DeepBlackBoxTuning(backend, budget=budget, preset=DEEP, calibration="prior")
    predictor = await method.fit(TRAIN, unlabelled=TEXTS)
    assert isinstance(predictor, DeepBlackBoxPredictor)
    calls = {purpose: amounts.calls for purpose, amounts in predictor.spend.by_purpose.items()}
    assert calls == {"features": 1, "train": 7, "probe": 1}
    assert (budget.posted.tokens, budget.pending.calls) == (backend.book.tokens, 0)
    plain = await DeepBlackBoxTuning(mock(), budget=Budget(evaluations=56), preset=DEEP).fit(TRAIN)
    assert predictor.prior is not None
    np.testing.assert_array_equal(predictor.prior, log_prior(await plain.logits(TEXTS)))
    loaded = load_predictor(predictor.save(tmp_path / "deep.predictor"), mock())
    np.testing.assert_array_equal(await loaded.logits(TEXTS), calibrated(await plain.logits(TEXTS), predictor.prior))
    tuner = DeepBlackBoxTuning(mock(), budget=Budget(calls=9), preset=DEEP).tuner
    assert (await DeepBlackBoxTuning.of(tuner, calibration="contextual").fit(TRAIN)).prior is not None


async def test_it_is_booked_as_a_probe_and_set_aside_first() -> None:
    """The search leaves a call for it; nothing is left aside afterwards."""
    backend, budget = mock(), Budget(calls=7)
    predictor = await BlackBoxTuning(backend, budget=budget, preset=SMALL, calibration="prior").fit(TRAIN)
    calls = {purpose: amounts.calls for purpose, amounts in predictor.spend.by_purpose.items()}
    assert calls == {"train": 6, "probe": 1}
    assert predictor.prior is not None
    assert (budget.posted.tokens, budget.pending.calls) == (backend.book.tokens, 0)


async def test_a_budget_below_calibration_and_a_generation_is_refused() -> None:
    """Nothing is sent, and nothing stays aside."""
    for calls, why in ((0, "what calibration takes"), (1, "one generation")):
        backend, budget = mock(), Budget(calls=calls)
        with pytest.raises(BudgetTooSmall, match=why):
            await BlackBoxTuning(backend, budget=budget, preset=SMALL, calibration="prior").fit(TRAIN)
        assert (backend.book.attempts, budget.pending.calls) == (0, 0)


async def test_a_run_that_was_interrupted_is_not_calibrated(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever stops it wants no more calls; the log says so."""
    method = BlackBoxTuning(mock(), budget=Budget(evaluations=80), preset=SMALL, calibration="prior")
    with caplog.at_level(logging.WARNING, "lmaas_sdk.methods"):
        predictor = await method.fit(TRAIN, on_event=lambda event: method.tuner.stop())
    assert predictor.result is not None
    assert (predictor.result.stopped, predictor.prior) == ("interrupted", None)
    assert "not calibrated: the run was interrupted" in caplog.text


class RefusesProbes(MockBackend):
    """Takes whole generations only."""

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        if query.n_candidates == 1:
            raise PaymentRequired("no money for so little")
        return await super().score(query, key=key)


async def test_a_calibration_that_fails_leaves_the_prompt(caplog: pytest.LogCaptureFixture) -> None:
    """As it is, with a warning: what was tuned is not lost."""
    method = BlackBoxTuning(RefusesProbes(), budget=Budget(evaluations=16), preset=SMALL, calibration="prior")
    with caplog.at_level(logging.WARNING, "lmaas_sdk.methods"):
        predictor = await method.fit(TRAIN)
    assert predictor.result is not None
    assert (predictor.result.stopped, predictor.prior) == ("budget", None)
    assert "not calibrated: PaymentRequired" in caplog.text


async def test_a_tuner_may_be_calibrated() -> None:
    """One that goes on with a journal, say."""
    tuner = Tuner(mock(), budget=Budget(evaluations=16), preset=SMALL)
    predictor = await BlackBoxTuning.of(tuner, calibration="contextual").fit(TRAIN)
    assert predictor.prior is not None


async def test_what_cannot_be_calibrated_is_refused() -> None:
    """Before anything is sent."""
    backend = mock()
    with pytest.raises(ValueError, match="'prior', 'contextual' or None, not 'both'"):
        BlackBoxTuning(backend, calibration="both")  # type: ignore[arg-type]
    for calibration in (None, "contextual"):
        with pytest.raises(ValueError, match="unlabelled texts are for calibration='prior', not for"):
            await BlackBoxTuning(backend, calibration=calibration).fit(TRAIN, unlabelled=TEXTS)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="at least one text"):
        await BlackBoxTuning(backend, calibration="prior").fit(TRAIN, unlabelled=[])
    assert backend.book.attempts == 0
