"""Rules of the conformance suite: what a backend answers."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import cast

import numpy as np

from lmaas_sdk.backend import FeatureQuery, ScoreQuery, ScoreReply, TextRegistry
from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.testing.probe import Probe
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, Layout

__all__ = [
    "batching",
    "card",
    "concurrency",
    "features",
    "label_logits",
    "layers",
    "precise",
    "repeatability",
    "rows",
    "same_key",
    "soft_prompts",
    "top_k",
    "usage",
]

_CLOSE = 1e-3  # what packing a text differently may change where bits are not promised
_FEWER_BITS = 0.1  # of the largest logit: what a model may lose that computes in 8 significant bits
_AT_ONCE = 16
_NO_LAYER = 1_000_000  # deeper than any model


async def card(probe: Probe) -> None:
    """The card's sizes are positive, its names known, and what it claims can be called."""
    card = probe.card
    for name in ("hidden_size", "vocab_size", "max_tokens", "max_candidates", "max_texts", "replicas"):
        size = getattr(card, name)
        probe.require(isinstance(size, int) and size >= 1, f"card.{name} is a whole number of at least 1, not {size!r}")
    probe.require(bool(card.name), "card.name is not empty")
    probe.require(bool(card.mask), "card.mask is not empty")
    probe.require(card.embedding_std > 0, f"card.embedding_std is above 0, not {card.embedding_std!r}")
    can = card.capabilities
    probe.require(set(can.layouts) <= {"add", "cat"}, f"layouts are 'add' and 'cat', not {can.layouts}")
    known = set(can.projections) <= set(NAMED_PROJECTIONS)
    probe.require(known, f"projections are of {NAMED_PROJECTIONS}, not {can.projections}")
    probe.require(not can.arrays or hasattr(probe.backend, "upload"), "a backend that claims arrays has `upload`")
    limits = [getattr(card.limits, limit.name) for limit in fields(card.limits) if limit.name != "day_time_zone"]
    probe.require(all(limit is None or limit >= 1 for limit in limits), f"a limit is at least 1 or None: {card.limits}")


async def label_logits(probe: Probe) -> None:
    """The manual prompt has finite float32 logits of shape (1, n_texts, n_labels)."""
    _check_logits(probe, await probe.score(ScoreQuery(probe.texts)), 1)


async def soft_prompts(probe: Probe) -> None:
    """Every layout and projection that the card claims is taken, and candidates differ."""
    can = probe.card.capabilities
    for layout in can.layouts:
        for projection in can.projections:
            subspace = probe.subspace(cast("Layout", layout), projection)
            reply = await probe.score(probe.soft_query(3, subspace=subspace))
            _check_logits(probe, reply, 3)
            alike = np.array_equal(reply.logits[0], reply.logits[1])
            probe.require(not alike, f"two candidates have the same logits in layout {layout}, projection {projection}")


async def repeatability(probe: Probe) -> None:
    """A deterministic backend answers the same query under another key with the same bits."""
    if probe.card.capabilities.deterministic:
        once, again = [await probe.score(probe.soft_query()) for _ in range(2)]
        probe.require(np.array_equal(once.logits, again.logits), "the same query had other logits the second time")


async def batching(probe: Probe) -> None:
    """A candidate's logits are the same bits alone and among others (deterministic backends)."""
    query = probe.soft_query(min(5, probe.card.max_candidates))
    if not probe.card.capabilities.deterministic or query.Z is None:
        return
    together = await probe.score(query)
    for index in (0, len(query.Z) - 1):
        alone = await probe.score(ScoreQuery(query.texts, subspace=query.subspace, Z=query.Z[index : index + 1]))
        same = np.array_equal(alone.logits[0], together.logits[index])
        probe.require(same, f"candidate {index} of {len(query.Z)} has other logits when it is sent alone")


