"""CMA-ES by ask and tell: pycma, with its traps closed (Hansen 2016, arXiv:1604.00772).

What is closed here: pycma seeds numpy's global generator; its default step-size rule depends on version and dimension;
a NaN in `tell` becomes the median in silence and the caller's list is changed; it reads a file of signals from the
working directory; its bits depend on the number of BLAS threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.tuning.optimizer import Batch, StepSize, check_values

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
# one scan of the loaded libraries: limiting by a fresh controller would cost 1.9 ms a time
_blas = ThreadpoolController()


class PycmaOptimizer:
    """pycma with a full or diagonal covariance matrix.

    Args:
        d: Size of the search space; the search starts from 0.
        population: Candidates of a generation.
        sigma0: First step size.
        diagonal: Learn variances only (separable CMA-ES).
        step_size: `csa` or `tpa`; never left to pycma.
        seed: Of a generator of its own.
    """

    def __init__(
        self, d: int, *, population: int, sigma0: float, diagonal: bool, step_size: StepSize, seed: int
    ) -> None:
        normal = np.random.Generator(bit_generator(seed, "cma-es/1"))
        options = {
            "popsize": population,
            "AdaptSigma": _STEP_SIZE_RULES[step_size],
            "CMA_diagonal": diagonal,
            "seed": np.nan,  # "do nothing": numpy's global generator is left alone
            "randn": lambda *shape: normal.standard_normal(shape),
            "verbose": -10,
            "verb_log": 0,
            "signals_filename": "",
        }
        with _blas.limit(limits=1, user_api="blas"):
            self._es: Any = cma.CMAEvolutionStrategy(np.zeros(d), sigma0, options)
        self._two_point = step_size == "tpa"
        self._generation = 0
        self._asked: Batch | None = None

    @property
    def population_size(self) -> int:
        return int(self._es.popsize)

    @property
    def min_tell(self) -> int:
        return int(self._es.sp.weights.mu)

    @property
    def must_have(self) -> frozenset[int]:
        return frozenset({0, 1}) if self._two_point and self._generation > 0 else frozenset()

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.array(self._es.mean, dtype=np.float64)

    @property
    def sigma(self) -> float:
        return float(self._es.sigma)

    def ask(self, extra: int = 0) -> Batch:
        """The next generation; asked again before tell, the same one (pycma itself would draw anew, or raise)."""
        if self._asked is None:
            with _blas.limit(limits=1, user_api="blas"):
                X = np.array(self._es.ask(self.population_size + extra), dtype=np.float64)
            X.flags.writeable = False
            self._asked = Batch(self._generation, X)
        return self._asked

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        """See `Optimizer.tell`."""
        if generation == self._generation - 1 and self._asked is None:
            return
        if self._asked is None or generation != self._generation:
            raise ValueError(f"generation {self._generation} is the one to tell (after ask), not {generation}")
        check_values(self, self._asked, values)
        order = sorted(values)
        with _blas.limit(limits=1, user_api="blas"):
            self._es.tell([self._asked.X[index].copy() for index in order], [float(values[index]) for index in order])
        self._generation, self._asked = generation + 1, None

    def warnings(self) -> tuple[str, ...]:
        return tuple(sorted(str(reason) for reason in self._es.stop()))
