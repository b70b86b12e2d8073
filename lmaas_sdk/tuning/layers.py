"""What a run over several layers knows of them: how many there are, and how large their hidden states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.backend import FeatureQuery, ModelCard
from lmaas_sdk.client import Client
from lmaas_sdk.errors import LmaasError, ProtocolError, Unsupported
from lmaas_sdk.seeding import raw_words, whole_number
from lmaas_sdk.tuning.deep_subspace import DeepSubspace
from lmaas_sdk.tuning.layerwise import LayerwiseSearch
from lmaas_sdk.tuning.optimizer import MakeOptimizer, Optimizer
from lmaas_sdk.tuning.parts import Part
from lmaas_sdk.tuning.preparation import LabelledTexts
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.subspace import Subspace

__all__ = [
    "Layers",
    "checked_layers",
    "deepened",
    "features_cost",
    "layer_std",
    "layers_of",
    "layerwise",
    "require_layers",
]

Layers = Literal["all"] | tuple[int, ...]
"""Which layers are searched."""
_LABEL = "layers"
_SEED_BITS = 32
_DIGITS = 6  # as a card's `embedding_std` has: engines differ in the last bits


def checked_layers(layers: object) -> Layers:
    """The layers, distinct and in their order.

    Raises:
        TypeError, ValueError: They are neither "all" nor such numbers.
    """
    if layers == "all":
        return "all"
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise TypeError(f"layers is 'all', or numbers of layers such as (0, 1), not {layers!r:.80}")
    numbers = sorted(whole_number("a layer", layer, at_least=0) for layer in layers)
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"layers are searched once each, not {layers!r:.80}")
    return tuple(numbers)


def require_layers(card: ModelCard, preset: Preset) -> None:
    """Refuses a model or settings that no deep prompt goes with.

    Raises:
        Unsupported: The backend takes no prompts at deeper layers, or tells nothing of hidden states.
        ValueError: The layout is not `add`.
    """
    if not card.capabilities.layers:
        raise Unsupported(f"{card.name} takes prompts at layer 0 only: BlackBoxTuning searches that one")
    if not card.capabilities.features:
        raise Unsupported(f"{card.name} answers no feature queries, and hidden states say how large prompts may be")
    if preset.layout != "add":
        raise ValueError(f"prompts of deeper layers are added to hidden states: layout is 'add', not {preset.layout!r}")


async def features_cost(client: Client, train: LabelledTexts) -> Amounts:
    """The most that asking about the layers may take."""
    return (await _part(client, train, key="")).call.worst


async def layer_std(scheduler: Scheduler, train: LabelledTexts) -> NDArray[np.float32]:
    """The standard deviation of the hidden states that enter each layer, and of the last one's: (n_layers + 1,).

    They are those of the training texts under the manual prompt, all numbers of all tokens. It is one call, journalled
    like others: a run that goes on has its answer.

    Raises:
        LmaasError: It could not be asked.
    """
    client, journal = scheduler.client, scheduler.journal
    part = await _part(client, train, key=scheduler.key("features", _LABEL))
    key = part.call.key
    if journal is not None and key in journal.past.answers:
        return journal.past.answers[key].astype(np.float32)
    (hold,) = await scheduler.open([part], label=_LABEL)
    try:
        found = (await client.features(part.call, hold)).layer_std
        if not (found > 0).all():
            raise ProtocolError(f"hidden states have a standard deviation above 0 in every layer, not {found.tolist()}")
    except LmaasError as error:
        if journal is not None:
            await journal.failed(key, type(error).__name__, client.spend.taken([key]))
        raise
    if journal is not None:
        await journal.answered(key, found, client.spend.taken([key]))
    return found


def layers_of(base: Subspace, layers: Layers, std: NDArray[np.float32], *, preset: Preset, seed: int) -> DeepSubspace:
    """A subspace a layer. With projection `normal`, prompts start as large as alpha times what enters the layer.

    Args:
        base: That of layer 0, whose unit is the spread of the word embeddings.
        layers: Which.
        std: From `layer_std`.
        preset: The settings; its scale is alpha.
        seed: Of the run; every layer's own is drawn from it, and layer 0 has it as it is.

    Raises:
        ValueError: A layer is none of the model's.
    """
    count = len(std) - 1
    chosen = tuple(range(count)) if layers == "all" else layers
    if chosen[-1] >= count:
        raise ValueError(f"layer {chosen[-1]} is not one of the {count} layers of the model, which count from 0")

    def scale(layer: int) -> float:
        if layer == 0 or preset.projection != "normal":
            return base.scale
        return preset.scale * float(f"{std[layer]:.{_DIGITS}g}") / preset.sigma0

    return DeepSubspace(
        tuple(
            replace(base, layers=(layer,), scale=scale(layer), seed=_seed(seed, "subspace", layer)) for layer in chosen
        )
    )


def layerwise(space: DeepSubspace, make: MakeOptimizer, seed: int, check: Callable[[object], None]) -> Optimizer:
    """The searches of all layers, as one.

    Args:
        space: The layers.
        make: Makes the search of one, of its d and a seed.
        seed: Of the run.
        check: Refuses what is no search.
    """
    searches = [make(part.d, _seed(seed, "search", part.layers[0])) for part in space.parts]
    for search in searches:
        check(search)
    return LayerwiseSearch(searches, [part.d for part in space.parts])


def deepened(data: Mapping[str, LabelledTexts], space: DeepSubspace) -> dict[str, LabelledTexts]:
    """The data, to be scored under prompts of several layers; the manual prompt stays as it is."""

    def under(texts: LabelledTexts) -> LabelledTexts:
        has_prompt = texts.scorable.subspace is not None
        return replace(texts, scorable=replace(texts.scorable, subspace=space)) if has_prompt else texts

    return {name: under(texts) for name, texts in data.items()}


def _seed(seed: int, role: str, layer: int) -> int:
    return seed if layer == 0 else int(raw_words(seed, f"deep/{role}/{layer}/1", 1)[0]) >> (64 - _SEED_BITS)


async def _part(client: Client, train: LabelledTexts, *, key: str) -> Part:
    """The feature call on as many of the training texts as one may carry, the first ones."""
    texts = train.dataset.text_set
    counts = (await client.register(texts)).token_counts
    quota = client.limits("features").tokens_per_minute
    fitting = counts[: client.backend.card.max_texts]
    while quota is not None and len(fitting) > 1 and sum(fitting) > quota:
        fitting = fitting[:-1]
    rows = None if len(fitting) == len(texts) else tuple(range(len(fitting)))
    call = client.call(FeatureQuery(texts, rows), key, purpose="features", token_counts=fitting, of_texts=len(texts))
    return Part(call, slice(0, 1), slice(0, len(fitting)))
