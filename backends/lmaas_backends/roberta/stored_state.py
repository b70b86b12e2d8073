"""A checkpoint's tensors out of safetensors files, one at a time.

transformers' own way makes a model of them first, whose code alone takes 100 MB, with all tensors in memory together.
It is left for checkpoints of another form.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils.hub import cached_file

__all__ = ["StoredState", "find_state"]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_BIASES = {"lm_head.decoder.bias": "lm_head.bias", "cls.predictions.decoder.bias": "cls.predictions.bias"}
_DECODERS = ("lm_head.decoder.weight", "cls.predictions.decoder.weight")


@dataclass(frozen=True, slots=True)
class StoredState:
    """Tensors by name.

    Args:
        files: The file of each.
        same: Names that stand for another's tensor.
    """

    files: dict[str, Path]
    same: dict[str, str]

    def take(self, name: str) -> Tensor:
        """Reads one; the file is open for as long as the tensor lives."""
        stored = self.same.get(name, name)
        with safe_open(self.files[stored], framework="pt") as file:
            tensor: Tensor = file.get_tensor(stored)
        return tensor


def find_state(source: str, config: Any) -> StoredState | None:
    """The tensors of a checkpoint that is complete under the names and in the shapes of its configuration; else None.

    Args:
        source: The checkpoint's folder, or its name on the hub.
        config: As transformers reads it.
    """
    stored, same = _stored(source), _same_tensors(config)
    for name, shape in _shapes(config).items():
        found = stored.get(same.get(name, name))
        if found is None or found[1] != shape:
            return None
    return StoredState({name: path for name, (path, _) in stored.items()}, same)


def _stored(source: str) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """File and shape of each tensor; nothing where there are no such files, or they are damaged."""
    stored: dict[str, tuple[Path, tuple[int, ...]]] = {}
    try:
        for path in _files(source):
            with safe_open(path, framework="pt") as file:
                stored |= {name: (path, tuple(file.get_slice(name).get_shape())) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # transformers will say what is wrong with them
    return stored


def _files(source: str) -> list[Path]:
    if (index := _path(source, _INDEX)) is None:
        single = _path(source, _SINGLE)
        return [] if single is None else [single]
    shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    return [path for shard in shards if (path := _path(source, shard)) is not None]


def _path(source: str, name: str) -> Path | None:
    folder = Path(source)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _same_tensors(config: Any) -> dict[str, str]:
    """Names under which nothing need be stored: a tied decoder is the table of words, and has the head's bias."""
    if not getattr(config, "tie_word_embeddings", True):
        return {}
    words = f"{config.model_type}.embeddings.word_embeddings.weight"
    return {**_BIASES, **dict.fromkeys(_DECODERS, words)}


def _shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that the engine reads."""
    width, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    family = config.model_type
    head = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
    if family == "bert":
        head = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder")
    maps = {head[0]: (width, width), head[2]: (vocabulary, width)}
    norms = [f"{family}.embeddings.LayerNorm", head[1]]
    for index in range(config.num_hidden_layers):
        layer = f"{family}.encoder.layer.{index}"
        maps |= {f"{layer}.attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        maps |= {f"{layer}.attention.output.dense": (width, width), f"{layer}.intermediate.dense": (inner, width)}
        maps |= {f"{layer}.output.dense": (width, inner)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    rows = {"word": vocabulary, "position": config.max_position_embeddings, "token_type": config.type_vocab_size}
    shapes: dict[str, tuple[int, ...]] = {
        f"{family}.embeddings.{name}_embeddings.weight": (count, width) for name, count in rows.items()
    }
    for name, (out, into) in maps.items():
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes
