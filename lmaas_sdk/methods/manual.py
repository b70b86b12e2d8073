"""The manual prompt: the task's template, nothing tuned; on request without the model's own liking for a label word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import TaskError
from lmaas_sdk.methods.calibration import calibrated, log_prior
from lmaas_sdk.methods.connection import Connection, spending
from lmaas_sdk.methods.method import Kept, MethodPredictor, task_of
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.tasks import Dataset, Task
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.predictor import Predictor

__all__ = ["ManualPredictor", "ManualPrompt"]


class ManualPrompt:
    """The task's own template and label words.

    Args:
        backend: The model.
        budget: What calls are paid from; None: no limit.
        calibration: "prior": divide by the mean prediction on the texts given to `fit`, whose labels are not looked
            at (Zhou et al. 2023, arXiv:2309.17249). None: leave predictions as they are.
        retry, quotas, cache: As of `Client`.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: The calibration or a quota is unknown.
    """

    name: ClassVar[str] = "manual"

    def __init__(
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        calibration: Literal["prior"] | None = None,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> None:
        if calibration not in (None, "prior"):
            raise ValueError(f"calibration of a manual prompt is 'prior' or None, not {calibration!r:.80}")
        self._connection = Connection(backend, budget, retry, quotas, cache)
        self.calibration = calibration

    async def fit(
        self, train: Dataset, dev: Dataset | None = None, *, unlabelled: Sequence[Fields] | None = None
    ) -> ManualPredictor:
        """A predictor. Without calibration nothing is sent; with it the texts are scored once, as `probe`.

        Args:
            train: Examples of the task.
            dev: Nothing is chosen, so it is not looked at.
            unlabelled: Texts to calibrate on, in the place of those of `train`; more of them are better.

        Raises:
            BudgetTooSmall: The budget cannot pay for the calibration; nothing was sent.
            TaskError: There is no text to calibrate on, or one does not fill the template.
            ValueError: Texts to calibrate on are given, and nothing is calibrated.
        """
        task, client = task_of(train, dev), self._connection.client()
        predictor = ManualPredictor(client, task)
        if self.calibration is None:
            if unlabelled is not None:
                raise ValueError("unlabelled texts are for calibration='prior', and there is none")
            return predictor
        texts = train.fields if unlabelled is None else unlabelled
        if not len(texts):
            raise TaskError("a prior is taken from at least one text, and there is none")
        async with spending(client):
            logits, _ = await predictor.score(texts, "probe")
        return ManualPredictor(client, task, log_prior(logits))


class ManualPredictor(MethodPredictor):
    """Predicts with the template alone.

    Args:
        client, task: As of `MethodPredictor`.
        prior: (n_labels,) float32, the logarithm of what is divided by; None: nothing is.
    """

    name: ClassVar[str] = ManualPrompt.name

    def __init__(self, client: Client, task: Task, prior: NDArray[np.float32] | None = None) -> None:
        super().__init__(client, task)
        self.prior = prior
        self._predictor = Predictor(client, task)

    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        logits, shortened = await self._predictor.score(self.task.text_set(items), purpose)
        return calibrated(logits, self.prior), shortened

    def kept(self) -> Kept:
        return {}, {} if self.prior is None else {"log_prior": self.prior}

    @classmethod
    def restored(cls, saved: SavedPredictor, client: Client) -> ManualPredictor:
        """What `saved` was made of.

        Raises:
            PredictorFileError: It holds what no manual prompt does.
        """
        prior = saved.arrays.get("log_prior")
        saved.expect(shapes={} if prior is None else {"log_prior": (len(saved.task.labels),)})
        return cls(client, saved.task, prior)
