"""One cell: fit the method, predict the test rows, and note all that tables and comparisons need."""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.bench.configurations import Setup
from lmaas_sdk.bench.fitting import Fitting
from lmaas_sdk.methods import MethodPredictor, TrainingRecord
from lmaas_sdk.methods.feature_head import FeaturePredictor
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tasks.metrics import get_metric
from lmaas_sdk.tuning.predictor import Evaluation, evaluation
from lmaas_sdk.tuning.result import TuningResult

__all__ = ["Measured", "cell_fields", "measure", "packed", "unpacked"]


def packed(indices: NDArray[np.int64]) -> str:
    """Class indices, one byte each, in base64.

    Raises:
        ValueError: There are more than 256 classes.
    """
    if indices.size and indices.max() > np.iinfo(np.uint8).max:
        raise ValueError(f"class {indices.max()} does not fit into a byte: results are kept for up to 256 classes")
    return base64.b64encode(indices.astype(np.uint8).tobytes()).decode("ascii")


def unpacked(text: str) -> NDArray[np.int64]:
    """What `packed` wrote."""
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a cell came to.

    Args:
        stopped: Why the search ended; without one "budget" where that ended a training, else "done".
        fields: What is noted of it; empty where the search was interrupted.
        generation: Evaluations that a generation of the search takes: fewer that are left pay for none.
    """

    stopped: str
    fields: Mapping[str, Any]
    generation: float = 0.0


def cell_fields(cell: Cell) -> dict[str, Any]:
    """What a cell is, in plain values for JSON."""
    task, configuration = cell.task, cell.configuration
    return {
        "key": cell.key,
        "configuration": configuration.name,
        **({} if configuration.swept is None else {"sweep": list(configuration.swept)}),
        "title": configuration.title,
        "method": configuration.method,
        "settings": dict(cell.settings),
        "evaluations_limit": cell.evaluations,
        "seed": cell.seed if configuration.is_seeded else None,
        "task": task.name,
        "question": {name: value for name, value in task.to_wire().items() if name != "source"},
        "metric": task.metric,
        "rows": {"train": len(cell.train), "dev": len(cell.dev), "test": len(cell.test)},
        "shots": min(cell.train.class_counts),
        "digests": {"train": cell.train.digest, "dev": cell.dev.digest, "test": cell.test.digest},
        "model": dict(cell.model),
    }


async def measure(cell: Cell, setup: Setup, fitting: Fitting) -> Measured:
    """Fits and evaluates.

    Args:
        cell: What to measure.
        setup: What its method is made with.
        fitting: Is told of the method, so that it can be stopped.

    Raises:
        LmaasError, OSError, ValueError: What making the method, `fit` and scoring raise.
    """
    method = await asyncio.to_thread(cell.configuration.make, setup)
    with fitting.of(method):
        began = asyncio.get_running_loop().time()
        predictor = await method.fit(cell.train, cell.dev)
        fit_s = asyncio.get_running_loop().time() - began
    result = getattr(predictor, "result", None)
    stopped = str(getattr(result, "stopped", None) or _training_stopped(predictor))
    if stopped == "interrupted":
        if (failure := getattr(result, "failure", None)) is not None:
            raise failure
        return Measured(stopped, {})
    spent = predictor.spend.to_dict()
    found = _searched(result) if isinstance(result, TuningResult) else _trained(predictor)
    if found.get("dev") is None:
        found["dev"] = _scores(await predictor.evaluate(cell.dev, purpose="dev"))
    found["test"] = await _tested(predictor, cell.test)
    return Measured(
        stopped,
        {
            "stopped": stopped,
            "evaluations": spent["total"]["evaluations"],
            **found,
            "fit_s": round(fit_s, 3),
            "spend_of_fit": spent,
            "spend": predictor.spend.to_dict(),
            "unknown_outcomes": predictor.spend.unknown_outcomes,
        },
        _generation(result) if isinstance(result, TuningResult) else 0.0,
    )


async def _tested(predictor: MethodPredictor, test: Dataset) -> dict[str, Any]:
    """The metric with its interval, and every single prediction: what a paired comparison needs."""
    logits, shortened = await predictor.scored(test.fields, "test")
    found = await asyncio.to_thread(evaluation, logits, test, shortened=shortened)
    predictions = logits.argmax(axis=1).astype(np.int64)
    majority = np.full(len(test), int(np.argmax(test.class_counts)), dtype=np.int64)
    return {
        **_scores(found),
        "interval": None if found.interval is None else list(found.interval),
        "accuracy": float(np.mean(predictions == test.labels)),
        "shortened": shortened,
        "labels": packed(test.labels),
        "predictions": packed(predictions),
        "majority_rate": max(test.class_counts) / len(test),
        "majority_metric": _finite(get_metric(test.task.metric)(test.labels, majority)),
    }


def _scores(found: Evaluation) -> dict[str, Any]:
    return {"value": _finite(found.value), "cross_entropy": _finite(found.cross_entropy), "n_texts": found.n_texts}


def _searched(result: TuningResult) -> dict[str, Any]:
    """What a search says of itself: its choice, and the dev metric along the way."""
    choice = {
        name: _finite(value) if isinstance(value, float) else value for name, value in result.choice.to_row().items()
    }
    generations = {event.generation: event.evaluations for event in result.generations}
    looks = [(generations.get(look.generation), look.dev) for look in result.dev_scored]
    return {
        "evaluations": result.evaluations,
        "chosen_by": result.chosen_by,
        "choice": choice,
        "found_at": generations.get(result.choice.generation),
        "dev": None if result.choice.dev is None else _scores(result.choice.dev),
        "dev_curve": [[at, _finite(dev.value)] for at, dev in looks if at is not None and dev is not None],
        "search_s": round(result.wall_s, 3),
        "warnings": list(result.warnings),
    }


def _trained(predictor: MethodPredictor) -> dict[str, Any]:
    """What a training by gradients says of itself, none of which is a call; nothing, of another method."""
    training = getattr(predictor, "training", None)
    if not isinstance(training, TrainingRecord):
        return {}
    names = ("epochs", "steps", "tokens", "chosen", "stopped")
    return {"training": {name: getattr(training, name) for name in names}}


def _training_stopped(predictor: MethodPredictor) -> str:
    """Whether a budget ended it; one that ended at a plateau is as done as one that took all its epochs."""
    told = predictor if isinstance(predictor, FeaturePredictor) else getattr(predictor, "training", None)
    return "budget" if getattr(told, "stopped", "done") == "budget" else "done"


def _generation(result: TuningResult) -> float:
    reached = [0.0, *(float(event.evaluations) for event in result.generations)]
    return max((after - before for before, after in itertools.pairwise(reached)), default=0.0)


def _finite(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return float(value) if math.isfinite(value) else None
