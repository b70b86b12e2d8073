"""Deep black-box tuning (BBTv2, Sun et al. 2022b, arXiv:2205.11200): every layer has a prompt, and a search of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import Backend
from lmaas_sdk.methods.black_box import BlackBoxPredictor, BlackBoxTuning, FitOptions, TunerOptions
from lmaas_sdk.methods.calibrating import Calibrating, Calibration, checked_calibration
from lmaas_sdk.methods.method import task_of
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.tuning.deep_subspace import DeepSubspace
from lmaas_sdk.tuning.layers import Layers, checked_layers, require_layers
from lmaas_sdk.tuning.predictor import Predictor
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["DEEP_PRESET", "DeepBlackBoxPredictor", "DeepBlackBoxTuning"]

DEEP_PRESET = Preset("deep", d=None, prompt_tokens=None, projection="normal", scale=0.2)
"""The paper's population, and its d and L on a model as wide as its own; `scale` is alpha, times which prompts start as
large as what enters their layer. Chosen by benchmarks/deep_presets.py."""


class DeepBlackBoxTuning(BlackBoxTuning):
    """Searches for a soft prompt of every layer by inference calls alone.

    Layers take turns, a generation each. While one is searched, every other layer has the best of its own search.

    Args:
        backend: The model; it takes prompts at deeper layers, and tells its hidden states.
        layers: The layers that are searched, by number from 0; "all": every one of the model.
        calibration: As of `BlackBoxTuning`.
        options: As of `Tuner`. The preset is `DEEP_PRESET` or one of your own, with layout `add`; d, population and
            algorithm are those of each layer, `optimizer` makes the search of one, and a preset's `dev_every` and
            `plateau` count generations of whichever layer.

    Attributes:
        tuner: What does it.

    Raises:
        TypeError, ValueError, Unsupported: As of `Tuner`, or the model takes no prompts but at layer 0.
    """

    name: ClassVar[str] = "deep-black-box"

    def __init__(
        self,
        backend: Backend,
        *,
        layers: Layers = "all",
        calibration: Calibration | None = None,
        **options: Unpack[TunerOptions],
    ) -> None:
        super().__init__(backend, calibration=calibration, **({"preset": DEEP_PRESET} | options))
        require_layers(backend.card, self.tuner.preset)
        self.tuner.layers = checked_layers(layers)

    @classmethod
    def of(cls, tuner: Tuner, *, calibration: Calibration | None = None) -> DeepBlackBoxTuning:
        """The method that a tuner is which goes on with the journal of such a run: `of(Tuner.resume(...))`.

        Raises:
            ValueError: It searches one prompt, or the calibration is unknown.
        """
        if tuner.layers is None:
            raise ValueError("this tuner searches one prompt, at the embedding output: use BlackBoxTuning.of")
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
    ) -> DeepBlackBoxPredictor:
        """Tunes until the budget ends, and predicts with the best prompts so far; what it raises, `Tuner.fit` does.

        The first call asks for hidden states of the training texts, which say how large the prompts of each layer may
        be; it is booked as `features`, and is no evaluation.

        Args:
            train, dev: Examples to tune on, and to choose by.
            unlabelled: As of `BlackBoxTuning.fit`, which tells what calibration takes.
            options: As of `Tuner.fit`.

        Raises:
            ValueError: The model has no layer of that number.
        """
        calibrating = Calibrating.of(self.calibration, task_of(train, dev), train.fields, unlabelled)
        return await self._fitted(DeepBlackBoxPredictor, calibrating, train, dev, options)


class DeepBlackBoxPredictor(BlackBoxPredictor):
    """Predicts with tuned prompts of several layers.

    Args:
        predictor: One that has such prompts.
        result: How they were found; None: they come from a file.
        prior, rounds: As of `BlackBoxPredictor`.

    Attributes:
        prompt: The prompts: `prompt.subspace.parts` are the layers, and z is that of all of them.
    """

    name: ClassVar[str] = DeepBlackBoxTuning.name

    def __init__(
        self,
        predictor: Predictor,
        result: TuningResult | None = None,
        *,
        prior: NDArray[np.float32] | None = None,
        rounds: tuple[TuningResult, ...] = (),
    ) -> None:
        super().__init__(predictor, result, prior=prior, rounds=rounds)
        if not isinstance(self.prompt.subspace, DeepSubspace):
            raise ValueError(  # noqa: TRY004  (the file may come from anyone)
                "a prompt of several layers is wanted, and this one enters the embedding output alone"
            )
