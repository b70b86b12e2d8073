"""The numbers of a RoBERTa or BERT masked language model, ready to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import overload

from torch import Tensor

from lmaas_backends.roberta.float_file import FloatFile, Stored
from lmaas_backends.roberta.linears import Linear, MakeLinear, PlainLinear

__all__ = ["Affine", "HeadWeights", "LayerNumbers", "LayerWeights", "StoredLayers", "Weights"]
StoredLayer = tuple[tuple[Stored, Stored], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A weight and a bias: of a linear map, weight (out, in), or of a layer norm, weight (D,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LayerNumbers:
    """One encoder layer as the checkpoint has it; `qkv` stacks query, key and value: weight (3 D, D)."""

    qkv: Affine
    attended: Affine
    attended_norm: Affine
    widen: Affine
    narrow: Affine
    norm: Affine

    def made(self, make: MakeLinear) -> LayerWeights:
        """The layer ready to compute with."""
        qkv, attended, widen, narrow = (
            make(one.weight, one.bias) for one in (self.qkv, self.attended, self.widen, self.narrow)
        )
        return LayerWeights(qkv, attended, self.attended_norm, widen, narrow, self.norm)

    def stored(self, file: FloatFile) -> StoredLayer:
        """Writes the layer to a file, for `StoredLayers`."""
        affines = [getattr(self, field.name) for field in fields(self)]
        return tuple((file.put(affine.weight), file.put(affine.bias)) for affine in affines)


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One encoder layer; `qkv` maps (n, D) to query, key and value side by side, (n, 3 D)."""

    qkv: Linear
    attended: Linear
    attended_norm: Affine
    widen: Linear
    narrow: Linear
    norm: Affine


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """The language-model head: dense and norm of the transform, decoder weight (vocabulary, D)."""

    dense: Affine
    norm: Affine
    decoder: Affine


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A whole model, float32 but for the maps of `layers`.

    Args:
        words, positions: (vocabulary, D) and (positions, D).
        token_type: (D,) the vector of token type 0.
        embedding_norm: Of the embeddings.
        layers: All layers but the last.
        last: The last layer, as it is: it is computed for one position a text, and its keys and values not at all.
        head: Of the language model.
    """

    words: Tensor
    positions: Tensor
    token_type: Tensor
    embedding_norm: Affine
    layers: Sequence[LayerWeights]
    last: LayerNumbers
    head: HeadWeights


class StoredLayers(Sequence[LayerWeights]):
    """Layers in a file, as plain float32: each is read when it is asked for, and forgotten after use.

    Args:
        file: Where they lie.
        layers: The places of each one's tensors, as `LayerNumbers.stored` returns them.
    """

    def __init__(self, file: FloatFile, layers: Sequence[StoredLayer]) -> None:
        self._file, self._layers = file, layers

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, index: int) -> LayerWeights: ...
    @overload
    def __getitem__(self, index: slice) -> StoredLayers: ...
    def __getitem__(self, index: int | slice) -> LayerWeights | StoredLayers:
        if isinstance(index, slice):
            return StoredLayers(self._file, self._layers[index])
        affines = [Affine(self._file.read(weight), self._file.read(bias)) for weight, bias in self._layers[index]]
        return LayerNumbers(*affines).made(PlainLinear)
