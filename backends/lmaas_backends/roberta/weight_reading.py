"""How the numbers of a model are taken out of its checkpoint, and where they are kept."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lmaas_backends.roberta.checkpoint import Checkpoint
from lmaas_backends.roberta.float_file import FloatFile
from lmaas_backends.roberta.linears import MakeLinear, PlainLinear
from lmaas_backends.roberta.weights import (
    Affine,
    HeadWeights,
    LayerNumbers,
    LayerWeights,
    StoredLayer,
    StoredLayers,
    Weights,
)
from lmaas_sdk.errors import ModelLoadError

__all__ = ["ReadWeights", "read_weights"]

_HEADS = {
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder"),
}
_MAPPED_FROM_BYTES = 64 << 20
_STD_ROWS = 4096
_log = logging.getLogger("lmaas_backends")


@dataclass(frozen=True, slots=True, eq=False)
class ReadWeights:
    """A model's numbers, read.

    Args:
        weights: What computes.
        precise: The same in float32 throughout, where `weights` has fewer bits; None: `weights` is that.
        digest: SHA-256 over the bytes of all tensors, in hex; independent of how the file stored them.
        embedding_std: Standard deviation of the word embeddings, to 6 significant digits.
    """

    weights: Weights
    precise: Weights | None
    digest: str
    embedding_std: float


def read_weights(checkpoint: Checkpoint, *, name: str, make: MakeLinear, reduced: bool, device: str) -> ReadWeights:
    """Takes a model's tensors out of its checkpoint.

    What is large and seldom looked at stays out of memory: of a large table of words only the rows that are used come
    in, and the float32 layers behind a model in fewer bits are read one by one when a query asks for them.

    Args:
        checkpoint: Of a `RobertaForMaskedLM` or `BertForMaskedLM`; its tensors are taken once.
        name: What messages call the model.
        make: Makes the linear maps of all layers but the last.
        reduced: Those maps have fewer bits than float32.
        device: Where everything goes.

    Raises:
        ModelLoadError: A tensor holds NaN or infinity; or there is no room for the temporary file of `reduced`.
    """
    n_layers = checkpoint.config.num_hidden_layers
    reader = _Reader(checkpoint, name, device)
    words, positions, token_type, norm = reader.embeddings()
    layers, kept = [], _KeptLayers(device) if reduced else None
    for index in range(n_layers - 1):
        numbers = reader.layer(index)
        layers.append(numbers.made(make))
        if kept is not None:
            kept.keep(numbers)
    last, head = reader.layer(n_layers - 1), reader.head(words)
    weights = Weights(words, positions, token_type, norm, layers, last, head)
    std = _std(words)
    del words, head
    weights = _with_mapped_words(weights) if device == "cpu" else weights
    precise = None if kept is None else replace(weights, layers=kept.layers())
    return ReadWeights(weights, precise, reader.digest, std)


class _Reader:
    """Takes tensors out of a checkpoint by the names Hugging Face gives them, each once: none need be there twice."""

    def __init__(self, checkpoint: Checkpoint, name: str, device: str) -> None:
        self._take, self._family = checkpoint.take, checkpoint.config.model_type
        self._name, self._device = name, device
        self._sum = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Over the tensors taken so far."""
        return self._sum.hexdigest()

    def embeddings(self) -> tuple[Tensor, Tensor, Tensor, Affine]:
        """Words, positions, the vector of token type 0, and the norm."""
        place = f"{self._family}.embeddings"
        words, positions, types = (
            self._tensor(f"{place}.{name}_embeddings.weight") for name in ("word", "position", "token_type")
        )
        return words, positions, types[0].clone(), self._affine(f"{place}.LayerNorm")

    def head(self, words: Tensor) -> HeadWeights:
        """The head; a decoder that is the table of words, as nearly all are, is not kept twice."""
        dense, norm, decoder = (self._affine(name) for name in _HEADS[self._family])
        weight = words if torch.equal(decoder.weight, words) else decoder.weight
        return HeadWeights(dense, norm, Affine(weight, decoder.bias))

    def layer(self, index: int) -> LayerNumbers:
        """A layer's numbers."""
        name = f"{self._family}.encoder.layer.{index}"
        parts = [self._affine(f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        return LayerNumbers(
            qkv=Affine(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
            attended=self._affine(f"{name}.attention.output.dense"),
            attended_norm=self._affine(f"{name}.attention.output.LayerNorm"),
            widen=self._affine(f"{name}.intermediate.dense"),
            narrow=self._affine(f"{name}.output.dense"),
            norm=self._affine(f"{name}.output.LayerNorm"),
        )

    def _affine(self, name: str) -> Affine:
        return Affine(self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"))

    def _tensor(self, name: str) -> Tensor:
        taken = self._take(name).detach().to(dtype=torch.float32).contiguous()
        if not torch.isfinite(taken).all():
            raise ModelLoadError(
                f"tensor {name} of model {self._name!r} holds NaN or infinity in float32: its training diverged or its "
                "file is damaged; take another checkpoint"
            )
        self._sum.update(repr(tuple(taken.shape)).encode())
        self._sum.update(taken.numpy().data)
        # A copy of its own: the caller's model may be freed, and nothing it does later changes these numbers.
        return taken.to(device=self._device, copy=True)


class _KeptLayers:
    """The float32 layers behind those of fewer bits: in a file beside a CPU, in memory on another device."""

    def __init__(self, device: str) -> None:
        self._is_filed = device == "cpu"
        self._file: FloatFile | None = None
        self._stored: list[StoredLayer] = []
        self._held: list[LayerNumbers] = []

    def keep(self, numbers: LayerNumbers) -> None:
        if not self._is_filed:
            self._held.append(numbers)
            return
        try:
            self._file = self._file or FloatFile()
            self._stored.append(numbers.stored(self._file))
        except OSError as error:
            raise ModelLoadError(
                "the float32 weights behind fewer bits go into a temporary file, and it cannot be written: "
                f"{error}. Let TMPDIR name a folder with room, or take dtype float32"
            ) from error

    def layers(self) -> Sequence[LayerWeights]:
        if self._file is None:
            return tuple(numbers.made(PlainLinear) for numbers in self._held)
        return StoredLayers(self._file, self._stored)


def _with_mapped_words(weights: Weights) -> Weights:
    """The same, with a large table of words in a file; where there is no room for one, it stays in memory."""
    words, decoder = weights.words, weights.head.decoder
    if words.nbytes < _MAPPED_FROM_BYTES:
        return weights
    try:
        file = FloatFile()
        mapped = file.mapped(file.put(words))
    except OSError as error:
        _log.info("the table of words stays in memory: %s", error)
        return weights
    head = replace(weights.head, decoder=Affine(mapped, decoder.bias)) if decoder.weight is words else weights.head
    return replace(weights, words=mapped, head=head)


def _std(words: Tensor) -> float:
    """Population standard deviation of all entries, in float64 a block at a time, to 6 significant digits."""
    blocks = torch.split(words, _STD_ROWS)
    mean = sum(block.double().sum().item() for block in blocks) / words.numel()
    squares = sum((block.double() - mean).square().sum().item() for block in blocks)
    return float(f"{(squares / words.numel()) ** 0.5:.6g}")