async def rows(probe: Probe) -> None:
    """`rows` picks texts, in the order given."""
    whole = await probe.score(probe.soft_query())
    query = probe.soft_query()
    part = await probe.score(ScoreQuery(query.texts, rows=(2, 0), subspace=query.subspace, Z=query.Z))
    shape = (query.n_candidates, 2, len(probe.label_words.words))
    probe.require(part.logits.shape == shape, f"rows=(2, 0) has logits of shape {shape}, not {part.logits.shape}")
    if probe.card.capabilities.deterministic:
        close = np.allclose(part.logits, whole.logits[:, [2, 0]], atol=_CLOSE)
        probe.require(close, "rows=(2, 0) does not have the logits of texts 2 and 0 in that order")


async def usage(probe: Probe) -> None:
    """Billed tokens are the registered counts of the texts scored, once for each candidate; scoring has no output."""
    query = probe.soft_query()
    counts = await _counts(probe, query)
    for wanted in (None, (2, 0)):
        reply = await probe.score(ScoreQuery(query.texts, rows=wanted, subspace=query.subspace, Z=query.Z))
        probe.require(reply.usage.output_tokens == 0, f"scoring has no output tokens, not {reply.usage.output_tokens}")
        billed = reply.usage.input_tokens
        probe.require(billed > 0, "a call bills at least one token")
        if counts is not None:
            texts = sum(counts if wanted is None else (counts[row] for row in wanted))
            expected = query.n_candidates * texts
            probe.require(
                billed == expected, f"{billed} tokens billed, and {query.n_candidates} candidates x {texts} registered"
            )


async def same_key(probe: Probe) -> None:
    """The same key has the same answer; under a used key another query is refused, or gets the first one's answer."""
    if not probe.card.capabilities.idempotent:
        return
    key, query = probe.new_key(), probe.soft_query()
    first, again = [await probe.score(query, key=key) for _ in range(2)]
    same = np.array_equal(first.logits, again.logits) and first.usage == again.usage
    probe.require(same, "the same key had another answer the second time")
    try:
        other = await probe.score(ScoreQuery(query.texts, rows=(1,)), key=key)
    except InvalidQuery:
        return
    probe.require(np.array_equal(first.logits, other.logits), "a used key was taken for another query")


async def precise(probe: Probe) -> None:
    """A precise query is billed as another is; its logits are near, and in a deterministic backend the same bits."""
    if not probe.card.capabilities.precise:
        return
    query = probe.soft_query()
    plain = await probe.score(query)
    once, again = [await probe.score(replace(query, precise=True)) for _ in range(2)]
    _check_logits(probe, once, query.n_candidates)
    billed, usual = [reply.usage.input_tokens + reply.usage.output_tokens for reply in (once, plain)]
    probe.require(billed == usual, f"a precise query is billed {billed} tokens, and the same otherwise {usual}")
    same = np.array_equal(once.logits, again.logits) or not probe.card.capabilities.deterministic
    probe.require(same, "the same precise query had other logits the second time")
    most = _FEWER_BITS * max(1.0, float(np.abs(once.logits).max()))
    apart = float(np.abs(once.logits - plain.logits).max())
    near = apart <= most or not probe.card.capabilities.deterministic
    probe.require(near, f"precise logits are {apart:.2g} from the usual ones, and at most {most:.2g} is rounding")


async def top_k(probe: Probe) -> None:
    """`top_k` has as many words as asked for, the likeliest first."""
    if not probe.card.capabilities.top_k:
        return
    reply = await probe.score(ScoreQuery(probe.texts, top_k=3))
    shape = (1, len(probe.texts), 3)
    probe.require(reply.logits.shape == shape, f"top_k=3 has logits of shape {shape}, not {reply.logits.shape}")
    probe.require(bool((np.diff(reply.logits, axis=-1) <= 0).all()), "top_k logits are sorted, largest first")
    words = reply.words or ()
    sizes = {len(ranks) for candidate in words for ranks in candidate}
    nested = [len(candidate) for candidate in words] == [len(probe.texts)] and sizes == {3}
    probe.require(nested, "top_k=3 has three words for each text of each candidate")
    probe.require(all(isinstance(w, str) for c in words for t in c for w in t), "top_k words are strings")


