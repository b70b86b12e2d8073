"""Feature-BiLSTM: an LSTM in both directions over a text's vectors, then a linear layer (Sun et al. 2022, 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import Backend, Pool
from lmaas_sdk.methods.feature_head import FeatureOptions, FeaturePredictor, Fitting
from lmaas_sdk.methods.features import ROWS_AT_A_TIME, Features
from lmaas_sdk.methods.local_training import Parameter, Weights
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FeatureBiLSTM", "FeatureBiLSTMPredictor"]

_DIRECTIONS = ("", "_reverse")
_HALF = np.float32(0.5)


@dataclass(frozen=True, slots=True)
class _BiLSTM:
    """Logits = W [h forward after the last token; h backward after the first] + b.

    The arrays of the LSTM have the names and the order (input, forget, cell, output) that torch gives them.
    """

    width: int
    pool: ClassVar[Pool] = "tokens"

    def parameters(self, hidden_size: int, n_labels: int) -> dict[str, Parameter]:
        shapes = {
            "weight_ih_l0": (4 * self.width, hidden_size),
            "weight_hh_l0": (4 * self.width, self.width),
            "bias_ih_l0": (4 * self.width,),
            "bias_hh_l0": (4 * self.width,),
        }
        lstm = {f"{name}{one}": Parameter(shape, self.width) for one in _DIRECTIONS for name, shape in shapes.items()}
        return lstm | {
            "out_weight": Parameter((n_labels, 2 * self.width), 2 * self.width),
            "out_bias": Parameter((n_labels,), 2 * self.width),
        }

    def forward(self, weights: Mapping[str, Tensor], batch: Sequence[Tensor]) -> Tensor:
        import torch  # noqa: PLC0415  (optional and slow to import)

        # On "meta" it has no weights, so that none are drawn from torch's own generator: ours are put in their place.
        lstm = torch.nn.LSTM(batch[0].shape[1], self.width, bidirectional=True, device="meta")
        own = {name: weights[name] for name, _ in lstm.named_parameters()}
        packed = torch.nn.utils.rnn.pack_sequence(list(batch), enforce_sorted=False)
        _, (last, _) = torch.func.functional_call(lstm, own, (packed,))
        return torch.cat([last[0], last[1]], dim=1) @ weights["out_weight"].T + weights["out_bias"]

    def logits(self, weights: Weights, features: Sequence[Features]) -> NDArray[np.float32]:
        logits = np.empty((len(features), len(weights["out_bias"])), np.float32)
        by_length = np.argsort([len(one) for one in features], kind="stable")  # so that few steps are for padding
        for start in range(0, len(by_length), ROWS_AT_A_TIME):
            rows = by_length[start : start + ROWS_AT_A_TIME]
            texts = [features[row] for row in rows]
            last = [_last_states(weights, "", texts), _last_states(weights, "_reverse", [one[::-1] for one in texts])]
            found = np.concatenate(last, axis=1) @ weights["out_weight"].T + weights["out_bias"]
            logits[rows] = found[: len(rows)]
        return logits


def _last_states(weights: Weights, direction: str, texts: Sequence[Features]) -> NDArray[np.float32]:
    """The states of one direction after each text's last step: (ROWS_AT_A_TIME, width), rows without a text last."""
    x = np.zeros((max(map(len, texts)), ROWS_AT_A_TIME, texts[0].shape[1]), np.float32)
    lengths = np.zeros(ROWS_AT_A_TIME, np.int64)
    for row, text in enumerate(texts):
        x[: len(text), row], lengths[row] = text, len(text)
    W_x, W_h = weights[f"weight_ih_l0{direction}"].T, weights[f"weight_hh_l0{direction}"].T
    bias = weights[f"bias_ih_l0{direction}"] + weights[f"bias_hh_l0{direction}"]
    h: NDArray[np.float32] = np.zeros((ROWS_AT_A_TIME, len(W_h)), np.float32)
    c = h
    for step, vectors in enumerate(x):
        i, f, g, o = np.split(vectors @ W_x + h @ W_h + bias, 4, axis=1)
        c_next = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        is_on = (step < lengths)[:, np.newaxis]
        c, h = np.where(is_on, c_next, c), np.where(is_on, _sigmoid(o) * np.tanh(c_next), h)
    return h


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    halved: NDArray[np.float32] = np.tanh(x * _HALF)  # no exponential that overflows
    return halved * _HALF + _HALF


class FeatureBiLSTM:
    """Trains an LSTM in both directions on the last layer's vectors at all tokens, which the model gives once.

    Args:
        backend: The model.
        width: Of the LSTM's state in each direction.
        options: As of `Fitting`: budget, seed, epochs, learning_rate, batch_size, patience, template, retry, quotas,
            cache.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range.
        Unsupported: The model gives no features.
    """

    name: ClassVar[str] = "feature-bilstm"

    def __init__(self, backend: Backend, *, width: int = 128, **options: Unpack[FeatureOptions]) -> None:
        self._fitting = Fitting(backend, _BiLSTM(whole_number("width", width, at_least=1)), **options)

    async def fit(self, train: Dataset, dev: Dataset | None = None) -> FeatureBiLSTMPredictor:
        """As `FeatureLinear.fit`."""
        client, fitted, source = await self._fitting.fit(train, dev)
        return FeatureBiLSTMPredictor(client, train.task, fitted, source)


class FeatureBiLSTMPredictor(FeaturePredictor):
    """Predicts with an LSTM over all vectors."""

    name: ClassVar[str] = FeatureBiLSTM.name

    @classmethod
    def head(cls, width: int) -> _BiLSTM:
        return _BiLSTM(width)
