"""The principal subspace of tuned prompts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_sdk import Backend, Budget, Client, Tuner, TuningResult
from lmaas_sdk.methods import learn_projection, principal_projection
from lmaas_sdk.tuning.learned_projection import moves_of

Array = NDArray[np.float32]


def prompts(count: int, rank: int, *, L: int = 2, D: int = 6) -> Array:
    """Sums of `rank` directions."""
    draw = np.random.default_rng(3)
    return (draw.standard_normal((count, rank)) @ draw.standard_normal((rank, L * D))).reshape(count, L, D)


def test_columns_are_orthogonal_and_alike() -> None:
    """And z from N(0, I) makes prompts as long as those given, in root mean square."""
    given = prompts(9, 9)
    found = principal_projection(given, 4).astype(np.float64)
    lengths = np.full(4, np.mean(np.sum(given.reshape(9, -1) ** 2, axis=1)) / 4)
    np.testing.assert_allclose(found.T @ found, np.diag(lengths), atol=1e-4 * lengths[0])


def test_prompts_of_few_directions_lie_in_their_span() -> None:
    """What is left of them outside it is rounding."""
    given = prompts(9, 3).reshape(9, -1)
    axes = np.linalg.qr(principal_projection(prompts(9, 3), 3).astype(np.float64))[0]
    np.testing.assert_allclose(given @ axes @ axes.T, given, atol=1e-5)


def test_the_direction_that_all_share_comes_first() -> None:
    """Nothing is centred away."""
    shared = np.zeros((6, 2, 6), np.float32)
    shared[:, 1, 2] = 10.0
    first = principal_projection(shared + 0.1 * prompts(6, 6), 2)[:, 0]
    assert 8 == int(first.argmax())


def test_it_is_the_same_for_the_same_prompts() -> None:
    """Their signs too, which a decomposition leaves open: the largest entry of a column is above 0."""
    found = principal_projection(prompts(9, 9), 5)
    assert (np.float32, (12, 5)) == (found.dtype, found.shape)
    assert found.tobytes() == principal_projection(list(prompts(9, 9)), 5).tobytes()
    np.testing.assert_allclose(found, principal_projection(-prompts(9, 9), 5), atol=1e-5)
    assert (found[np.abs(found).argmax(axis=0), np.arange(5)] > 0).all()


@pytest.mark.parametrize(
    ("given", "d", "message"),
    [
        (prompts(9, 3), 4, "9 prompts span 3 dimensions, fewer than d = 4: lower d, or give more runs"),
        (np.zeros((2, 2, 6)), 1, "2 prompts span 0 dimensions"),
        ([], 1, r"these have the shapes \[\]"),
        ([np.zeros((2, 6)), np.zeros((3, 6))], 1, r"these have the shapes \[\(2, 6\), \(3, 6\)\]"),
        (np.full((2, 2, 6), np.nan), 1, "NaN"),
        (prompts(9, 3), 0, "d is a whole number of at least 1, not 0"),
    ],
)
def test_prompts_that_do_not_do_are_refused(given: Array, d: int, message: str) -> None:
    """It says how many dimensions there are."""
    with pytest.raises(ValueError, match=message):
        principal_projection(given, d)


@pytest.fixture
def backend() -> Backend:
    return mock()


async def run(backend: Backend, seed: int) -> TuningResult:
    return await Tuner(backend, budget=Budget(evaluations=80), preset=SMALL, seed=seed).fit(TRAIN, DEV)


async def test_runs_give_what_was_looked_at_on_dev(backend: Backend) -> None:
    """Three prompts of a short run: the chosen one, and best and mean of its only look."""
    results = [await run(backend, 1), await run(backend, 2)]
    learned = await learn_projection(backend, results, 4)
    moves = [await moves_of(Client(backend, Budget()), result) for result in results]
    assert ((2 * backend.card.hidden_size, 4), 6) == (learned.matrix.shape, learned.prompts)
    assert learned.spend is not None
    assert 160 == learned.spend.total.evaluations
    np.testing.assert_array_equal(learned.matrix, principal_projection(np.concatenate(moves), 4))
    assert 0.5 < learned.explained <= 1.0


async def test_learning_axes_costs_nothing() -> None:
    """Prompts are written out for free."""
    result, backend = await run(mock(), 1), mock()
    await learn_projection(backend, [result], 2)
    assert 0 == backend.book.attempts


async def test_prompts_without_their_runs_tell_no_cost(backend: Backend) -> None:
    """Each is one direction."""
    learned = await learn_projection(backend, [(await run(backend, seed)).prompt for seed in (1, 2)], 2)
    assert (2, None) == (learned.prompts, learned.spend)