async def features(probe: Probe) -> None:
    """Hidden states have the card's width, their lengths add up, and each layer has its mean and deviation."""
    if not probe.card.capabilities.features:
        return
    width, count = probe.card.hidden_size, len(probe.texts)
    first = await probe.features(FeatureQuery(probe.texts))
    tokens = await probe.features(FeatureQuery(probe.texts, pool="tokens"))
    for reply, length in ((first, count), (tokens, int(tokens.lengths.sum()))):
        found = reply.features
        probe.require(found.shape == (length, width), f"features have shape {(length, width)}, not {found.shape}")
        probe.require(found.dtype == np.float32, f"features are float32, not {found.dtype}")
        probe.require(bool(np.isfinite(found).all()), "features are finite")
        probe.require(reply.lengths.shape == (count,), f"lengths have shape {(count,)}, not {reply.lengths.shape}")
        layers = reply.layer_mean.shape == reply.layer_std.shape and len(reply.layer_mean) > 1
        probe.require(layers, "layer_mean and layer_std have one entry for the embedding output and one a layer")
        probe.require(bool((reply.layer_std >= 0).all()), "a layer's standard deviation is not negative")
    some = await probe.features(FeatureQuery(probe.texts, rows=(2, 0)))
    order = np.allclose(some.features, first.features[[2, 0]], atol=_CLOSE)
    probe.require(order or not probe.card.capabilities.deterministic, "features of rows=(2, 0) are not in that order")


async def layers(probe: Probe) -> None:
    """Where claimed, prompts of layers 0 and 1 act together, and it is all one which of them is searched."""
    can = probe.card.capabilities
    if not can.layers or "add" not in can.layouts or not can.projections:
        return
    first = probe.subspace("add")
    second = replace(first, layers=(1,), seed=first.seed + 1)
    deep = probe.soft_query(2, subspace=second)
    if deep.Z is None:
        return
    z = deep.Z[0]
    alone = await probe.score(deep)
    both = await probe.score(replace(deep, frozen=(FrozenPrompt(first, z),)))
    _check_logits(probe, both, 2)
    probe.require(not np.array_equal(both.logits[0], both.logits[1]), "two candidates at layer 1 have the same logits")
    probe.require(not np.array_equal(both.logits, alone.logits), "a prompt frozen at layer 0 changes no logits")
    turned = replace(deep, subspace=first, Z=deep.Z[:1], frozen=(FrozenPrompt(second, deep.Z[1]),))
    close = np.allclose((await probe.score(turned)).logits[0], both.logits[1], atol=_CLOSE)
    holds = close or not can.deterministic
    probe.require(holds, "a prompt has other logits where layer 0 is searched and layer 1 frozen than the reverse")
    nowhere = replace(deep, subspace=replace(second, layers=(_NO_LAYER,)))
    await probe.refuses(InvalidQuery, lambda: probe.score(nowhere), f"a prompt at layer {_NO_LAYER}")


async def concurrency(probe: Probe) -> None:
    """Calls at the same time do not mix up their answers."""
    at_once = min(_AT_ONCE, probe.card.limits.concurrency or _AT_ONCE)
    queries = [ScoreQuery(probe.texts, rows=(number % len(probe.texts),)) for number in range(at_once)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(probe.score(query)) for query in queries]
    whole = await probe.score(ScoreQuery(probe.texts))
    for number, task in enumerate(tasks):
        row = number % len(probe.texts)
        logits = task.result().logits
        close = logits.shape[1] == 1 and np.allclose(logits[:, 0], whole.logits[:, row], atol=_CLOSE)
        holds = close or not probe.card.capabilities.deterministic
        probe.require(holds, f"of {at_once} calls at once, number {number} was answered with another text's logits")


def _check_logits(probe: Probe, reply: ScoreReply, n_candidates: int) -> None:
    shape = (n_candidates, len(probe.texts), len(probe.label_words.words))
    probe.require(reply.logits.shape == shape, f"logits have shape {shape}, not {reply.logits.shape}")
    probe.require(reply.logits.dtype == np.float32, f"logits are float32, not {reply.logits.dtype}")
    probe.require(bool(np.isfinite(reply.logits).all()), "logits are finite")


async def _counts(probe: Probe, query: ScoreQuery) -> tuple[int, ...] | None:
    if not isinstance(probe.backend, TextRegistry) or not isinstance(query.texts, TextSet):
        return None
    return (await probe.backend.register(query.texts, query.subspace)).token_counts
