"""Calibrating what was tuned: which texts, paid from what was set aside before the tuning began."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BackendError, BudgetExceeded, BudgetTooSmall, QuotaExceeded, TaskError
from lmaas_sdk.logs import log_event
from lmaas_sdk.methods.calibration import CONTENT_FREE, log_prior
from lmaas_sdk.methods.connection import spending
from lmaas_sdk.tasks import Task
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.predictor import Predictor
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.tuner import Tuner

if TYPE_CHECKING:
    from lmaas_sdk.methods.black_box import BlackBoxPredictor

__all__ = ["Calibrating", "Calibration", "checked_calibration"]

Calibration = Literal["prior", "contextual"]
"""By what a prediction is divided: the mean over some texts, or over inputs without content."""
_Kind = TypeVar("_Kind", bound="BlackBoxPredictor")
_logger = logging.getLogger("lmaas_sdk.methods")


def checked_calibration(calibration: object) -> Calibration | None:
    """A calibration of a tuned prompt.

    Raises:
        ValueError: There is none of that name.
    """
    if calibration is not None and calibration not in get_args(Calibration):
        raise ValueError(f"calibration of a tuned prompt is 'prior', 'contextual' or None, not {calibration!r:.80}")
    return calibration  # type: ignore[return-value]  # one of them


@dataclass(frozen=True, slots=True, eq=False)
class Calibrating:
    """A calibration that is to come.

    Args:
        texts: What the prompt will be asked about, with the label words.
    """

    texts: TextSet

    @classmethod
    def of(
        cls,
        calibration: Calibration | None,
        task: Task,
        training: Sequence[Fields],
        unlabelled: Sequence[Fields] | None,
    ) -> Calibrating | None:
        """None: nothing is calibrated.

        Raises:
            ValueError: Texts to calibrate on are given, and none are wanted.
            TaskError: There is no text to calibrate on, or one does not fill the template.
        """
        if calibration != "prior" and unlabelled is not None:
            raise ValueError(f"unlabelled texts are for calibration='prior', not for {calibration!r}")
        if calibration is None:
            return None
        items: Sequence[Fields] = [(text,) * len(task.template.fields) for text in CONTENT_FREE]
        if calibration == "prior":
            items = training if unlabelled is None else unlabelled
        if not len(items):
            raise TaskError("a prior is taken from at least one text, and there is none")
        return cls(task.text_set(items))

    @asynccontextmanager
    async def set_aside(self, tuner: Tuner, *, times: int = 1) -> AsyncIterator[Budget]:
        """What the calibration will cost, taken out of the tuner's budget until the block ends.

        Args:
            tuner: Of the prompt.
            times: How many of its prompts will be calibrated.

        Raises:
            BudgetTooSmall: It is not free; nothing was sent.
            LedgerConflict: The budget is in its ledger with other limits.
        """
        budget, backend = tuner.budget or Budget(), tuner.backend
        await budget.ready()
        scheduler = Scheduler(Client(backend, Budget()), "pricing")
        # prompts of several layers take the positions, and so the tokens, of one at the embedding output
        scorable = await scheduler.prepare(self.texts, tuner.preset.subspace(backend.card, tuner.seed), precise=True)
        worst = sum([scheduler.worst(scorable, 1, "probe")] * times, Amounts())
        try:
            aside = await budget.hold_aside("calibration", worst)
        except BudgetExceeded as end:
            raise BudgetTooSmall.of(end, "what calibration takes") from end
        try:
            yield aside
        finally:
            aside.release()

    async def calibrated(self, tuned: _Kind, aside: Budget) -> _Kind:
        """The same predictor with a prior; as it is, with a warning in the log, where that could not be had."""
        if tuned.result is not None and tuned.result.stopped == "interrupted":
            _log_none("the run was interrupted")
            return tuned
        paying = tuned.client.with_budget(aside, spare=tuned.client.budget)
        try:
            async with spending(paying):
                logits, _ = await Predictor(paying, tuned.task, tuned.prompt).score(self.texts, "probe")
        except (BudgetExceeded, QuotaExceeded, BackendError) as end:
            _log_none(type(end).__name__)  # no more of it: a backend's own words may quote what it was sent
            return tuned
        return tuned.with_prior(log_prior(logits))


def _log_none(why: str) -> None:
    log_event(_logger, logging.WARNING, "not_calibrated", "the tuned prompt is not calibrated: %(why)s", why=why)
