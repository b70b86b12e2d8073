"""Losses of label logits."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk.tuning.objective import cross_entropy, hinge, losses

LOGITS = np.array([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], [[-1.0, 1.0], [0.0, 0.5], [4.0, 0.0]]], dtype=np.float32)
LABELS = np.array([0, 1, 1])


def test_cross_entropy_is_the_mean_over_the_label_words() -> None:
    """By hand: softmax over two label words."""
    expected = np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(-3.0)), np.log(2.0)])
    assert cross_entropy(LOGITS[0], LABELS) == pytest.approx(expected, abs=1e-12)


def test_cross_entropy_does_not_overflow() -> None:
    """Logits of 1e4 give the loss they should, not infinity."""
    assert cross_entropy(np.array([[1e4, 0.0]], dtype=np.float32), np.array([1])) == pytest.approx(1e4)


def test_hinge_sums_the_margins_of_wrong_labels() -> None:
    """By hand: margin 2, the right label left out, three classes."""
    logits = np.array([[1.0, 0.0, 2.0], [0.0, 5.0, 1.0]], dtype=np.float32)
    assert hinge(logits, np.array([0, 1])) == pytest.approx(((2 - 1) + (2 + 1) + 0) / 2)


def test_metric_is_negated() -> None:
    """Minus the accuracy, or minus F1 of class 1."""
    assert losses("metric", LOGITS, LABELS, metric="accuracy").tolist() == [-2 / 3, -1 / 3]
    assert losses("metric", LOGITS, LABELS, metric="f1").tolist() == pytest.approx([-2 / 3, -0.5])


def test_a_candidate_has_the_same_loss_alone() -> None:
    """The other candidates of a generation change no bit of a loss."""
    many = np.random.default_rng(1).standard_normal((20, 32, 4)).astype(np.float32)
    labels = np.arange(32) % 4
    for objective in ("ce", "hinge", "metric"):
        together = losses(objective, many, labels, metric="accuracy")
        alone = [losses(objective, many[index : index + 1], labels, metric="accuracy")[0] for index in range(20)]
        assert together.tolist() == alone


def test_unknown_objective_is_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="ce, hinge, metric, not 'mse'"):
        losses("mse", LOGITS, LABELS, metric="accuracy")  # type: ignore[arg-type]
