"""pycma with its traps closed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from lmaas_sdk.tuning.cmaes import PycmaOptimizer

VARIANTS = [(False, "csa"), (False, "tpa"), (True, "csa"), (True, "tpa")]


def sphere(x: NDArray[np.float64]) -> float:
    return float(((x - 1.0) ** 2).sum())


def optimizer(*, diagonal: bool = False, step_size: str = "csa", seed: int = 3, d: int = 12) -> PycmaOptimizer:
    return PycmaOptimizer(d, population=10, sigma0=0.5, diagonal=diagonal, step_size=step_size, seed=seed)  # type: ignore[arg-type]


def run(es: PycmaOptimizer, generations: int) -> list[list[float]]:
    """Values told, by generation."""
    told = []
    for _ in range(generations):
        batch = es.ask()
        values = {index: sphere(x) for index, x in enumerate(batch.X)}
        es.tell(batch.generation, values)
        told.append(list(values.values()))
    return told


@pytest.mark.parametrize(("diagonal", "step_size"), VARIANTS)
def test_every_variant_descends(diagonal: bool, step_size: str) -> None:
    """A sphere in 12 dimensions is solved to 1e-3 in 150 generations."""
    es = optimizer(diagonal=diagonal, step_size=step_size)
    run(es, 150)
    assert sphere(es.mean) < 1e-3


@pytest.mark.parametrize(("diagonal", "step_size"), VARIANTS)
def test_global_generator_is_left_alone(diagonal: bool, step_size: str) -> None:
    """Neither the search nor its making draws from or reseeds numpy's global generator."""
    np.random.seed(11)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    run(optimizer(diagonal=diagonal, step_size=step_size, seed=0), 30)
    np.testing.assert_equal(np.random.get_state(), before)  # noqa: NPY002


@pytest.mark.parametrize(("diagonal", "step_size"), VARIANTS)
def test_two_runs_in_one_process_do_not_meet(diagonal: bool, step_size: str) -> None:
    """A search interleaved with another of the same seed has the values that it has alone."""
    alone = run(optimizer(diagonal=diagonal, step_size=step_size), 12)
    pair = [optimizer(diagonal=diagonal, step_size=step_size) for _ in range(2)]
    mixed: list[list[list[float]]] = [[], []]
    for _ in range(12):
        for es, told in zip(pair, mixed, strict=True):
            told.extend(run(es, 1))
    assert mixed == [alone, alone]


def test_seeds_differ_and_zero_is_a_seed() -> None:
    """Seed 0 is as fixed as any other, and no two seeds have the same first generation."""
    firsts = [optimizer(seed=seed).ask().X.tobytes() for seed in (0, 0, 1, 2)]
    assert firsts[0] == firsts[1]
    assert len(set(firsts)) == 3


def test_asking_again_gives_the_same_candidates() -> None:
    """A generation has one set of candidates until it is told, with the two-point rule too."""
    es = optimizer(step_size="tpa")
    run(es, 3)
    np.testing.assert_array_equal(es.ask().X, es.ask().X)


def test_candidates_cannot_be_changed() -> None:
    """What is told back is what was asked: the candidates are read-only."""
    with pytest.raises(ValueError, match="read-only"):
        optimizer().ask().X[0, 0] = 1.0


def test_telling_leaves_the_values_alone() -> None:
    """pycma changes the list that it is given; the caller's mapping stays."""
    es = optimizer()
    values = {index: float(index) for index in range(len(es.ask()))}
    es.tell(0, values)
    assert values == {index: float(index) for index in range(10)}


def test_order_of_telling_does_not_matter() -> None:
    """A mapping in another order leads to the same next generation."""
    nexts = []
    for turn in (1, -1):
        es = optimizer(step_size="tpa")
        for _ in range(4):
            batch = es.ask()
            items = [(index, sphere(x)) for index, x in enumerate(batch.X)]
            es.tell(batch.generation, dict(items[::turn]))
        nexts.append(es.ask().X.tobytes())
    assert nexts[0] == nexts[1]


def test_telling_twice_changes_nothing() -> None:
    """The last generation told again is ignored."""
    es, reference = optimizer(), optimizer()
    run(es, 3), run(reference, 3)
    es.tell(2, dict.fromkeys(range(10), 0.0))
    np.testing.assert_array_equal(es.ask().X, reference.ask().X)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (dict.fromkeys(range(9), 1.0) | {9: float("nan")}, "candidate 9 of generation 0 has the value nan"),
        (dict.fromkeys(range(9), 1.0) | {9: float("-inf")}, "-inf"),
        (dict.fromkeys(range(3), 1.0), "needs 5 values or more, not 3"),
        (dict.fromkeys(range(11), 1.0), "candidates 0 .. 9, not 10"),
    ],
)
def test_harmful_values_are_refused(values: dict[int, float], named: str) -> None:
    """NaN, infinities, too few values and unknown candidates are errors, and the generation can still be told."""
    es = optimizer()
    es.ask()
    with pytest.raises(ValueError, match=r".") as refused:
        es.tell(0, values)
    assert named in str(refused.value)
    es.tell(0, {index: float(index) for index in range(10)})
    assert es.ask().generation == 1


def test_another_generation_is_refused() -> None:
    """Only the generation that was asked for can be told."""
    es = optimizer()
    with pytest.raises(ValueError, match=r"after ask"):
        es.tell(0, {})
    es.ask()
    with pytest.raises(ValueError, match=r"not 4"):
        es.tell(4, dict.fromkeys(range(10), 1.0))


def test_partial_generation_is_enough_but_for_the_two_points() -> None:
    """Half a generation can be told; the two-point rule cannot do without candidates 0 and 1."""
    es = optimizer(step_size="tpa")
    run(es, 2)
    batch = es.ask()
    values = {index: sphere(x) for index, x in enumerate(batch.X)}
    with pytest.raises(ValueError, match=r"\[1\]"):
        es.tell(2, {index: value for index, value in values.items() if index != 1})
    es.tell(2, dict(itertools.islice(values.items(), 6)))
    assert es.ask().generation == 3


def test_flat_values_do_not_end_the_search() -> None:
    """pycma would stop on equal values; here that is a warning, and the next generation comes."""
    es = optimizer()
    for generation in range(60):
        es.tell(generation, dict.fromkeys(range(len(es.ask())), 0.5))
    assert es.warnings() != ()
    assert np.isfinite(es.ask().X).all()


def test_signal_file_of_the_working_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file `cma_signals.in` that says stop has no effect."""
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0}")
    monkeypatch.chdir(tmp_path)
    es = optimizer()
    run(es, 3)
    assert es.warnings() == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cma_signals.in"]


def test_bits_do_not_depend_on_the_number_of_blas_threads() -> None:
    """With two BLAS threads around it the search has the same bits, and leaves the setting as it was."""
    alone = run(optimizer(d=120), 8)
    with threadpool_limits(limits=2, user_api="blas"):
        before = [pool["num_threads"] for pool in threadpool_info()]
        assert run(optimizer(d=120), 8) == alone
        assert [pool["num_threads"] for pool in threadpool_info()] == before
