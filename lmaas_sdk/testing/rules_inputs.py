"""Rules of the conformance suite: what a backend takes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lmaas_sdk.backend import ArrayStore, FeatureQuery, PromptWriter, ScoreQuery, TextRegistry
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.errors import InvalidQuery, UnknownDataset, Unsupported
from lmaas_sdk.seeding import raw_words
from lmaas_sdk.testing.probe import PROMPT_TOKENS, SIZE_OF_Z, Probe, candidates
from lmaas_sdk.texts import Piece, TextSet

__all__ = [
    "arrays",
    "closing",
    "empty_text",
    "invalid_queries",
    "long_text",
    "plain_text",
    "registration",
    "unknown_digests",
    "unsupported",
]

_UNKNOWN = "0" * 64
_NEAR = 1e-3  # arrays are float32, and the sums of another order


async def registration(probe: Probe) -> None:
    """A registered set has the digest of its content and can be scored by it."""
    if not isinstance(probe.backend, TextRegistry):
        return
    first, again = [await probe.backend.register(probe.texts) for _ in range(2)]
    probe.require(first.digest == probe.texts.digest, "a registered set is named by TextSet.digest")
    probe.require(first == again, "registering a set twice gives the same answer")
    count = len(first.token_counts)
    probe.require(count == len(probe.texts), f"{count} token counts for {len(probe.texts)} texts")
    named, sent = await probe.score(ScoreQuery(first.digest)), await probe.score(ScoreQuery(probe.texts))
    same = np.array_equal(named.logits, sent.logits) or not probe.card.capabilities.deterministic
    probe.require(same, "a set has the same logits by digest and sent whole")


async def arrays(probe: Probe) -> None:
    """An uploaded array has the digest of its content, and as p0 or projection it changes the logits.

    A soft prompt that is written out and uploaded as p0 has the logits that it had.
    """
    backend, can = probe.backend, probe.card.capabilities
    if not can.arrays or not can.layouts or not can.projections or not isinstance(backend, ArrayStore):
        return
    base = _array(PROMPT_TOKENS, probe.card.hidden_size)
    name = await backend.upload(base)
    probe.require(name == array_digest(base), "an array is named by lmaas_sdk.canonical.array_digest")
    plain = await probe.score(probe.soft_query())
    learned = await probe.score(probe.soft_query(subspace=probe.subspace(base=name)))
    probe.require(not np.array_equal(plain.logits, learned.logits), "a learned p0 changes the logits")
    projection = await backend.upload(_array(PROMPT_TOKENS * probe.card.hidden_size, SIZE_OF_Z))
    reply = await probe.score(probe.soft_query(subspace=probe.subspace(projection=projection)))
    differs = not np.array_equal(reply.logits[0], reply.logits[1])
    probe.require(differs, "two candidates have the same logits under an uploaded projection")
    if isinstance(backend, PromptWriter) and can.deterministic:
        await _written_out(probe, backend, backend)


async def _written_out(probe: Probe, writer: PromptWriter, store: ArrayStore) -> None:
    asked = probe.soft_query()
    if asked.subspace is None or asked.Z is None:
        return
    prompts = await writer.soft_prompts(asked.subspace, asked.Z)
    shape = (len(asked.Z), PROMPT_TOKENS, probe.card.hidden_size)
    probe.require(prompts.shape == shape, f"soft prompts of shape {shape}, not {prompts.shape}")
    there = replace(asked.subspace, base=await store.upload(prompts[0]))
    found = await probe.score(replace(asked, subspace=there, Z=np.zeros_like(asked.Z[:1])))
    expected = (await probe.score(asked)).logits[:1]
    same = np.allclose(found.logits, expected, atol=_NEAR)
    probe.require(same, "a soft prompt that is written out, as p0 has other logits than it had")


async def unsupported(probe: Probe) -> None:
    """What the card does not claim raises Unsupported."""
    can, usual = probe.card.capabilities, probe.subspace()
    whole = PROMPT_TOKENS * probe.card.hidden_size
    lacking: list[tuple[bool, str, dict[str, Any]]] = [
        ("add" not in can.layouts, "layout add", {"layout": "add"}),
        ("cat" not in can.layouts, "layout cat", {"layout": "cat"}),
        ("uniform" not in can.projections, "projection uniform", {"projection": "uniform"}),
        ("normal" not in can.projections, "projection normal", {"projection": "normal"}),
        ("identity" not in can.projections, "projection identity", {"projection": "identity", "d": whole}),
        (not can.arrays, "an uploaded p0", {"base": _UNKNOWN}),
        (not can.layers, "a prompt at layer 1", {"layers": (1,)}),
    ]
    for lacks, what, change in lacking:
        if lacks:
            query = probe.soft_query(subspace=replace(usual, **change))
            await probe.refuses(Unsupported, partial(probe.score, query), what)
    if not can.top_k:
        await probe.refuses(Unsupported, partial(probe.score, ScoreQuery(probe.texts, top_k=2)), "top_k")
    if not can.features:
        await probe.refuses(Unsupported, partial(probe.features, FeatureQuery(probe.texts)), "a feature query")


async def invalid_queries(probe: Probe) -> None:
    """Rows that are none, a subspace of another width, a text without a mask and too many candidates are refused."""
    texts, card = probe.texts, probe.card
    wrong: list[tuple[str, ScoreQuery]] = [
        ("a row past the end", ScoreQuery(texts, rows=(0, len(texts)))),
        ("a negative row", ScoreQuery(texts, rows=(-1,))),
        ("no row at all", ScoreQuery(texts, rows=())),
        ("a text without a mask", ScoreQuery(TextSet(((Piece("field", "no mask"),),), probe.label_words))),
        ("texts without label words", ScoreQuery(TextSet(texts.texts))),
    ]
    if card.capabilities.layouts and card.capabilities.projections:
        usual = probe.subspace()
        wider = PROMPT_TOKENS if usual.projection == "identity" else 0
        other = replace(usual, hidden_size=card.hidden_size + 1, d=usual.d + wider)
        many = candidates(card.max_candidates + 1, usual.d)
        wrong.append(("a subspace of another hidden size", probe.soft_query(subspace=other)))
        wrong.append(("more candidates than the card allows", ScoreQuery(texts, (0,), None, usual, many)))
    for what, query in wrong:
        await probe.refuses(InvalidQuery, partial(probe.score, query), what)


async def unknown_digests(probe: Probe) -> None:
    """A digest that names nothing raises UnknownDataset (Unsupported where nothing can be registered at all)."""
    registers = isinstance(probe.backend, TextRegistry)
    error = UnknownDataset if registers else Unsupported
    await probe.refuses(error, partial(probe.score, ScoreQuery(_UNKNOWN)), "the digest of no text set")
    can = probe.card.capabilities
    if can.arrays and can.layouts and can.projections:
        query = probe.soft_query(subspace=probe.subspace(base=_UNKNOWN))
        await probe.refuses(UnknownDataset, partial(probe.score, query), "the digest of no array")


async def plain_text(probe: Probe) -> None:
    """Special tokens written in a user's words are words."""
    written = f"a {probe.card.mask} b </s> <s> <pad> [MASK] [SEP] [CLS]"
    reply = await probe.score(ScoreQuery(probe.text_set(written, "plain")))
    probe.require(bool(np.isfinite(reply.logits).all()), f"the logits of {written!r} are finite")


