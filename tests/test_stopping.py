"""When a search has found what it can."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_sdk import Budget, Tuner
from lmaas_sdk.tuning.predictor import Evaluation
from lmaas_sdk.tuning.stopping import Plateau, reached


def look(value: float, cross_entropy: float = 0.5) -> Evaluation:
    """A look at dev."""
    return Evaluation("accuracy", value, cross_entropy, 10, 0)


def over_at(plateau: Plateau, losses: list[float]) -> int | None:
    """The generation after which a run with these lowest losses is over."""
    for generation, lowest in enumerate(losses, start=1):
        plateau.saw_loss(generation, lowest)
        if plateau.is_over(generation):
            return generation
    return None


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([5, 4, 3, 2, 1], None),
        ([5, 5, 5, 5], 4),
        ([5, 4, 4, 3, 3, 3, 3], 7),
        ([1.0, 0.9995, 0.9991, 0.9990], 4),  # a thousandth in all is none at a time
        ([-1.0, -1.0005, -1.002, -1.002], None),
    ],
)
def test_a_train_loss_that_falls_no_more_is_a_plateau(losses: list[float], expected: int | None) -> None:
    """After three generations without a thousandth of improvement."""
    assert expected == over_at(Plateau(3, has_dev=False), losses)


def test_without_a_number_there_is_no_plateau() -> None:
    """Then only the budget ends a run."""
    assert over_at(Plateau(None, has_dev=False), [5.0] * 100) is None


def test_with_a_dev_set_train_losses_do_not_count() -> None:
    """Only looks do: an equal metric with a lower cross entropy is an improvement."""
    plateau = Plateau(3, has_dev=True)
    assert over_at(plateau, [5.0] * 10) is None
    plateau.saw_dev(2, [look(0.6), look(0.5)])
    plateau.saw_dev(4, [look(0.6, 0.4)])
    assert not plateau.is_over(6)
    plateau.saw_dev(6, [look(0.6, 0.4), look(0.59, 0.1)])
    assert plateau.is_over(7)


@pytest.mark.parametrize(("target", "expected"), [(None, False), (0.7, True), (0.70001, False), (0.0, True)])
def test_a_target_is_reached_by_one_of_the_looks(target: float | None, expected: bool) -> None:
    """Equal is enough."""
    assert expected is reached(target, [look(0.6), look(0.7)])
    assert not reached(target, [])


async def test_a_plateau_ends_a_run_with_a_last_look_at_dev() -> None:
    """What is left of the budget stays there."""
    budget = Budget(evaluations=8_000)
    preset = replace(SMALL, plateau=6, dev_every=4)
    result = await Tuner(mock(), budget=budget, preset=preset, seed=7).fit(TRAIN, DEV)
    assert ("plateau", None) == (result.stopped, result.failure)
    assert result.dev_scored[-1].generation == result.generations[-1].generation
    assert budget.posted.evaluations < 8_000
    assert 0 == budget.pending.evaluations


async def test_a_target_ends_a_run_after_the_look_that_reached_it() -> None:
    """And no earlier look had."""
    preset = replace(SMALL, dev_every=2)
    whole = await Tuner(mock(), budget=Budget(evaluations=320), preset=preset, seed=7).fit(TRAIN, DEV)
    target = max(choice.dev.value for choice in whole.dev_scored if choice.dev)
    result = await Tuner(mock(), budget=Budget(evaluations=320), preset=preset, seed=7).fit(TRAIN, DEV, target=target)
    assert "target" == result.stopped
    reaching = [choice.generation for choice in result.dev_scored if choice.dev and choice.dev.value >= target]
    assert {result.generations[-1].generation} == set(reaching)
    assert result.core.losses == whole.core.losses[: len(result.generations)]
