"""The checks of a device that need no server: exactness, speed, ranks in fewer bits, sameness.

Each takes a `Bench` and gives its figures with the bars that they are held against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine_variants import Variant
from benchmarks.gpu_ways import CANDIDATES, Bench, Memory, Taken, draw, engine_scores, gb, take_turn
from lmaas_backends.roberta.flops import WAYS
from lmaas_backends.roberta.loading import load_engine
from lmaas_sdk.tuning.objective import cross_entropy

__all__ = ["Found", "bar", "parity", "ranks", "sameness", "spearman", "speed"]

ERROR_BAR = 1e-5
CLOSE = 1e-3  # standard deviation of the losses of candidates late in a run
_COMPARED = 2  # candidates that the processor scores, too
_Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a part found: its figures, and its bars as `bar` makes them."""

    figures: Any
    bars: Sequence[Mapping[str, Any]] = ()


def bar(
    what: str, measured: Any, *, at_most: float | None = None, at_least: float | None = None, aim: Any = None
) -> Any:
    """A bar beside what was measured; with neither bound, `measured` is whether it holds."""
    passed = bool(measured) if at_most is None and at_least is None else True
    passed &= at_most is None or measured <= at_most
    passed &= at_least is None or measured >= at_least
    told = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}" if at_least is not None else "holds"
    return {"what": what, "bar": told, "aim": aim, "measured": measured, "passed": passed}


def parity(bench: Bench) -> Found:
    """Largest errors of logits: on the device against the processor, and against transformers' own model there."""
    Z = draw(_COMPARED, seed=1)
    with_processor = load_engine(str(bench.folder), linears="plain")
    try:
        processor = engine_scores(with_processor, bench.corpus)(Z)
    finally:
        with_processor.close()
    found: dict[str, NDArray[np.float32]] = {name: way.score(Z) for name, way in bench.ways.items()}
    exact, naive = found["engine float32"], found["naive float32"]
    errors = {"processor, plain float32": _apart(exact, processor), "naive float32": _apart(exact, naive)}
    bars = [bar(f"engine float32: largest error against {name}", at, at_most=ERROR_BAR) for name, at in errors.items()]
    return Found(
        {
            "candidates": _COMPARED,
            "largest_logit": _rounded(float(np.abs(naive).max())),
            "engine_float32_against": errors,
            "against_naive_float32": {name: _apart(one, naive) for name, one in found.items()},
        },
        bars,
    )


def speed(bench: Bench) -> Found:
    """One generation by every way, in turn; ratios to `naive`, operations a second, memory."""
    taken: dict[str, list[Taken]] = {name: [] for name in bench.ways}
    for way in bench.ways.values():
        way.score(draw(bench.candidates, seed=2))  # which builds what is built once, in the sizes that are measured
    for turn in range(bench.rounds):
        for name, way in bench.ways.items():
            taken[name].append(take_turn(bench, way, draw(bench.candidates, seed=3 + turn)))
    rows = [_row(bench, bench.ways[name], turns, taken) for name, turns in taken.items()]
    count = {name: WAYS[name](bench.shape, bench.corpus.work(bench.candidates)) for name in ("naive", "engine")}
    bounds = {"at_least": 1.0, "aim": round(count["naive"] / count["engine"], 2)}
    ratios = {row["way"]: row for row in rows}
    bars = [
        bar(
            f"engine {dtype}: times faster than naive {dtype}",
            ratios[f"engine {dtype}"][f"times_naive_{dtype}"],
            **bounds,
        )
        for dtype in bench.naive_dtypes
        if {f"engine {dtype}", f"naive {dtype}"} <= ratios.keys()
    ]
    return Found({"candidates": bench.candidates, "rows": rows, "memory": Memory(bench.device).of_the_process()}, bars)