async def empty_text(probe: Probe) -> None:
    """A text without words is scored by its template."""
    reply = await probe.score(ScoreQuery(probe.text_set("", "plain")))
    probe.require(bool(np.isfinite(reply.logits).all()), "the logits of an empty text are finite")


async def long_text(probe: Probe) -> None:
    """A text over the model's length is shortened, not refused, and registering says so."""
    texts = probe.text_set("word " * (2 * probe.card.max_tokens), "plain")
    reply = await probe.score(ScoreQuery(texts))
    probe.require(bool(np.isfinite(reply.logits).all()), "the logits of an over-long text are finite")
    if isinstance(probe.backend, TextRegistry):
        taken = await probe.backend.register(texts)
        probe.require(taken.shortened == 1, f"one text of two was over-long, and {taken.shortened} shortened")
        most = probe.card.max_tokens
        probe.require(max(taken.token_counts) <= most, f"a text takes at most {most} tokens: {taken.token_counts}")


async def closing(probe: Probe) -> None:
    """A backend may be closed more than once."""
    for _ in range(2):
        await probe.backend.aclose()


def _array(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    words = raw_words(1, "conformance/array", rows * columns)
    return (words.astype(np.float64) * 2.0**-63 - 1.0).astype(np.float32).reshape(rows, columns)
