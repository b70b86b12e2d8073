"""What a measuring process asks of a user's process, and what that one tells: JSON lines through pipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lmaas_sdk.bench.memory import PeakMemory
from lmaas_sdk.tasks import Dataset, Example, Task

__all__ = ["UserJob", "UserReport"]


@dataclass(frozen=True, slots=True)
class UserJob:
    """One method on one task, as its user runs it.

    Args:
        configuration: Name of the method with its settings.
        model: What `load_backend` opens: a server's URL, or a model's name where `in_process`.
        in_process: Whether the model is computed in the user's own process.
        threads: That compute there; None: as many as the backend takes by itself.
        evaluations: The budget.
        seed: Of the method.
        train, dev, test: The data, which carry their task.
    """

    configuration: str
    model: str
    in_process: bool
    threads: int | None
    evaluations: int
    seed: int
    train: Dataset
    dev: Dataset
    test: Dataset

    def to_wire(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sets = {"train": self.train, "dev": self.dev, "test": self.test}
        return {
            "configuration": self.configuration,
            "model": self.model,
            "in_process": self.in_process,
            "threads": self.threads,
            "evaluations": self.evaluations,
            "seed": self.seed,
            "task": self.train.task.to_wire(),
            **{name: [[list(row.fields), row.label] for row in dataset] for name, dataset in sets.items()},
        }

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> UserJob:
        """Reads what `to_wire` wrote; it comes from our own parent process."""
        task = Task.from_wire(value["task"])
        train, dev, test = (_dataset(task, value[name], name) for name in ("train", "dev", "test"))
        return cls(
            value["configuration"],
            value["model"],
            value["in_process"],
            value["threads"],
            value["evaluations"],
            value["seed"],
            train,
            dev,
            test,
        )


@dataclass(frozen=True, slots=True)
class UserReport:
    """What a user's process tells of itself at its end.

    Args:
        method: Name of the method.
        metric, test_metric: The task's metric, and what the predictor has of it on the test set.
        training_time_s: Of `fit`, by the clock.
        evaluations: Candidates scored over the training set.
        tokens: Billed, in all.
        shortened: Texts that lost words to fit the model, beside those that were cut before.
        kept_bytes: What the predictor keeps for its task: arrays, and settings as JSON.
        peak_before_fit, peak_after_fit, peak: Its own peak memory: with model or connection open, after `fit`, and
            after the test set.
        loads_torch: Whether torch was imported.
        purposes: What for each idempotency key was sent, by key.
        attempts: Requests that the ledger has as sent, by purpose.
    """

    method: str
    metric: str
    test_metric: float
    training_time_s: float
    evaluations: float
    tokens: int
    shortened: int
    kept_bytes: int
    peak_before_fit: PeakMemory
    peak_after_fit: PeakMemory
    peak: PeakMemory
    loads_torch: bool
    purposes: Mapping[str, str]
    attempts: Mapping[str, int]

    def to_wire(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> UserReport:
        """Reads what `to_wire` wrote; it comes from our own child process."""
        peaks = {name: PeakMemory(**value[name]) for name in ("peak_before_fit", "peak_after_fit", "peak")}
        return cls(**{**value, **peaks})


def _dataset(task: Task, rows: list[tuple[list[str], int]], name: str) -> Dataset:
    return Dataset(task, tuple(Example(tuple(fields), label) for fields, label in rows), name)
