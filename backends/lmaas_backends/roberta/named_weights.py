"""A model's numbers by name: what is trained, what a file keeps, and what a model is made of again.

A table of words that is the decoder, too, stands there once. All are plain float32, of one or two axes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lmaas_backends.roberta.linears import MakeLinear, PlainLinear
from lmaas_backends.roberta.weights import Affine, HeadWeights, LayerNumbers, Weights

__all__ = ["by_name", "check_names", "digest_of", "made_of"]

_TABLES = ("words", "positions", "token_type")
_HEAD = tuple(field.name for field in fields(HeadWeights))
_LAYER = tuple(field.name for field in fields(LayerNumbers))


def by_name(weights: Weights) -> dict[str, Tensor]:
    """The tensors of a model whose linear maps are `PlainLinear`; none is copied."""
    found = {name: getattr(weights, name) for name in _TABLES}
    for name, affine in _affines(weights):
        found |= {f"{name}.weight": affine.weight, f"{name}.bias": affine.bias}
    if weights.head.decoder.weight is weights.words:
        del found["head.decoder.weight"]
    return found


def _affines(weights: Weights) -> Iterator[tuple[str, Affine | PlainLinear]]:
    yield "embedding_norm", weights.embedding_norm
    for index, layer in enumerate((*weights.layers, weights.last)):
        yield from ((f"layers.{index}.{name}", getattr(layer, name)) for name in _LAYER)
    yield from ((f"head.{name}", getattr(weights.head, name)) for name in _HEAD)


def made_of(tensors: Mapping[str, Tensor], make: MakeLinear) -> Weights:
    """The model that these tensors are.

    Args:
        tensors: As `by_name` names them.
        make: Makes the linear maps of all layers but the last.
    """

    def affine(name: str) -> Affine:
        return Affine(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    words = tensors["words"]
    decoder = Affine(tensors.get("head.decoder.weight", words), tensors["head.decoder.bias"])
    count = sum(name.endswith(".qkv.weight") for name in tensors)
    *layers, last = (LayerNumbers(*(affine(f"layers.{n}.{name}") for name in _LAYER)) for n in range(count))
    return Weights(
        words=words,
        positions=tensors["positions"],
        token_type=tensors["token_type"],
        embedding_norm=affine("embedding_norm"),
        layers=[layer.made(make) for layer in layers],
        last=last,
        head=HeadWeights(affine("head.dense"), affine("head.norm"), decoder),
    )


def check_names(arrays: Mapping[str, NDArray[np.float32]], weights: Weights) -> None:
    """Refuses arrays that are not all the numbers of a model like this one.

    Raises:
        ValueError: The message names the first that is missing, too many, or of another shape or type.
    """
    wanted = _shapes(weights)
    for name in sorted(wanted.keys() ^ arrays.keys()):
        what = "are missing" if name in wanted else "are none of this model's"
        raise ValueError(f"the weights {name!r:.80} {what}: they are those of another model")
    for name, shape in wanted.items():
        found = arrays[name]
        if found.dtype != np.float32 or found.shape != shape:
            raise ValueError(f"the weights {name!r} are float32 of shape {shape}, not {found.dtype} of {found.shape}")


def _shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    """The shape of every array; linear maps that were packed do not tell theirs."""
    last = weights.last
    shapes: dict[str, tuple[int, ...]] = {name: tuple(getattr(weights, name).shape) for name in _TABLES}
    affines = {"embedding_norm": weights.embedding_norm}
    for index in range(len(weights.layers) + 1):
        affines |= {f"layers.{index}.{name}": getattr(last, name) for name in _LAYER}  # all layers are alike
    affines |= {f"head.{name}": getattr(weights.head, name) for name in _HEAD}
    for name, affine in affines.items():
        shapes |= {f"{name}.weight": tuple(affine.weight.shape), f"{name}.bias": tuple(affine.bias.shape)}
    if weights.head.decoder.weight is weights.words:
        del shapes["head.decoder.weight"]
    return shapes


def digest_of(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """SHA-256 over names, shapes and numbers, in hex."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name}{arrays[name].shape}".encode())
        found.update(np.ascontiguousarray(arrays[name], dtype="<f4").data)
    return found.hexdigest()
