"""Losses of label logits."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.tuning.objective import Objective, cross_entropy, hinge, losses, text_losses, total

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


@pytest.mark.parametrize(("texts", "classes"), [(1, 2), (3, 9), (32, 4), (33, 2), (400, 14)])
def test_a_candidate_has_the_same_loss_alone(texts: int, classes: int) -> None:
    """The other candidates of a generation change no bit of a loss."""
    many = np.random.default_rng(1).standard_normal((20, texts, classes)).astype(np.float32)
    labels = np.arange(texts) % classes
    for objective in ("ce", "hinge", "metric"):
        together = losses(objective, many, labels, metric="accuracy")
        alone = [losses(objective, many[index : index + 1], labels, metric="accuracy")[0] for index in range(20)]
        assert together.tolist() == alone


def test_unknown_objective_is_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="ce, hinge, metric, not 'mse'"):
        losses("mse", LOGITS, LABELS, metric="accuracy")  # type: ignore[arg-type]


def test_losses_of_texts_are_told_one_by_one() -> None:
    """By hand: cross entropies, margins, and for `metric` the predicted classes."""
    assert text_losses("ce", LOGITS, LABELS)[0].tolist() == pytest.approx(
        [np.log1p(np.exp(-2.0)), np.log1p(np.exp(-3.0)), np.log(2.0)]
    )
    assert text_losses("hinge", LOGITS, LABELS).tolist() == [[0.0, 0.0, 2.0], [4.0, 1.5, 6.0]]
    assert text_losses("metric", LOGITS, LABELS).tolist() == [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]


def test_losses_of_texts_are_refused_for_an_unknown_objective() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="ce, hinge, metric, not 'mse'"):
        text_losses("mse", LOGITS, LABELS)  # type: ignore[arg-type]


@given(data=st.data(), objective=st.sampled_from(get_args(Objective)), seed=st.integers(0, 2**32 - 1))
def test_texts_scored_in_parts_have_the_total_of_one_go(data: st.DataObject, objective: Objective, seed: int) -> None:
    """However the texts are parted and ordered, put together in their order they have the same bits."""
    random = np.random.default_rng(seed)
    n_candidates, n_texts, n_labels = random.integers((1, 1, 2), (5, 150, 15))
    scale = 10.0 ** random.integers(-3, 4)
    logits = (scale * random.standard_normal((n_candidates, n_texts, n_labels))).astype(np.float32)
    labels = random.integers(0, n_labels, n_texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, int(n_texts)), max_size=3)))
    per_text = np.full((n_candidates, n_texts), np.nan)
    for rows in np.split(random.permutation(n_texts), cuts):
        per_text[:, rows] = text_losses(objective, logits[:, rows], labels[rows])
    in_parts = total(objective, per_text, labels, metric="accuracy")
    assert losses(objective, logits, labels, metric="accuracy").tobytes() == in_parts.tobytes()


@pytest.mark.parametrize("objective", ["ce", "hinge"])
def test_the_total_of_a_candidate_is_its_loss(objective: Objective) -> None:
    """The functions of one candidate and the totals of many agree in every bit."""
    many = np.random.default_rng(2).standard_normal((20, 33, 3)).astype(np.float32)
    labels = np.arange(33) % 3
    of_one = {"ce": cross_entropy, "hinge": hinge}[objective]
    totals = total(objective, text_losses(objective, many, labels), labels, metric="accuracy")
    assert [of_one(logits, labels) for logits in many] == totals.tolist()
