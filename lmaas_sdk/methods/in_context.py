"""In-context learning: labelled examples before the text, nothing tuned (Brown et al. 2020, arXiv:2005.14165)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import PredictorFileError, TaskError
from lmaas_sdk.methods.calibration import CONTENT_FREE, calibrated, log_prior
from lmaas_sdk.methods.connection import Connection, spending
from lmaas_sdk.methods.demonstrations import MOST_SHOTS, Draw, draw_demonstrations, written_out
from lmaas_sdk.methods.method import Kept, MethodPredictor, task_of
from lmaas_sdk.methods.packing import Packing
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset, Example
from lmaas_sdk.tasks.template import Fields, holds_half_a_pair
from lmaas_sdk.texts import Piece, TextSet
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.predictor import Predictor

__all__ = ["InContextLearning", "InContextPredictor"]


class InContextLearning:
    """Shows the model labelled examples before each text, as many as fit.

    Args:
        backend: The model.
        budget: What calls are paid from; None: no limit.
        shots: Demonstrations in all, 0 .. 32; fewer stand before a text that leaves no room for so many, and where
            there are not so many examples.
        draw, seed: As of `draw_demonstrations`, which draws them and puts them in order.
        instruction: A description of the task, before everything else; never cut.
        separator: What stands between instruction, demonstrations and text.
        calibration: "contextual": divide by the mean prediction on inputs without content under the same
            demonstrations (Zhao et al. 2021, arXiv:2102.09690). None: leave predictions as they are.
        retry, quotas, cache: As of `Client`.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range or unknown.
    """

    name: ClassVar[str] = "in-context"

    def __init__(  # noqa: PLR0913  (all by name)
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        shots: int = MOST_SHOTS,
        draw: Draw = "random",
        seed: int = 42,
        instruction: str = "",
        separator: str = " ",
        calibration: Literal["contextual"] | None = None,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> None:
        self._connection = Connection(backend, budget, retry, quotas, cache)
        self.shots = whole_number("shots", shots, at_least=0)
        if self.shots > MOST_SHOTS:
            raise ValueError(f"shots are demonstrations in all, at most {MOST_SHOTS}, not {self.shots}")
        if draw not in get_args(Draw):
            raise ValueError(f"draw is one of {', '.join(get_args(Draw))}, not {draw!r:.80}")
        if calibration not in (None, "contextual"):
            raise ValueError(f"calibration in context is 'contextual' or None, not {calibration!r:.80}")
        _check_strings(instruction=instruction, separator=separator)
        self.draw, self.seed = draw, whole_number("seed", seed)
        self.instruction, self.separator, self.calibration = instruction, separator, calibration

    async def fit(self, train: Dataset, dev: Dataset | None = None) -> InContextPredictor:
        """A predictor. Without calibration nothing is sent; with it three texts are scored, as `probe`.

        Args:
            train: Examples to draw demonstrations from.
            dev: Nothing is chosen, so it is not looked at.

        Raises:
            BudgetTooSmall: The budget cannot pay for the calibration; nothing was sent.
            TaskError: Demonstrations are asked for, and there are no examples.
            InvalidQuery: The model has no room for the instruction; nothing was sent. Without calibration that is found
                when the predictor is first used.
        """
        task, client = task_of(train, dev), self._connection.client()
        if self.shots and not len(train):
            raise TaskError("the train set has no examples to show: give some, or ask for shots=0")
        shown = draw_demonstrations(train, self.shots, draw=self.draw, seed=self.seed)
        predictor = InContextPredictor(client, shown, instruction=self.instruction, separator=self.separator)
        if self.calibration is None:
            return predictor
        async with spending(client):
            logits, _ = await predictor.score([(text,) * len(task.template.fields) for text in CONTENT_FREE], "probe")
        predictor.prior = log_prior(logits)
        return predictor


class InContextPredictor(MethodPredictor):
    """Predicts with demonstrations before each text.

    Args:
        client: As of `MethodPredictor`.
        demonstrations: In order; they carry the task.
        instruction, separator: As of `InContextLearning`.
        prior: (n_labels,) float32, the logarithm of what is divided by; None: nothing is.
    """

    name: ClassVar[str] = InContextLearning.name

    def __init__(
        self,
        client: Client,
        demonstrations: Dataset,
        *,
        instruction: str = "",
        separator: str = " ",
        prior: NDArray[np.float32] | None = None,
    ) -> None:
        task = demonstrations.task
        super().__init__(client, task)
        self.demonstrations, self.instruction, self.separator, self.prior = (
            demonstrations,
            instruction,
            separator,
            prior,
        )
        self._predictor = Predictor(client, task)
        before = (Piece("template", instruction),) if instruction else ()
        written = [written_out(task, example) for example in demonstrations]
        self._packing = Packing(client, before, written, separator=separator)

    async def shown(self, items: Sequence[Fields]) -> list[int]:
        """How many demonstrations stand before each of these texts; to ask is free."""
        return [len(chosen) for chosen in await self._packing.chosen(self.task.texts(items))]

    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        logits, shortened = await self._predictor.score(await self._texts(items), purpose)
        return calibrated(logits, self.prior), shortened

    async def worst(self, items: Sequence[Fields], purpose: Purpose) -> Amounts:
        """As of `Foreseeing`."""
        return await self._predictor.worst(await self._texts(items), purpose)

    async def _texts(self, items: Sequence[Fields]) -> TextSet:
        return TextSet(await self._packing.packed(self.task.texts(items)), self.task.verbalizer.label_words)

    def kept(self) -> Kept:
        shown = [{"fields": list(example.fields), "label": example.label} for example in self.demonstrations]
        settings = {"demonstrations": shown, "instruction": self.instruction, "separator": self.separator}
        return settings, {} if self.prior is None else {"log_prior": self.prior}

    @classmethod
    def restored(cls, saved: SavedPredictor, client: Client) -> InContextPredictor:
        """What `saved` was made of.

        Raises:
            PredictorFileError: It holds what in-context learning does not.
            TaskError: A demonstration is none of the task's.
        """
        prior = saved.arrays.get("log_prior")
        names = ("demonstrations", "instruction", "separator")
        saved.expect(settings=names, shapes={} if prior is None else {"log_prior": (len(saved.task.labels),)})
        listed, instruction, separator = (saved.settings[name] for name in names)
        if not (isinstance(listed, list) and isinstance(instruction, str) and isinstance(separator, str)):
            raise PredictorFileError("demonstrations are a list, instruction and separator are strings")
        shown = Dataset(saved.task, tuple(_example(value) for value in listed))
        return cls(client, shown, instruction=instruction, separator=separator, prior=prior)


def _example(value: Any) -> Example:
    match value:
        case {"fields": list(fields), "label": int(label), **rest} if not rest and type(label) is int:
            if all(isinstance(one, str) for one in fields):
                return Example(tuple(fields), label)
    raise PredictorFileError(f"a demonstration has fields and a label, not {value!r:.80}")


def _check_strings(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} is a string, not {value!r:.80} of {type(value).__name__}")
        if holds_half_a_pair(value):
            raise ValueError(f"{name} holds half a surrogate pair: {value!r:.80}; no tokenizer takes that")
