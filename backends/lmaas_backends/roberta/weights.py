"""The numbers of a RoBERTa or BERT masked language model, as plain float32 tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Affine", "HeadWeights", "LayerWeights", "Weights", "collect_weights"]

_HEADS = {
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A weight and a bias: of a linear map, weight (out, in), or of a layer norm, weight (D,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One encoder layer; `qkv` stacks query, key and value: weight (3 D, D)."""

    qkv: Affine
    attended: Affine
    attended_norm: Affine
    widen: Affine
    narrow: Affine
    norm: Affine


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """The language-model head: dense and norm of the transform, decoder weight (vocabulary, D)."""

    dense: Affine
    norm: Affine
    decoder: Affine


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A whole model: words (vocabulary, D), positions (positions, D), the vector of token type 0 (D,), and the rest."""

    words: Tensor
    positions: Tensor
    token_type: Tensor
    embedding_norm: Affine
    layers: tuple[LayerWeights, ...]
    head: HeadWeights

    def digest(self) -> str:
        """SHA-256 over the bytes of all tensors in a fixed order, in hex; independent of how the file stored them."""
        state = hashlib.sha256()
        for tensor in self._tensors():
            state.update(repr(tuple(tensor.shape)).encode())
            state.update(tensor.cpu().numpy().data)
        return state.hexdigest()

    def _tensors(self) -> Iterator[Tensor]:
        yield from (self.words, self.positions, self.token_type)
        groups = [self.embedding_norm, self.head.dense, self.head.norm, self.head.decoder]
        for layer in self.layers:
            groups += [layer.qkv, layer.attended, layer.attended_norm, layer.widen, layer.narrow, layer.norm]
        for affine in groups:
            yield from (affine.weight, affine.bias)


def collect_weights(state: Mapping[str, Tensor], family: str, n_layers: int, *, device: str = "cpu") -> Weights:
    """Takes a model's tensors from its state by the names Hugging Face gives them.

    Args:
        state: The `state_dict` of a `RobertaForMaskedLM` or `BertForMaskedLM`.
        family: `roberta` or `bert`.
        n_layers: Encoder layers.
        device: Where the tensors go.
    """
    reader = _Reader(state, device)
    embeddings = f"{family}.embeddings"
    dense, norm, decoder = (reader.affine(name) for name in _HEADS[family])
    return Weights(
        words=reader.tensor(f"{embeddings}.word_embeddings.weight"),
        positions=reader.tensor(f"{embeddings}.position_embeddings.weight"),
        token_type=reader.tensor(f"{embeddings}.token_type_embeddings.weight")[0].clone(),
        embedding_norm=reader.affine(f"{embeddings}.LayerNorm"),
        layers=tuple(reader.layer(f"{family}.encoder.layer.{index}") for index in range(n_layers)),
        head=HeadWeights(dense, norm, decoder),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    state: Mapping[str, Tensor]
    device: str

    def tensor(self, name: str) -> Tensor:
        # A copy of its own: the caller's model may be freed, and nothing it does later changes these numbers.
        return self.state[name].detach().to(device=self.device, dtype=torch.float32, copy=True).contiguous()

    def affine(self, name: str) -> Affine:
        return Affine(self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias"))

    def layer(self, name: str) -> LayerWeights:
        parts = [self.affine(f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        return LayerWeights(
            qkv=Affine(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
            attended=self.affine(f"{name}.attention.output.dense"),
            attended_norm=self.affine(f"{name}.attention.output.LayerNorm"),
            widen=self.affine(f"{name}.intermediate.dense"),
            narrow=self.affine(f"{name}.output.dense"),
            norm=self.affine(f"{name}.output.LayerNorm"),
        )
