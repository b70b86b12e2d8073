"""What a preset makes, and the searches that are no CMA-ES of pycma."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from lmaas_sdk import PRESETS, Preset
from lmaas_sdk.tuning.cmaes import PycmaOptimizer
from lmaas_sdk.tuning.random_search import RandomSearch
from lmaas_sdk.tuning.restarts import Restarts
from lmaas_sdk.tuning.searches import make_optimizer
from lmaas_sdk.tuning.separable import SepCmaOptimizer

SEP = Preset("mine", algorithm="sep-cma-es", covariance="diagonal", population=8)


@pytest.mark.parametrize(
    ("preset", "kind"),
    [
        (PRESETS["paper"], PycmaOptimizer),
        (PRESETS["direct-search"], PycmaOptimizer),
        (SEP, SepCmaOptimizer),
        (PRESETS["random-search"], RandomSearch),
        (PRESETS["ipop"], Restarts),
    ],
)
def test_a_preset_makes_its_search(preset: Preset, kind: type) -> None:
    """The algorithm that it names, with its population and first step."""
    search = make_optimizer(preset, 30, 1)
    assert type(search) is kind
    assert (search.population_size, search.sigma) == (preset.population, preset.sigma0)
    assert search.ask().X.shape == (preset.population, 30)


def test_the_papers_search_is_the_one_it_was() -> None:
    """`paper` asks the bits of pycma with a full matrix and CSA."""
    made = make_optimizer(PRESETS["paper"], 40, 7)
    expected = PycmaOptimizer(40, population=20, sigma0=1.0, diagonal=False, step_size="csa", seed=7)
    for generation in range(3):
        assert made.ask().X.tobytes() == expected.ask().X.tobytes()
        for search in (made, expected):
            search.tell(generation, {index: float(x @ x) for index, x in enumerate(search.ask().X)})


@pytest.mark.parametrize(
    ("preset", "d", "named"),
    [
        (PRESETS["paper"], 51_200, "at most 4000 dimensions, not d = 51200"),
        (SEP, 1, "'sep-cma-es' searches in 2 dimensions or more, not 1"),
    ],
)
def test_impossible_sizes_are_refused(preset: Preset, d: int, named: str) -> None:
    """Before anything is computed, with what to do instead."""
    with pytest.raises(ValueError, match=named):
        make_optimizer(preset, d, 1)


@pytest.mark.parametrize("preset", [PRESETS["direct-search"], SEP, PRESETS["random-search"]], ids=lambda p: p.algorithm)
def test_a_whole_prompt_can_be_searched(preset: Preset) -> None:
    """51,200 dimensions: L 50 at hidden size 1024."""
    search = make_optimizer(preset, 51_200, 1)
    for generation in range(2):
        search.tell(generation, {index: float(x @ x) for index, x in enumerate(search.ask().X)})
    assert np.isfinite(search.ask().X).all()


def test_bits_of_the_papers_search_do_not_depend_on_the_number_of_blas_threads() -> None:
    """500 dimensions and a full matrix: a BLAS shares that work out, and would add in another order."""
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            search = make_optimizer(PRESETS["paper"], 500, 1)
            for generation in range(5):
                search.tell(generation, {index: float(x[0]) for index, x in enumerate(search.ask().X)})
            found.append((search.ask().X.tobytes(), search.sigma))
    assert found[0] == found[1]


def test_packages_are_imported_when_their_search_is_made() -> None:
    """Random search loads neither, and each algorithm only its own."""
    program = """
import sys
from lmaas_sdk import PRESETS, Preset
from lmaas_sdk.tuning.searches import make_optimizer
sep = Preset("mine", algorithm="sep-cma-es", covariance="diagonal")
for preset in (PRESETS["random-search"], sep, PRESETS["paper"]):
    make_optimizer(preset, 5, 1)
    print(*(name for name in ("cma", "cmaes") if name in sys.modules))
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == ["", "cmaes", "cma cmaes"]


def test_missing_values_of_a_separable_search_are_imputed_the_worst() -> None:
    """Telling half asks the same next generation as telling the rest with values that are worse."""
    half, whole = (make_optimizer(SEP, 6, 2) for _ in range(2))
    for generation in range(5):
        batch = half.ask()
        values = {index: float(batch.X[index] @ batch.X[index]) for index in (1, 3, 4, 6)}
        half.tell(generation, values)
        whole.ask()
        whole.tell(generation, dict.fromkeys((0, 2, 5, 7), max(values.values()) + 1.0) | values)
        assert half.ask().X.tobytes() == whole.ask().X.tobytes()


def test_of_more_values_a_separable_search_takes_the_best() -> None:
    """Extra candidates that are all worse than the population's do not move it."""
    more, usual = (make_optimizer(SEP, 6, 2) for _ in range(2))
    batch = more.ask(extra=3)
    assert batch.X[:8].tobytes() == usual.ask().X.tobytes()
    values = {index: float(index) for index in range(8)}
    more.tell(0, values | {8: 100.0, 9: 101.0, 10: 102.0})
    usual.tell(0, values)
    np.testing.assert_array_equal(more.mean, usual.mean)
    assert more.sigma == usual.sigma


def test_a_separable_search_says_when_it_would_stop() -> None:
    """`cmaes` gives no reason but that it should."""
    search = make_optimizer(Preset("mine", algorithm="sep-cma-es", covariance="diagonal", population=8), 2, 3)
    for generation in range(400):
        if search.warnings():
            break
        search.tell(generation, {index: float(x @ x) for index, x in enumerate(search.ask().X)})
    assert search.warnings() == ("should_stop",)


def test_random_search_draws_from_one_distribution() -> None:
    """N(0, sigma0^2 I) in every generation, whatever is told; its mean is the best of all, the first of equals."""
    search = RandomSearch(2, population=500, sigma0=2.0, seed=1)
    drawn = []
    for generation, lowest in enumerate((3.0, 1.0, 1.0, 2.0)):
        batch = search.ask()
        drawn.append(batch.X)
        search.tell(generation, dict.fromkeys(range(500), 9.0) | {7: lowest, 8: lowest})
    points = np.concatenate(drawn)
    assert np.abs(points.mean(axis=0)).max() < 0.2
    assert points.std(axis=0) == pytest.approx([2.0, 2.0], rel=0.05)
    assert search.mean.tolist() == drawn[1][7].tolist()
