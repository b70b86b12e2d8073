"""The dev rule."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk import Evaluation
from lmaas_sdk.tuning.selection import MOST_RESCORED, Choice, Selection

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


def test_the_lowest_few_are_kept_in_the_order_of_their_losses() -> None:
    """Of equal ones the earlier stands first, and is kept where there is room for one only."""
    selection = Selection()
    for generation, loss in enumerate([0.9, 0.5, 0.7, 0.5, 0.1, 0.8, 0.6, 0.4, 0.7, 0.3, 0.7]):
        selection.saw_train(best(generation, loss))
    assert MOST_RESCORED == 8
    assert [choice.generation for choice in selection.lowest] == [4, 9, 7, 1, 3, 6, 2, 8]


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        ([0.4, 0.3, 0.2], (2, 0.2)),
        ([0.2, 0.3, 0.4], (1, 0.2)),
        ([0.3, 0.3, 0.3], (0, 0.3)),
        ([0.3, 0.2, 0.2], (0, 0.2)),
    ],
)
def test_losses_in_float32_decide_where_there_are_any(again: list[float], expected: tuple[int, float]) -> None:
    """Ties go to the earlier generation, not to the lower loss of the search, which is kept beside the other."""
    selection = Selection()
    for generation, loss in enumerate((0.25, 0.1, 0.3)):
        selection.saw_train(best(generation, loss))
    assert [choice.generation for choice in selection.lowest] == [1, 0, 2]
    selection.saw_again(again)
    choice, chosen_by = selection.chosen or pytest.fail("nothing chosen")
    assert (choice.generation, choice.precise_loss, chosen_by) == (*expected, "train_loss")
    assert choice.to_dict() == {
        "generation": choice.generation,
        "kind": "best",
        "train_loss": (0.25, 0.1, 0.3)[choice.generation],
        "precise_loss": choice.precise_loss,
    }


def test_there_is_one_loss_for_each_that_was_scored_again() -> None:
    """Anything else would be a mistake of the caller's."""
    selection = Selection()
    selection.saw_train(best(0, 0.5))
    with pytest.raises(ValueError, match="longer"):
        selection.saw_again([0.5, 0.4])


def test_dev_decides_over_losses_in_float32() -> None:
    """Where there is a look at dev, no train loss counts."""
    selection = Selection()
    selection.saw_train(best(0, 0.5))
    selection.saw_again([0.0])
    selection.saw_dev(dev(1, "mean", 0.5, 1.0))
    choice, chosen_by = selection.chosen or pytest.fail("nothing chosen")
    assert (choice.generation, chosen_by) == (1, "dev_metric")


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


def test_a_row_is_short_and_a_choice_tells_its_interval() -> None:
    """8 of 10 right; among the rows of all looks the interval is left out, and where it is not known it is None."""
    known = Choice(3, "mean", Z, None, Evaluation("accuracy", 0.8, 0.5, 10, confusion=((0, 0, 8), (1, 0, 2))))
    row = {"generation": 3, "kind": "mean", "train_loss": None, "dev_metric": 0.8, "dev_cross_entropy": 0.5}
    assert known.to_row() == row
    assert known.to_dict() == row | {"dev_interval": [0.4901624715366417, 0.9433178485456247]}
    assert dev(3, "mean", 0.8, 0.5).to_dict() == row | {"dev_interval": None}
