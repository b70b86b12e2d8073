"""Logits made up for a loss."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk.planning.answers import Answers
from lmaas_sdk.tuning.objective import cross_entropy

LOSSES = [1e-3, 0.05, 0.35, np.log(2.0), 1.2, 5.0, 40.0]


@pytest.mark.parametrize("classes", [2, 3, 14])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_cross_entropy_is_the_loss(classes: int, loss: float) -> None:
    """Whatever the labels are, and however many."""
    labels = np.arange(33, dtype=np.int64) * 5 % classes
    logits = Answers(labels, classes, name="texts").logits(loss)
    assert (np.float32, (33, classes)) == (logits.dtype, logits.shape)
    assert loss == pytest.approx(cross_entropy(logits, labels), rel=1e-6, abs=1e-6)


def test_accuracy_rises_as_the_loss_falls() -> None:
    """From none to all, and as it does with models: about .86 at .35."""
    labels = np.arange(200, dtype=np.int64) % 2
    answers = Answers(labels, 2, name="texts")
    accuracies = [float((answers.logits(loss).argmax(axis=1) == labels).mean()) for loss in LOSSES]
    assert sorted(accuracies, reverse=True) == accuracies
    assert [1.0, 0.0] == [accuracies[0], accuracies[-1]]
    assert 0.86 == pytest.approx(accuracies[2], abs=0.03)


def test_which_texts_are_easy_depends_on_the_set_alone() -> None:
    """Two sets of the same labels are not answered alike; the same one is, bit for bit."""
    labels = np.arange(20, dtype=np.int64) % 2
    one, again, other = (Answers(labels, 2, name=name).logits(0.5) for name in ("a", "a", "b"))
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()
