"""Black-box tuning (Sun et al. 2022): `Tuner` as one method among others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.client import Client
from lmaas_sdk.errors import PredictorFileError
from lmaas_sdk.methods.calibrating import Calibrating, Calibration, checked_calibration
from lmaas_sdk.methods.calibration import calibrated
from lmaas_sdk.methods.method import Kept, MethodPredictor, task_of
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.planning.estimated import Estimate
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.events import Listener
from lmaas_sdk.tuning.journal import Durability
from lmaas_sdk.tuning.optimizer import MakeOptimizer
from lmaas_sdk.tuning.predictor import Predictor
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.start import Base, Projection
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["BlackBoxPredictor", "BlackBoxTuning", "FitOptions", "SearchOptions", "TunerOptions", "saved_prompt"]

_Kind = TypeVar("_Kind", bound="BlackBoxPredictor")


class SearchOptions(TypedDict, total=False):
    """What `Tuner` takes beside the backend, the budget and the journal."""

    preset: str | Preset
    seed: int
    scheduling: Scheduling | None
    optimizer: MakeOptimizer | None
    durability: Durability
    retry: RetryPolicy | None
    quotas: str | Limits | Mapping[str, Limits] | None
    cache: ReplyCache | bool
    options: Mapping[str, Any] | None
    base: Base | None
    projection: Projection | None


class TunerOptions(SearchOptions, total=False):
    """All that `Tuner` takes beside the backend."""

    budget: Budget | None
    journal: str | Path | None


class FitOptions(TypedDict, total=False):
    """All that `Tuner.fit` takes beside the data to tune on and to choose by."""

    test: Dataset | None
    compare_manual: bool
    max_wait_s: float | None
    target: float | None
    on_event: Listener | None
    estimate: Estimate | None


class BlackBoxTuning:
    """Searches for a soft prompt by inference calls alone.

    Args:
        backend: The model.
        calibration: Whether the predictor divides by its own mean prediction, once the prompt is tuned: "prior": on the
            texts given to `fit`, whose labels are not looked at (Zhou et al. 2023, arXiv:2309.17249); "contextual": on
            inputs without content (Zhao et al. 2021, arXiv:2102.09690). None: it does not.
        options: As of `Tuner`.

    Attributes:
        tuner: What does it.

    Raises:
        TypeError, ValueError, Unsupported: As of `Tuner`; the calibration is unknown.
    """

    name: ClassVar[str] = "black-box"

    def __init__(
        self, backend: Backend, *, calibration: Calibration | None = None, **options: Unpack[TunerOptions]
    ) -> None:
        self.calibration = checked_calibration(calibration)
        self.tuner = Tuner(backend, **options)

    @classmethod
    def of(cls, tuner: Tuner, *, calibration: Calibration | None = None) -> BlackBoxTuning:
        """The method that a tuner is: one that goes on with a journal, say."""
        method = cls.__new__(cls)
        method.tuner, method.calibration = tuner, checked_calibration(calibration)
        return method

    async def fit(
        self,
        train: Dataset,
        dev: Dataset | None = None,
        *,
        unlabelled: Sequence[Fields] | None = None,
        **options: Unpack[FitOptions],
    ) -> BlackBoxPredictor:
        """Tunes until the budget ends, and predicts with the best prompt so far; what it raises, `Tuner.fit` does.

        What calibration will cost is set aside first. A run that was interrupted, or whose time or backend is at an
        end, gives a predictor that is not calibrated, with a warning in the log.

        Args:
            train, dev: Examples to tune on, and to choose by.
            unlabelled: Texts to calibrate on, in the place of those of `train`; more of them are better.
            options: As of `Tuner.fit`; its `test` is looked at before the calibration.
        """
        calibrating = Calibrating.of(self.calibration, task_of(train, dev), train.fields, unlabelled)
        return await self._fitted(BlackBoxPredictor, calibrating, train, dev, options)

    async def _fitted(
        self,
        kind: type[_Kind],
        calibrating: Calibrating | None,
        train: Dataset,
        dev: Dataset | None,
        options: FitOptions,
    ) -> _Kind:
        """A predictor of that kind, calibrated where that is wanted."""
        if calibrating is None:
            result = await self.tuner.fit(train, dev, **options)
            return kind(result.predictor, result)
        async with calibrating.set_aside(self.tuner) as aside:
            result = await self.tuner.fit(train, dev, **options)
            return await calibrating.calibrated(kind(result.predictor, result), aside)


class BlackBoxPredictor(MethodPredictor):
    """Predicts with a tuned prompt.

    Args:
        predictor: One that has such a prompt.
        result: How it was found; None: it comes from a file.
        prior: (n_labels,) float32, the logarithm of what is divided by; None: nothing is.
        rounds: All searches that it took, where there was more than one.

    Attributes:
        prompt: The prompt.
        predictor: The same without calibration.
    """

    name: ClassVar[str] = BlackBoxTuning.name

    def __init__(
        self,
        predictor: Predictor,
        result: TuningResult | None = None,
        *,
        prior: NDArray[np.float32] | None = None,
        rounds: tuple[TuningResult, ...] = (),
    ) -> None:
        if predictor.prompt is None:
            raise ValueError("a predictor with a tuned prompt is wanted, and this one has none: use ManualPrompt")
        super().__init__(predictor.client, predictor.task)
        self.prompt, self.result, self.prior = predictor.prompt, result, prior
        self.predictor, self.rounds = predictor, rounds

    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        logits, shortened = await self.predictor.score(self.task.text_set(items), purpose)
        return calibrated(logits, self.prior), shortened

    def with_prior(self, prior: NDArray[np.float32]) -> Self:
        """The same prompt and client, calibrated."""
        return type(self)(self.predictor, self.result, prior=prior, rounds=self.rounds)

    def kept(self) -> Kept:
        return {"prompt": self.prompt.to_wire()}, {} if self.prior is None else {"log_prior": self.prior}

    @classmethod
    def restored(cls, saved: SavedPredictor, client: Client) -> BlackBoxPredictor:
        """What `saved` was made of.

        Raises:
            PredictorFileError: It holds no tuned prompt, or one of another task.
            PromptFileError: The prompt makes no sense, or is another model's.
        """
        prior = saved.arrays.get("log_prior")
        prompt = saved_prompt(saved, {} if prior is None else {"log_prior": (len(saved.task.labels),)})
        return cls(Predictor(client, prompt.task, prompt), prior=prior)


def saved_prompt(saved: SavedPredictor, shapes: Mapping[str, tuple[int, ...]] | None = None) -> TunedPrompt:
    """The prompt of a predictor that keeps little else.

    Args:
        saved: From a file.
        shapes: Of the arrays beside the prompt; None: there are none.

    Raises:
        PredictorFileError: It keeps something else, or a prompt of another task.
        PromptFileError: The prompt makes no sense.
    """
    saved.expect(settings=("prompt",), shapes=shapes or {})
    prompt = TunedPrompt.from_bytes(canonical_json(saved.settings["prompt"]))
    if prompt.task != saved.task:
        raise PredictorFileError(f"the prompt is of task {prompt.task.name!r}, the predictor of {saved.task.name!r}")
    return prompt
