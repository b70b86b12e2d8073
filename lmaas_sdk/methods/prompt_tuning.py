"""Prompt tuning by gradients (Lester et al. 2021, arXiv:2104.08691): a local reference for what a search can reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.methods.black_box import saved_prompt
from lmaas_sdk.methods.connection import Connection, spending
from lmaas_sdk.methods.descent import Descent, TrainingRecord
from lmaas_sdk.methods.method import Kept, MethodPredictor, task_of
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.methods.trainable import trainable
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.predictor import Predictor
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.subspace import Layout, Subspace

__all__ = ["PromptTuning", "PromptTuningPredictor"]


class PromptTuning:
    """Learns a soft prompt by gradients, all L x D numbers of it, with the model as it is.

    The prompt enters where that of black-box tuning does, starts where it starts (z = 0), and is used, saved and sent
    as one: projection `identity`. The defaults are the paper's (Sun et al. 2022, section 4.1).

    Args:
        backend: A model in this process.
        budget: What predictions are paid from, and whose wall time ends the training; None: no limit.
        epochs, learning_rate, batch_size, seed, dev_every, patience: As of `Descent`; the seed is that of the tokens
            behind p0 in `cat`, too.
        prompt_tokens: L.
        layout: As of `Subspace`.
        retry, quotas, cache: As of `Client`.

    Raises:
        Unsupported: The backend can only be called; nothing was sent.
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range or unknown.
    """

    name: ClassVar[str] = "prompt-tuning"

    def __init__(  # noqa: PLR0913  (all by name)
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        epochs: int = 1000,
        learning_rate: float = 5e-4,
        batch_size: int = 16,
        prompt_tokens: int = 50,
        layout: Layout = "add",
        seed: int = 42,
        dev_every: int = 10,
        patience: int | None = None,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> None:
        self._connection = Connection(backend, budget, retry, quotas, cache)
        self._model = trainable(backend, "prompt tuning")
        self.descent = Descent(epochs, learning_rate, batch_size, seed=seed, dev_every=dev_every, patience=patience)
        tokens, width = whole_number("prompt_tokens", prompt_tokens, at_least=1), backend.card.hidden_size
        self.subspace = Subspace(tokens * width, tokens, width, layout, projection="identity", seed=self.descent.seed)

    async def fit(self, train: Dataset, dev: Dataset | None = None) -> PromptTuningPredictor:
        """Trains in this process, off the event loop's thread; nothing of it is a call.

        Args:
            train: Examples to learn from.
            dev: Others to choose the epoch by; without them it is the last.

        Raises:
            TaskError: The data are unusable, or a label word does not fit the model.
            ValueError: `patience` is given and no dev set.
            InvalidQuery: The prompt leaves no room for text.
            BudgetTooSmall: The wall time is over before one epoch is.
            NotFinite: The training diverged.
        """
        task, client = task_of(train, dev), self._connection.client()
        self.descent.check_data(train, dev)
        texts, card = train.text_set, client.backend.card
        async with spending(client):
            counted = await client.register(texts, self.subspace)
            training = await self._model.training(
                texts, train.labels, learning_rate=self.descent.learning_rate, subspace=self.subspace
            )
            learned, record = await self.descent.run(
                training, train, dev, tokens=counted.token_counts, budget=client.budget
            )
        prompt = TunedPrompt(task, self.subspace, learned["z"], card.name, card.tokenizer_digest)
        return PromptTuningPredictor(Predictor(client, task, prompt), prompt, record)


class PromptTuningPredictor(MethodPredictor):
    """Predicts with a prompt that gradients have taught; it may do so behind an API, too.

    Args:
        predictor: One that has the prompt.
        prompt: The prompt.
        training: How it was learned; None: it comes from a file.
    """

    name: ClassVar[str] = PromptTuning.name

    def __init__(self, predictor: Predictor, prompt: TunedPrompt, training: TrainingRecord | None = None) -> None:
        super().__init__(predictor.client, prompt.task)
        self.prompt, self.training = prompt, training
        self._predictor = predictor

    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        return await self._predictor.score(self.task.text_set(items), purpose)

    async def worst(self, items: Sequence[Fields], purpose: Purpose) -> Amounts:
        """As of `Foreseeing`."""
        return await self._predictor.worst(self.task.text_set(items), purpose)

    def kept(self) -> Kept:
        return {"prompt": self.prompt.to_wire()}, {}

    @classmethod
    def restored(cls, saved: SavedPredictor, client: Client) -> PromptTuningPredictor:
        """What `saved` was made of.

        Raises:
            PredictorFileError: It holds no tuned prompt, or one of another task.
            PromptFileError: The prompt makes no sense, or is another model's.
        """
        prompt = saved_prompt(saved)
        return cls(Predictor(client, prompt.task, prompt), prompt)