def _row(bench: Bench, way: Variant, turns: Sequence[Taken], taken: Mapping[str, Sequence[Taken]]) -> dict[str, Any]:
    work = bench.corpus.work(bench.candidates)
    operations, useful = WAYS[way.way](bench.shape, work), WAYS["engine"](bench.shape, work)
    seconds = [turn.seconds for turn in turns]
    loaded = f"{'engine' if way.way == 'engine' else 'naive'} {way.dtype}"
    ratios = {
        f"times_naive_{dtype}": round(
            median(one.seconds / turn.seconds for one, turn in zip(taken[f"naive {dtype}"], turns, strict=True)), 2
        )
        for dtype in bench.naive_dtypes
        if f"naive {dtype}" in taken
    }
    return {
        "way": f"{way.name} {way.dtype}",
        "seconds": [round(one, 5) for one in seconds],
        "median_s": round(median(seconds), 5),
        "tflop": round(operations / 1e12, 3),
        "tflop_a_second": round(operations / 1e12 / median(seconds), 2),
        "useful_tflop_a_second": round(useful / 1e12 / median(seconds), 2),
        **ratios,
        "weights_gb": gb(bench.weights[loaded]),
        "scoring_gb": gb(max(turn.peak for turn in turns)),
    }


def ranks(bench: Bench) -> Found:
    """How well fewer bits rank 20 candidates, and whether `precise` queries have the bits of float32.

    `early` candidates are z ~ N(0, I); `late` ones the last that a search asked for; `close` are those, nearer to
    their mean until their losses differ by about 1e-3, as late in a run on a trained model.
    """
    exact = engine_scores(bench.engines["float32"], bench.corpus)
    sets = {"early": draw(CANDIDATES, seed=4)}
    if bench.last_generation:
        sets["late"] = bench.last_generation[-1]
    sets["close"] = _drawn_together(bench, sets.get("late", sets["early"]), exact)
    logits = {when: exact(Z) for when, Z in sets.items()}
    fewer = [dtype for dtype in bench.dtypes[1:] if dtype in bench.engines]
    figures = {
        when: {"spread_of_losses": _rounded(float(_losses(bench, logits[when]).std()))}
        | {dtype: _ranked(bench, dtype, Z, logits[when]) for dtype in fewer}
        for when, Z in sets.items()
    }
    bars = [_precise(bench, dtype, sets["early"], logits["early"]) for dtype in fewer]
    return Found(figures, bars)


def _ranked(bench: Bench, dtype: str, Z: NDArray[np.float32], exact: NDArray[np.float32]) -> dict[str, float]:
    found = engine_scores(bench.engines[dtype], bench.corpus)(Z)
    losses, expected = _losses(bench, found), _losses(bench, exact)
    return {
        "spearman": round(spearman(losses, expected), 3),
        "largest_error_of_a_loss": _rounded(float(np.abs(losses - expected).max())),
        "largest_error_of_a_logit": _apart(found, exact),
    }


def _precise(bench: Bench, dtype: str, Z: NDArray[np.float32], exact: NDArray[np.float32]) -> Any:
    found = engine_scores(bench.engines[dtype], bench.corpus, precise=True)(Z)
    return bar(f"engine {dtype}: precise queries have the bits of float32", found.tobytes() == exact.tobytes())


def _drawn_together(bench: Bench, Z: NDArray[np.float32], exact: _Score) -> NDArray[np.float32]:
    """The candidates, nearer to their mean: by how much is found in two steps, losses being nearly linear there."""
    mean = Z.mean(axis=0)
    for _ in range(2):
        spread = float(_losses(bench, exact(Z)).std())
        Z = (mean + min(1.0, CLOSE / spread) * (Z - mean)).astype(np.float32) if spread > 0 else Z
    return Z


def _losses(bench: Bench, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([cross_entropy(one, bench.train.labels) for one in logits])


def sameness(bench: Bench) -> Found:
    """The same call twice has the same bits, whatever was scored in between."""
    Z, other = draw(CANDIDATES, seed=5), draw(3, seed=6)
    bars, figures = [], {}
    for dtype in bench.engines:
        score = engine_scores(bench.engines[dtype], bench.corpus)
        first = score(Z)
        score(other)
        bars.append(bar(f"engine {dtype}: the same call twice, the same bits", score(Z).tobytes() == first.tobytes()))
        figures[f"{dtype}, alone or among 20"] = _apart(score(Z[:1]), first[:1])
    return Found(figures, bars)


def spearman(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Rank correlation: Pearson's of the ranks, equal values sharing the mean of theirs."""
    return float(np.corrcoef(_ranks(some), _ranks(others))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.sort(values)
    edges = [0, *(np.flatnonzero(np.diff(order)) + 1).tolist(), len(order)]
    shared = np.concatenate([np.full(end - start, (start + end - 1) / 2) for start, end in pairwise(edges)])
    return shared[np.searchsorted(order, values)]


def _apart(some: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    return _rounded(float(np.abs(some - others).max()))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
