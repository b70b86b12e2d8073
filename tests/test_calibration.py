"""What a prompt says whatever the text is, and predictions without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.methods.calibration import calibrated, log_prior


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def test_the_prior_is_the_mean_probability_of_each_class() -> None:
    """Of the probabilities, not of the logits."""
    logits = np.log(np.array([[0.9, 0.1], [0.3, 0.7]], dtype=np.float32))
    np.testing.assert_allclose([0.6, 0.4], np.exp(log_prior(logits)), rtol=1e-6)


def test_probabilities_are_divided_by_the_prior_and_normalised() -> None:
    """p(y | x) / prior(y): 0.6 / 0.75 to 0.4 / 0.25 is 1 to 2, so the other class wins."""
    logits = np.log(np.array([[0.6, 0.4]], dtype=np.float32)) + 5
    found = softmax(calibrated(logits, np.log(np.array([0.75, 0.25], dtype=np.float32))))
    np.testing.assert_allclose([[1 / 3, 2 / 3]], found, rtol=1e-6)


def test_without_a_prior_logits_stay_as_they_are() -> None:
    """To the last bit."""
    logits = np.array([[1.5, -2.5]], dtype=np.float32)
    assert calibrated(logits, None) is logits


@given(st.lists(st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_what_is_added_to_all_logits_of_a_text_changes_nothing(rows: list[list[float]]) -> None:
    """Only the softmax over the label words counts."""
    logits = np.array(rows, dtype=np.float32)
    shifted = logits.astype(np.float64) + np.arange(len(logits))[:, None]
    np.testing.assert_allclose(log_prior(logits), log_prior(shifted.astype(np.float32)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("high", [200.0, 1e30])
def test_a_class_that_the_model_rules_out_leaves_finite_logits(high: float) -> None:
    """Its prior is the smallest number that there is, and not 0."""
    logits = np.array([[high, 0.0]], dtype=np.float32)
    prior = log_prior(logits)
    assert np.isfinite(prior).all()
    assert np.isfinite(calibrated(logits, prior)).all()
