"""CMA-ES by ask and tell: pycma, with its traps closed (Hansen 2016, arXiv:1604.00772).

What is closed here: pycma seeds numpy's global generator; its default step-size rule depends on version and dimension;
a NaN in `tell` becomes the median in silence and the caller's list is changed; it reads a file of signals from the
working directory; its bits depend on the number of BLAS threads.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.tuning.blas import one_blas_thread
from lmaas_sdk.tuning.generations import Generations
from lmaas_sdk.tuning.optimizer import StepSize, check_covariance_size

with warnings.catch_warnings():  # without matplotlib it warns that it cannot plot; nothing here asks it to
    warnings.filterwarnings("ignore", message="Could not import matplotlib", category=UserWarning)
    import cma

__all__ = ["PycmaOptimizer"]


class _TwoPointAdaptation(cma.sigma_adaptation.CMAAdaptSigmaTPA):  # type: ignore[misc]
    """TPA without pycma's spot check of its two points, which draws from numpy's global generator.

    What it would check is guaranteed by `PycmaOptimizer.must_have`.
    """

    def check_consistency(self, es: Any) -> None:
        pass


_STEP_SIZE_RULES = {
    "csa": cma.sigma_adaptation.CMAAdaptSigmaCSA,  # cumulative path length (Hansen 2016, section 4.1)
    "tpa": _TwoPointAdaptation,  # two points on the line of the last step (Hansen 2008)
}

_LEAST_TOLD = 3  # fewer are refused by pycma


class PycmaOptimizer(Generations):
    """pycma with a full or diagonal covariance matrix.

    Told fewer or more values than the population, it moves to the weighted mean of the `mu` best of those, and the
    middle ranks' weights are left out or 0: with more, selection is sharper.

    Args:
        d: Size of the search space; the search starts from 0.
        population: Candidates of a generation.
        sigma0: First step size.
        diagonal: Learn variances only (separable CMA-ES).
        step_size: `csa` or `tpa`; never left to pycma.
        seed: Of a generator of its own.

    Raises:
        ValueError: A full matrix in so many dimensions is not feasible.
    """

    def __init__(
        self, d: int, *, population: int, sigma0: float, diagonal: bool, step_size: StepSize, seed: int
    ) -> None:
        super().__init__()
        if not diagonal:
            check_covariance_size(d)
        normal = np.random.Generator(bit_generator(seed, "cma-es/1"))
        options = {
            "popsize": population,
            "AdaptSigma": _STEP_SIZE_RULES[step_size],
            "CMA_diagonal": diagonal,
            "CMA_mirrors": 0,  # else below 6 candidates some are mirrored ones, which may not be missing for long
            "seed": np.nan,  # "do nothing": numpy's global generator is left alone
            "randn": lambda *shape: normal.standard_normal(shape),
            "verbose": -10,
            "verb_log": 0,
            "signals_filename": "",
        }
        with one_blas_thread():
            self._es: Any = cma.CMAEvolutionStrategy(np.zeros(d), sigma0, options)
        self._two_point = step_size == "tpa"

    @property
    def population_size(self) -> int:
        return int(self._es.popsize)

    @property
    def min_tell(self) -> int:
        return max(_LEAST_TOLD, int(self._es.sp.weights.mu))

    @property
    def must_have(self) -> frozenset[int]:
        """The two points of the line search (TPA): pycma puts them first, also when it is asked for more."""
        return frozenset({0, 1}) if self._two_point and self._generation > 0 else frozenset()

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.array(self._es.mean, dtype=np.float64)

    @property
    def sigma(self) -> float:
        return float(self._es.sigma)

    def warnings(self) -> tuple[str, ...]:
        return tuple(sorted(str(reason) for reason in self._es.stop()))

    def _draw(self, count: int) -> NDArray[np.float64]:
        with one_blas_thread():
            return np.array(self._es.ask(count), dtype=np.float64)

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        with one_blas_thread():
            self._es.tell([X[index].copy() for index in values], list(values.values()))
