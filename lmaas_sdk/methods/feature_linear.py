"""Feature-Linear: a perceptron of two layers on each text's first vector (Sun et al. 2022, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import Backend, Pool
from lmaas_sdk.methods.feature_head import FeatureOptions, FeaturePredictor, Fitting
from lmaas_sdk.methods.features import Features, rows_at_a_time
from lmaas_sdk.methods.local_training import Parameter, Weights
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FeatureLinear", "FeatureLinearPredictor"]


@dataclass(frozen=True, slots=True)
class _TwoLayers:
    """Logits = W2 relu(W1 x + b1) + b2, of the vector x at a text's first token."""

    width: int
    pool: ClassVar[Pool] = "first"

    def parameters(self, hidden_size: int, n_labels: int) -> dict[str, Parameter]:
        return {
            "hidden_weight": Parameter((self.width, hidden_size), hidden_size),
            "hidden_bias": Parameter((self.width,), hidden_size),
            "out_weight": Parameter((n_labels, self.width), self.width),
            "out_bias": Parameter((n_labels,), self.width),
        }

    def forward(self, weights: Mapping[str, Tensor], batch: Sequence[Tensor]) -> Tensor:
        import torch  # noqa: PLC0415  (optional and slow to import)

        hidden = torch.relu(torch.cat(list(batch)) @ weights["hidden_weight"].T + weights["hidden_bias"])
        return hidden @ weights["out_weight"].T + weights["out_bias"]

    def logits(self, weights: Weights, features: Sequence[Features]) -> NDArray[np.float32]:
        found = []
        for texts, x in rows_at_a_time(np.concatenate(features)):
            hidden = np.maximum(x @ weights["hidden_weight"].T + weights["hidden_bias"], np.float32(0))
            found.append((hidden @ weights["out_weight"].T + weights["out_bias"])[:texts])
        return np.concatenate(found)


class FeatureLinear:
    """Trains a perceptron of two layers on the last layer's vector at the first token, which the model gives once.

    Args:
        backend: The model.
        width: Of the hidden layer.
        options: As of `Fitting`: budget, seed, epochs, learning_rate, batch_size, patience, template, retry, quotas,
            cache.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range.
        Unsupported: The model gives no features.
    """

    name: ClassVar[str] = "feature-linear"

    def __init__(self, backend: Backend, *, width: int = 256, **options: Unpack[FeatureOptions]) -> None:
        self._fitting = Fitting(backend, _TwoLayers(whole_number("width", width, at_least=1)), **options)

    async def fit(self, train: Dataset, dev: Dataset | None = None) -> FeatureLinearPredictor:
        """A predictor with the weights of the last epoch or, with a dev set, of the best one.

        Args:
            train: Labelled examples, some of every class.
            dev: Others to choose the epoch by; left out where the budget does not pay for its features.

        Raises:
            MissingExtra: torch is not installed; nothing was sent.
            BudgetTooSmall: The budget cannot pay for the features of the training set; nothing was sent.
            TaskError: The data are unusable; nothing was sent.
            ValueError: There is `patience` and no dev set; nothing was sent.
            BudgetExceeded, QuotaExceeded, BackendError: It ended before there were features to learn from.
            NotFinite: The training diverged; the features were paid for.
        """
        client, fitted, source = await self._fitting.fit(train, dev)
        return FeatureLinearPredictor(client, train.task, fitted, source)


class FeatureLinearPredictor(FeaturePredictor):
    """Predicts with a perceptron on first vectors."""

    name: ClassVar[str] = FeatureLinear.name

    @classmethod
    def head(cls, width: int) -> _TwoLayers:
        return _TwoLayers(width)
