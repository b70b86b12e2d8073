"""What the mock refuses: options that make no sense, and queries its card does not allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import Capabilities, FeatureQuery, ModelCard, ScoreQuery
from lmaas_sdk.errors import InvalidQuery, UnknownDataset, Unsupported
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, Subspace

__all__ = ["N_LAYERS", "check_amount", "check_count", "check_score", "check_subspace", "rows_of"]

N_LAYERS = 4


def check_count(name: str, value: object, *, most: int | None = None) -> None:
    """Refuses what is no whole number from 1 to `most`.

    Raises:
        ValueError: The message names the option.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        limit = "" if most is None else f" and at most {most}"
        raise ValueError(f"{name} is a whole number of at least 1{limit}, not {value!r}")


def check_amount(name: str, value: object) -> None:
    """Refuses what is no finite number of at least 0.

    Raises:
        ValueError: The message names the option.
    """
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is a finite number of at least 0, not {value!r}")


def rows_of(query: ScoreQuery | FeatureQuery, texts: TextSet, card: ModelCard) -> NDArray[np.int64]:
    """The rows a query asks for: (n_texts,) int64.

    Raises:
        InvalidQuery: There are none or too many, or one is not a row of the set.
    """
    rows: Sequence[int] = range(len(texts)) if query.rows is None else query.rows
    if not rows:
        raise InvalidQuery("a query needs at least one text")
    wrong = [row for row in query.rows or () if not 0 <= row < len(texts)]
    if wrong:
        raise InvalidQuery(f"row {wrong[0]} is not one of the {len(texts)} texts: rows count from 0")
    if len(rows) > card.max_texts:
        raise InvalidQuery(f"{len(rows)} texts in a call and at most {card.max_texts} allowed: send them in parts")
    return np.arange(len(texts), dtype=np.int64) if query.rows is None else np.array(rows, dtype=np.int64)


def check_score(query: ScoreQuery, card: ModelCard, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Refuses candidates that this model cannot take.

    Raises:
        Unsupported: It lacks the capability.
        InvalidQuery: Too many candidates, or a subspace of another model.
        UnknownDataset: The subspace names an array that was not uploaded.
    """
    if query.top_k is not None and not card.capabilities.top_k:
        raise Unsupported(f"{card.name} does not answer with top_k words: ask for label logits")
    if query.n_candidates > card.max_candidates:
        raise InvalidQuery(f"{query.n_candidates} candidates in a call and at most {card.max_candidates} allowed")
    for subspace in query.subspaces:
        check_subspace(subspace, card)
        _check_arrays(subspace, arrays)


def check_subspace(subspace: Subspace, card: ModelCard) -> None:
    """Refuses a soft prompt of a kind or a size that this model does not take.

    Raises:
        Unsupported: It lacks the layout, the projection, uploaded arrays or other layers.
        InvalidQuery: The hidden size or a layer is not this model's.
    """
    lacking = _lacking(subspace, card.capabilities)
    if lacking is not None:
        raise Unsupported(f"{card.name} does not take {lacking}")
    if subspace.hidden_size != card.hidden_size:
        raise InvalidQuery(f"the subspace has hidden_size {subspace.hidden_size} and {card.name} {card.hidden_size}")
    if max(subspace.layers) >= N_LAYERS:
        raise InvalidQuery(f"layer {max(subspace.layers)} is not one of the {N_LAYERS} layers, which count from 0")


def _lacking(subspace: Subspace, capabilities: Capabilities) -> str | None:
    named = subspace.projection in NAMED_PROJECTIONS
    if subspace.layout not in capabilities.layouts:
        return f"soft prompts of layout {subspace.layout!r}"
    if named and subspace.projection not in capabilities.projections:
        return f"projection {subspace.projection!r}"
    if not capabilities.arrays and (subspace.base is not None or not named):
        return "uploaded arrays"
    if not capabilities.layers and subspace.layers != (0,):
        return f"prompts at layers {subspace.layers}"
    if subspace.layout != "add" and subspace.layers != (0,):
        return f"prompts of layout {subspace.layout!r} at layers {subspace.layers}: layout 'add' enters any"
    return None


def _check_arrays(subspace: Subspace, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    wanted = {subspace.base: (subspace.prompt_tokens, subspace.hidden_size)}
    if subspace.projection not in NAMED_PROJECTIONS:
        wanted[subspace.projection] = subspace.shape
    for name, shape in wanted.items():
        if name is None:
            continue
        if name not in arrays:
            raise UnknownDataset(f"no array {name} was uploaded: upload it first")
        if arrays[name].shape != shape:
            raise InvalidQuery(f"the array {name} has shape {arrays[name].shape} and the subspace needs {shape}")
