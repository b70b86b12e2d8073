"""The search that a preset names."""

from __future__ import annotations

from lmaas_sdk.tuning.optimizer import Optimizer
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.random_search import RandomSearch
from lmaas_sdk.tuning.restarts import Restarts

__all__ = ["make_optimizer"]


def make_optimizer(preset: Preset, d: int, seed: int) -> Optimizer:
    """A fresh search with the settings of a preset; what it needs is imported here and not before.

    Args:
        preset: The settings.
        d: Size of the search space: `Subspace.d`, which a preset does not know where its projection is `identity`.
        seed: Of all its random numbers.

    Raises:
        ValueError: The algorithm does not search in so many dimensions.
    """
    if preset.restarts == 0:
        return _one_search(preset, d, population=preset.population, seed=seed)
    return Restarts(
        lambda population, own_seed: _one_search(preset, d, population=population, seed=own_seed),
        population=preset.population,
        restarts=preset.restarts,
        seed=seed,
    )


def _one_search(preset: Preset, d: int, *, population: int, seed: int) -> Optimizer:
    if preset.algorithm == "random":
        return RandomSearch(d, population=population, sigma0=preset.sigma0, seed=seed)
    if preset.algorithm == "sep-cma-es":
        from lmaas_sdk.tuning.separable import SepCmaOptimizer  # noqa: PLC0415  (imports cmaes)

        return SepCmaOptimizer(d, population=population, sigma0=preset.sigma0, seed=seed)
    from lmaas_sdk.tuning.cmaes import PycmaOptimizer  # noqa: PLC0415  (pulls in scipy where it is installed)

    return PycmaOptimizer(
        d,
        population=population,
        sigma0=preset.sigma0,
        diagonal=preset.covariance == "diagonal",
        step_size=preset.step_size,
        seed=seed,
    )
