"""Several predictors as one: the mean of their probabilities.

Of probabilities and not of logits, because members with other templates, words or prompts have logits on scales of
their own: in a mean of logits the most extreme member outvotes the others, while of probabilities each has one vote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose, Spend
from lmaas_sdk.canonical import array_digest, canonical_json
from lmaas_sdk.client import Client
from lmaas_sdk.errors import PredictorFileError, TaskError
from lmaas_sdk.made_for import MadeFor
from lmaas_sdk.methods.black_box import BlackBoxPredictor
from lmaas_sdk.methods.calibration import calibrated, log_softmax
from lmaas_sdk.methods.manual import ManualPredictor
from lmaas_sdk.methods.method import Foreseeing, Kept, MethodPredictor
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Task
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.tuning.predictor import Predictor
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.selection import Choice, DevRule, dev_rank

__all__ = ["EnsemblePredictor", "best_candidates"]

_Logits = NDArray[np.float32]
_Rows = Sequence[Mapping[str, str]]


class EnsemblePredictor(MethodPredictor):
    """Predicts by the mean of the class probabilities of its members.

    Prompts that differ by nothing but their z, as the candidates of one run do, are scored in one call, where they have
    one backend and budget; others each in one of their own.

    Nothing is sent unless the members fit into the budget together. All methods of the package tell what they take; one
    of your own does if it has `worst`, as `Foreseeing` says, and else is sent when its turn comes.

    Args:
        members: Predictors of one model whose tasks have the same labels and fields; template and words may differ.
        task: What is asked of all together; None: the first member's.
        beside: What was spent on the way beside the members' own spend; None: nothing.

    Attributes:
        members: They.

    Raises:
        ValueError: There is none, one is an ensemble itself, or is of another model.
        TaskError: One has other labels or fields.
    """

    name: ClassVar[str] = "ensemble"

    def __init__(
        self, members: Sequence[MethodPredictor], task: Task | None = None, *, beside: Spend | None = None
    ) -> None:
        self.members = tuple(members)
        _check_members(self.members)
        super().__init__(self.members[0].client, self.members[0].task if task is None else task)
        for number, member in enumerate(self.members):
            _check_asks_the_same(number, member.task, self.task)
        self._beside = beside or Spend()
        self._groups = _grouped(self.members)

    @property
    def spend(self) -> Spend:
        """All that was posted for the members, by purpose; a copy as of now."""
        return Spend.together([*(member.spend for member in self.members), self._beside])

    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[_Logits, int]:
        names, arrange = self.task.template.fields, self.task.template.arrange
        rows = [dict(zip(names, arrange(item), strict=True)) for item in items]
        await self._check_fits(rows, purpose)
        found = [await group.scored(rows, purpose) for group in self._groups]
        return mean_probability([one for logits, _ in found for one in logits]), max(count for _, count in found)

    async def _check_fits(self, rows: _Rows, purpose: Purpose) -> None:
        worst: dict[Budget, Amounts] = {}
        for group in self._groups:
            amounts = await group.worst(rows, purpose)
            for budget in group.client.budget.line():  # members may pay from shares of one budget
                worst[budget] = worst.get(budget, Amounts()) + amounts
        for budget, amounts in worst.items():
            budget.check(amounts)

    def kept(self) -> Kept:
        return {"members": [member.saved().to_wire() for member in self.members]}, {}

    @classmethod
    def restored(
        cls, saved: SavedPredictor, client: Client, restore: Callable[[SavedPredictor, Client], MethodPredictor]
    ) -> EnsemblePredictor:
        """What `saved` was made of.

        Args:
            saved, client: As of every method.
            restore: Makes a predictor of any other method.

        Raises:
            PredictorFileError: It holds no members, or one makes no sense.
            ValueError, TaskError: The members do not go together.
        """
        saved.expect(settings=("members",), shapes={})
        listed = saved.settings["members"]
        if not isinstance(listed, list):
            raise PredictorFileError(f"members are a list of predictors, not {listed!r:.80}")
        return cls([restore(_member(value), client) for value in listed], saved.task)


def best_candidates(tuned: BlackBoxPredictor, count: int) -> list[BlackBoxPredictor]:
    """The best prompts of a run, as far as its dev set told, the one that was returned first; nothing is sent.

    Args:
        tuned: From `BlackBoxTuning.fit` with a dev set.
        count: How many, where the run has looked at so many.

    Raises:
        ValueError: Nothing was looked at on a dev set, or the predictor comes from a file.
    """
    result = tuned.result
    if result is None or not result.dev_scored:
        raise ValueError("the best candidates of a run are those that dev told apart: fit one with a dev set")
    rule: DevRule = "cross_entropy" if result.chosen_by == "dev_cross_entropy" else "metric"
    order = sorted(result.dev_scored, key=lambda choice: _rank(choice, rule), reverse=True)
    distinct = {array_digest(choice.z): choice.z for choice in (result.choice, *order)}
    prompts = [replace(result.prompt, z=z) for z in list(distinct.values())[: whole_number("count", count, at_least=1)]]
    return [BlackBoxPredictor(Predictor(tuned.client, tuned.task, prompt), result) for prompt in prompts]


def _rank(choice: Choice, rule: DevRule) -> tuple[float, float]:
    return dev_rank(choice.dev, rule) if choice.dev is not None else (-np.inf, -np.inf)


def mean_probability(logits: Sequence[_Logits]) -> _Logits:
    """Logarithms of the members' mean probabilities: (n_texts, n_labels) float32.

    Args:
        logits: Of each member, (n_texts, n_labels).
    """
    each = np.stack([log_softmax(one) for one in logits])
    top = each.max(axis=0)
    mean: _Logits = (top + np.log(np.exp(each - top).mean(axis=0))).astype(np.float32)
    return mean


class _Group(Protocol):
    """Members that are scored together."""

    @property
    def client(self) -> Client:
        """Who pays."""

    async def worst(self, rows: _Rows, purpose: Purpose) -> Amounts:
        """The most that it takes, as far as that can be told."""

    async def scored(self, rows: _Rows, purpose: Purpose) -> tuple[list[_Logits], int]:
        """Logits of each member, and how many texts lost words."""


@dataclass(frozen=True, slots=True, eq=False)
class _Prompts:
    """Prompts of one subspace (or the manual one) under one template: one matrix of candidates."""

    predictor: Predictor
    members: Sequence[BlackBoxPredictor | ManualPredictor]

    @property
    def client(self) -> Client:
        return self.predictor.client

    @property
    def _Z(self) -> _Logits | None:
        tuned = [member.prompt.z for member in self.members if isinstance(member, BlackBoxPredictor)]
        return np.stack(tuned) if tuned else None

    async def worst(self, rows: _Rows, purpose: Purpose) -> Amounts:
        return await self.predictor.worst(self.predictor.task.text_set(rows), purpose, Z=self._Z)

    async def scored(self, rows: _Rows, purpose: Purpose) -> tuple[list[_Logits], int]:
        logits, shortened = await self.predictor.score_all(self.predictor.task.text_set(rows), self._Z, purpose)
        each = logits if self._Z is not None else [logits[0]] * len(self.members)
        return [calibrated(one, member.prior) for one, member in zip(each, self.members, strict=True)], shortened


@dataclass(frozen=True, slots=True, eq=False)
class _Other:
    """A member of another method, which scores by itself."""

    member: MethodPredictor

    @property
    def client(self) -> Client:
        return self.member.client

    async def worst(self, rows: _Rows, purpose: Purpose) -> Amounts:
        return await self.member.worst(rows, purpose) if isinstance(self.member, Foreseeing) else Amounts()

    async def scored(self, rows: _Rows, purpose: Purpose) -> tuple[list[_Logits], int]:
        logits, shortened = await self.member.score(rows, purpose)
        return [logits], shortened


def _grouped(members: Sequence[MethodPredictor]) -> list[_Group]:
    """The members in the order in which the first of each group stands."""
    prompts: dict[object, list[BlackBoxPredictor | ManualPredictor]] = {}
    groups: list[_Group] = []
    for member in members:
        if not isinstance(member, (BlackBoxPredictor, ManualPredictor)):
            groups.append(_Other(member))
            continue
        prompt = member.prompt if isinstance(member, BlackBoxPredictor) else None
        client = member.client
        # two backends of one model may answer differently, as one that fails or costs more does
        alike = prompts.setdefault((member.task, id(client.backend), id(client.budget), _space(prompt)), [])
        if not alike:
            groups.append(_Prompts(Predictor(member.client, member.task, prompt), alike))
        alike.append(member)
    return groups


def _space(prompt: TunedPrompt | None) -> object:
    return None if prompt is None else prompt.subspace.digest


def _check_members(members: Sequence[MethodPredictor]) -> None:
    if not members:
        raise ValueError("an ensemble has at least one member, and there is none")
    if any(isinstance(member, EnsemblePredictor) for member in members):
        raise ValueError("an ensemble is no member of another: give its members")
    models = [MadeFor.of(member.client.backend.card) for member in members]
    for number, model in enumerate(models):
        if model != models[0]:
            raise ValueError(f"member {number} is of the model {model.model!r}, member 0 of {models[0].model!r}")


def _check_asks_the_same(number: int, task: Task, asked: Task) -> None:
    if task.labels != asked.labels:
        raise TaskError(f"member {number} knows the labels {list(task.labels)}, the task has {list(asked.labels)}")
    if set(task.template.fields) != set(asked.template.fields):
        raise TaskError(
            f"member {number} asks of the fields {list(task.template.fields)}, the task of "
            f"{list(asked.template.fields)}"
        )


def _member(value: Any) -> SavedPredictor:
    saved = SavedPredictor.from_bytes(canonical_json(value))
    if saved.method == EnsemblePredictor.name:
        raise PredictorFileError("an ensemble is no member of another, and this file has one")
    return saved
