"""The dev rule."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk import Evaluation
from lmaas_sdk.tuning.selection import Choice, Selection

Z = np.zeros(2, dtype=np.float32)


def best(generation: int, loss: float) -> Choice:
    return Choice(generation, "best", Z, loss)


def dev(generation: int, kind: str, metric: float, ce: float) -> Choice:
    return Choice(generation, kind, Z, None, Evaluation("accuracy", metric, ce, 10))  # type: ignore[arg-type]


def test_without_dev_the_lowest_train_loss_wins_and_the_first_of_equals() -> None:
    """Train loss decides, ties go to the earlier."""
    selection = Selection()
    for generation, loss in enumerate((0.5, 0.3, 0.3, 0.4)):
        selection.saw_train(best(generation, loss))
    choice, chosen_by = selection.chosen or pytest.fail("nothing chosen")
    assert (choice.generation, chosen_by) == (1, "train_loss")


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([dev(9, "best", 0.6, 0.9), dev(9, "mean", 0.7, 2.0)], (9, "mean")),
        ([dev(9, "best", 0.7, 0.5), dev(9, "mean", 0.7, 0.6)], (9, "best")),
        ([dev(9, "best", 0.7, 0.5), dev(9, "mean", 0.7, 0.5)], (9, "mean")),
        ([dev(9, "mean", 0.7, 0.5), dev(19, "best", 0.7, 0.5)], (9, "mean")),
        ([dev(9, "mean", 0.7, 0.5), dev(19, "mean", 0.7, 0.5)], (9, "mean")),
        ([dev(9, "best", 0.0, 5.0)], (9, "best")),
    ],
)
def test_dev_metric_then_cross_entropy_then_the_mean(offers: list[Choice], expected: tuple[int, str]) -> None:
    """The best metric wins; ties go to the lower cross entropy, then to the mean, then to the earlier."""
    selection = Selection()
    selection.saw_train(best(0, 0.0))
    for offer in offers:
        selection.saw_dev(offer)
    choice, chosen_by = selection.chosen or pytest.fail("nothing chosen")
    assert (choice.generation, choice.kind, chosen_by) == (*expected, "dev_metric")


def test_nothing_seen_nothing_chosen() -> None:
    """Before the first generation there is no choice."""
    assert Selection().chosen is None


def test_a_choice_without_dev_is_not_ranked_on_dev() -> None:
    """That would be a mistake of the caller's."""
    selection = Selection()
    selection.saw_dev(dev(1, "best", 0.5, 1.0))
    with pytest.raises(ValueError, match="without a dev evaluation"):
        selection.saw_dev(best(2, 0.1))
