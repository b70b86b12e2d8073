"""What a run found, what it cost, and how to use it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.accounting.spend import Spend
from lmaas_sdk.backend import Backend
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.traffic.waits import Cause
from lmaas_sdk.tuning.events import DevScored, GenerationDone, dev_scored_of, generations_of
from lmaas_sdk.tuning.predictor import Evaluation, Predictor
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.run_file import record_of, save_record
from lmaas_sdk.tuning.selection import Choice, ChosenBy

if TYPE_CHECKING:
    from lmaas_sdk.planning.estimated import Estimate

__all__ = ["ResultCore", "Stopped", "TuningResult", "limits_in_force"]

Stopped = Literal["budget", "quota", "plateau", "target", "interrupted", "done"]


@dataclass(frozen=True, slots=True)
class ResultCore:
    """What is the same, byte for byte, whenever the same run is repeated on one machine.

    Args:
        settings: Preset, scheduling, seed, subspace and the digests of the data; `losses` where those of the search are
            no float32.
        choice: The candidate that was returned, and what it was chosen by.
        losses: The train loss of every candidate, by generation, as the search saw it; None for one that has none.
        curve: A row a generation: evaluations, best, median and lowest loss, sigma.
        dev: A row for every candidate that was scored on dev.
        evaluations: Candidates scored over the training set, those scored again included.
    """

    settings: dict[str, object]
    choice: dict[str, object]
    losses: tuple[tuple[float | None, ...], ...]
    curve: tuple[dict[str, float], ...]
    dev: tuple[dict[str, object], ...]
    evaluations: int | float

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, eq=False)
class TuningResult:
    """The outcome of `Tuner.fit`.

    Args:
        core: What repeats byte for byte.
        prompt: The tuned prompt: `result.prompt.save("sst2.prompt")`.
        choice: The candidate behind it.
        chosen_by: `dev_metric`, or where there was no dev set `train_loss`, or `search_mean` where losses are noisy.
        noise: Standard deviation of one evaluation of the train loss, where a backend that does not claim to repeat
            itself was measured.
        stopped: Why the run ended: "budget"; "quota": a wait would have been too long; "plateau": nothing got better;
            "target": dev came up to what was asked for; "done": the search asks for nothing new; "interrupted": by
            `Tuner.stop`, or by `failure`.
        failure: The error that ended the run, if one did.
        test: Its evaluation on the test set that was asked for.
        manual: The manual prompt's evaluation on the same set, where that was asked for.
        spend: By purpose.
        budget: The limits of the run.
        wall_s: Seconds from start to end.
        waits: Seconds of this process by cause, during which at least one call waited for it: "quota", by the client's
            own count; "rate_limit", as a 429 asked for it; "retry", after another failure; "outage", for a backend
            that was away; "turn", for other runs of a group. Waits side by side count once, so that none of the five
            is more than `fit` took.
        versions: Packages, and the engine's fingerprint.
        warnings: Reasons the optimiser gave why it might have stopped, and what could not be scored.
        shortened: Texts that lost words to fit the model, by data set.
        history: Every event of the run, in order.
        sources: What was spent before this run on what it starts from, by option (`base`, `projection`); empty where
            nobody said. It is in no other figure here.
        estimate: What it was expected to come to, given or worked out before the first call; None: nothing but time
            limited it.
        actual: What the quantities of the estimate came to; None: nobody knows.
    """

    core: ResultCore
    prompt: TunedPrompt
    choice: Choice
    chosen_by: ChosenBy
    noise: float | None
    stopped: Stopped
    failure: LmaasError | None
    test: Evaluation | None
    manual: Evaluation | None
    spend: Spend
    budget: dict[str, object]
    wall_s: float
    waits: Mapping[Cause, float]
    versions: dict[str, str]
    warnings: tuple[str, ...]
    shortened: dict[str, int]
    history: tuple[GenerationDone | DevScored, ...] = field(repr=False)
    predictor: Predictor = field(repr=False)
    sources: Mapping[str, Spend] = field(default_factory=dict, repr=False)
    estimate: Estimate | None = field(default=None, repr=False)
    actual: Mapping[str, float | None] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """The essentials, in a few lines."""
        from lmaas_sdk.reporting.result_tables import result_lines  # noqa: PLC0415  (only people need it)

        return "\n".join(result_lines(self))

    def _repr_html_(self) -> str:
        """The same and the spend, for a notebook."""
        from lmaas_sdk.reporting.result_tables import result_html  # noqa: PLC0415  (only people need it)

        return result_html(self)

    @property
    def evaluations(self) -> int | float:
        return self.core.evaluations

    @property
    def generations(self) -> list[GenerationDone]:
        """The generations, in order."""
        return generations_of(self.history)

    @property
    def dev_scored(self) -> list[Choice]:
        """The candidates that were scored on the dev set, in order."""
        return dev_scored_of(self.history)

    @property
    def spent(self) -> Amounts:
        """All that was posted, predictions made from this result included."""
        return self.spend.total

    async def predict(self, items: Sequence[Fields]) -> list[str]:
        """The label of each text, paid from the budget that the tuner was given; without one there is no limit."""
        return await self.predictor.predict(items)

    async def evaluate(self, dataset: Dataset) -> Evaluation:
        """The task's metric on a labelled set, paid as `predict` is."""
        return await self.predictor.evaluate(dataset)

    def use(self, backend: Backend, *, budget: Budget | None = None) -> Predictor:
        """The prompt on another connection or budget."""
        return Predictor.tuned(backend, self.prompt, budget=budget)

    def to_dict(self) -> dict[str, object]:
        """The run as plain values for JSON; the keys are the same in every command that reports a run.

        `evaluations` are the candidates that the search learned from and those scored again; those charged, a
        generation that a limit cut short included, are in `spend`.
        """
        spent = self.spent
        return {
            "task": self.prompt.task.name,
            "model": self.prompt.model,
            "metric": self.prompt.task.metric,
            "manual_accuracy": None if self.manual is None else self.manual.value,
            "manual_interval": _interval(self.manual),
            "tuned_accuracy": None if self.test is None else self.test.value,
            "tuned_interval": _interval(self.test),
            "evaluations": self.evaluations,
            "calls": spent.calls,
            "tokens": spent.tokens,
            "cost_usd": float(usd(spent.nanousd)),
            "spend": self.spend.to_dict(),
            "sources": {option: spend.to_dict() for option, spend in self.sources.items()},
            "unknown_outcomes": self.spend.unknown_outcomes,
            "budget": self.budget,
            "stopped": self.stopped,
            "failure": None if self.failure is None else str(self.failure),
            "chosen_by": self.chosen_by,
            "choice": self.choice.to_dict(),
            "evaluation_noise": self.noise,
            "wall_s": round(self.wall_s, 3),
            "waits": {cause: round(seconds, 3) for cause, seconds in self.waits.items()},
            "estimate": None if self.estimate is None else self.estimate.against(self.actual),
            "shortened": self.shortened,
            "prompt_file": None,
            "prompt_sha256": hashlib.sha256(self.prompt.to_bytes()).hexdigest(),
            "versions": self.versions,
            "warnings": list(self.warnings),
        }

    def to_record(self) -> dict[str, Any]:
        """The run as plain values for a run file: `to_dict`, `core`, and `history`, what happened and when."""
        return record_of(self)

    def save(self, path: str | Path) -> Path:
        """Writes the run file, which `read_run` and `lmaas report` read; the prompt has a file of its own.

        Raises:
            RunFileError: It cannot be written there.
        """
        return save_record(self.to_record(), path)


def _interval(found: Evaluation | None) -> list[float] | None:
    return None if found is None or found.interval is None else list(found.interval)


def limits_in_force(budget: Budget) -> dict[str, object]:
    """The limits that bind a run, its budget's own and those above, for JSON; money in dollars."""
    least: dict[str, object] = {}
    for unit in ("calls", "evaluations", "tokens", "nanousd", "wall_s"):
        limits = [limit for above in budget.line() if (limit := above.limits[unit]) is not None]
        least[unit] = min(limits, default=None)
    money = least.pop("nanousd")
    return {**least, "usd": float(usd(money)) if isinstance(money, int) else None}
