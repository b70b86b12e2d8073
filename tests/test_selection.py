"""The dev rule."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk import Evaluation
from lmaas_sdk.tuning.cmaes import PycmaOptimizer
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
    for missing in (best(2, 0.1), mean(2)):
        with pytest.raises(ValueError, match="without a dev evaluation"):
            selection.saw_dev(missing)


def mean(generation: int) -> Choice:
    return Choice(generation, "mean", Z, None)


def noisy(*, pairs: tuple[tuple[float, float], ...] = ((0.5, 0.6),)) -> Selection:
    """The lowest loss is in the second generation, the lowest average in the third, and some candidates came twice."""
    selection = Selection()
    for generation, (loss, average) in enumerate([(0.5, 0.9), (0.1, 0.7), (0.3, 0.6), (0.4, 0.6), (0.5, 0.8)]):
        selection.saw_train(best(generation, loss))
        selection.saw_mean(mean(generation), average_loss=average)
    for first, second in pairs:
        selection.noise.saw_pair(first, second)
    return selection


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (((0.5, 0.6),), (2, "mean", "search_mean")),
        (((0.4, 0.4), (0.3, 0.3), (0.5, np.nextafter(0.5, 1)), (0.2, 0.2)), (2, "mean", "search_mean")),
        (((0.4, 0.4), (0.3, 0.3)), (1, "best", "train_loss")),
        ((), (1, "best", "train_loss")),
    ],
    ids=["a pair differs", "one of several differs", "all agree", "nothing measured"],
)
def test_without_dev_the_mean_of_the_lowest_generation_is_chosen_where_losses_are_noisy(
    pairs: tuple[tuple[float, float], ...], expected: tuple[int, str, str]
) -> None:
    """Of equals the earlier; and where a backend repeats itself, whether it claims to or not, train loss decides."""
    choice, chosen_by = noisy(pairs=pairs).chosen or pytest.fail("nothing chosen")
    assert (choice.generation, choice.kind, chosen_by) == expected


def test_noise_makes_losses_in_float32_irrelevant() -> None:
    """The lowest were picked by noisy values, whatever their losses in float32 are."""
    selection = noisy()
    selection.saw_again([0.0, 0.1, 0.2, 0.3, 0.4])
    choice, chosen_by = selection.chosen or pytest.fail("nothing chosen")
    assert (choice.kind, chosen_by) == ("mean", "search_mean")


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([dev(9, "best", 0.9, 0.1), dev(9, "mean", 0.6, 0.9), dev(19, "mean", 0.6, 0.8)], (19, "mean")),
        ([dev(9, "mean", 0.7, 0.9), dev(19, "best", 0.7, 0.1), dev(19, "mean", 0.6, 0.1)], (9, "mean")),
        ([dev(9, "best", 0.6, 0.1), dev(19, "best", 0.7, 0.1)], (19, "best")),
    ],
    ids=["the better mean", "an earlier mean", "no mean was looked at"],
)
def test_with_dev_only_means_are_compared_where_losses_are_noisy(
    offers: list[Choice], expected: tuple[int, str]
) -> None:
    """A generation's best may be better on dev: it is returned only where no mean was looked at."""
    selection = noisy()
    for offer in offers:
        selection.saw_dev(offer)
    choice, chosen_by = selection.chosen or pytest.fail("nothing chosen")
    assert (choice.generation, choice.kind, chosen_by) == (*expected, "dev_metric")


def test_without_a_mean_noise_changes_nothing() -> None:
    """What was never offered cannot be returned."""
    selection = Selection()
    selection.saw_train(best(0, 0.5))
    selection.noise.saw_pair(0.1, 0.2)
    assert selection.chosen == (selection.lowest[0], "train_loss")


def test_a_row_is_short_and_a_choice_tells_its_interval() -> None:
    """8 of 10 right; among the rows of all looks the interval is left out, and where it is not known it is None."""
    known = Choice(3, "mean", Z, None, Evaluation("accuracy", 0.8, 0.5, 10, confusion=((0, 0, 8), (1, 0, 2))))
    row = {"generation": 3, "kind": "mean", "train_loss": None, "dev_metric": 0.8, "dev_cross_entropy": 0.5}
    assert known.to_row() == row
    assert known.to_dict() == row | {"dev_interval": [0.4901624715366417, 0.9433178485456247]}
    assert dev(3, "mean", 0.8, 0.5).to_dict() == row | {"dev_interval": None}


def search(seed: int, generations: int) -> list[float]:
    """True losses after a search on a noisy sphere, d 20, population 8.

    Of the best seen, of what is chosen once noise is known, and of the last mean.
    """
    luck, truth = np.random.Generator(np.random.Philox(seed)), np.linspace(-1, 1, 20)
    optimizer = PycmaOptimizer(20, population=8, sigma0=0.5, diagonal=True, step_size="csa", seed=seed)
    selection = Selection()
    for generation in range(generations):
        batch = optimizer.ask()
        first, second = np.sum((batch.X - truth) ** 2, axis=1) + luck.standard_normal((2, 8))
        optimizer.tell(generation, dict(enumerate(first.tolist())))
        place = int(first.argmin())
        selection.saw_train(Choice(generation, "best", batch.X[place].astype(np.float32), first[place]))
        centre = Choice(generation, "mean", optimizer.mean.astype(np.float32), None)
        selection.saw_mean(centre, average_loss=first.mean())
    best_seen, _ = selection.chosen or pytest.fail("nothing chosen")
    selection.noise.saw_pair(first[0], second[0])
    chosen, _ = selection.chosen or pytest.fail("nothing chosen")
    return [float(np.sum((choice.z - truth) ** 2)) for choice in (best_seen, chosen, centre)]


@pytest.mark.parametrize(("generations", "seeds"), [(30, 36), (120, 12)])
def test_the_mean_of_a_noisy_search_is_better_than_the_best_seen(generations: int, seeds: int) -> None:
    """On average over searches, while it gains and once it wanders; the last mean is not, then."""
    best_seen, chosen, last = np.mean([search(seed, generations) for seed in range(seeds)], axis=0)
    assert chosen < 0.95 * best_seen
    assert (generations < 100) == (last < best_seen)
