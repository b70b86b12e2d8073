"""How rough the ground between recorded candidates is, told by how fast the run came down.

What a surrogate does not explain is noise to it, but not all of it need be noise to a search: a part is structure that
candidates of one generation share and too few of them were seen to tell. Left out, a search comes down too fast; added
as independent noise, too slowly. So a search like the run's own, with another seed, is tried with several parts of it,
and the part is taken with which it comes down most like the run did.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.planning.surrogate import Points, Surrogate
from lmaas_sdk.seeding import raw_words
from lmaas_sdk.tuning.optimizer import Optimizer

__all__ = ["draw_of", "fitting_roughness", "name_of"]

_PARTS = (0.0, 0.3, 1.0)
_MOST_EVALUATIONS = 2000  # so that it takes seconds
_CHECKPOINTS = 8
_UNIFORMS = 12


def fitting_roughness(points: Points, surrogate: Surrogate, make_search: Callable[[], Optimizer]) -> float:
    """The part of the noise with which a search comes down most like the run did.

    Args:
        points: What the run saw.
        surrogate: Fitted to them.
        make_search: Makes a fresh search like the run's own, of another seed.
    """
    count = min(len(points), _MOST_EVALUATIONS)
    recorded = np.minimum.accumulate(points.losses[:count])
    apart = [_apart(recorded, _curve(surrogate, make_search(), part, count)) for part in _PARTS]
    return _PARTS[int(np.argmin(apart))]


def name_of(z: NDArray[np.float32]) -> bytes:
    """A short name of a candidate's bits."""
    return hashlib.blake2b(np.ascontiguousarray(z, "<f4").tobytes(), digest_size=16).digest()


def draw_of(z: NDArray[np.float32]) -> float:
    """About N(0, 1), a function of the candidate: the centred sum of 12 uniforms."""
    words = raw_words(0, f"roughness/{name_of(z).hex()}", _UNIFORMS)
    return math.fsum((words >> np.uint64(11)).astype(np.float64) * 2.0**-53) - _UNIFORMS / 2


def _curve(surrogate: Surrogate, search: Optimizer, part: float, count: int) -> NDArray[np.float64]:
    """The lowest loss after each of so many evaluations: (count,)."""
    losses: list[float] = []
    while len(losses) < count:
        batch = search.ask()
        values = [surrogate.loss(z, draw=part * draw_of(z)) for z in batch.X.astype(np.float32)]
        search.tell(batch.generation, dict(enumerate(values)))
        losses += values
    curve: NDArray[np.float64] = np.minimum.accumulate(np.array(losses[:count]))
    return curve


def _apart(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """How far apart two curves are on average, in ratios of losses."""
    at = (np.arange(1, _CHECKPOINTS + 1) * len(first)) // _CHECKPOINTS - 1
    return float(np.abs(np.log(first[at] / second[at])).mean())
