"""What decides an answer, as one digest: equal digests, equal answers of a deterministic backend."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from lmaas_sdk.backend import FeatureQuery, ModelCard, ScoreQuery

__all__ = ["query_digest"]

_BYTES = 20


def query_digest(query: ScoreQuery | FeatureQuery, card: ModelCard) -> str:
    """BLAKE2b, in hex, over model, engine, texts, rows, prompt, candidates and precision.

    A text set and its digest are the same; rows that name all texts in order and no rows are not. Everything but Z goes
    in by its `repr`, which spells strings, whole numbers and None in one way only.
    """
    texts = query.texts if isinstance(query.texts, str) else query.texts.digest
    parts: list[object] = [card.name, card.fingerprint, card.tokenizer_digest, texts, query.rows]
    hashed = blake2b(digest_size=_BYTES)
    if isinstance(query, FeatureQuery):
        hashed.update(repr(["features", *parts, query.pool]).encode("utf-8", "surrogatepass"))
        return hashed.hexdigest()
    prompt = None if query.subspace is None else query.subspace.digest
    shape = None if query.Z is None else query.Z.shape
    # said only where it is so, and other queries keep the digests that files know them by
    precise = ["precise"] if query.precise else []
    frozen = [["frozen", *(one.subspace.digest for one in query.frozen)]] if query.frozen else []
    asked = ["score", *parts, query.top_k, prompt, shape, *precise, *frozen]
    hashed.update(repr(asked).encode("utf-8", "surrogatepass"))
    for numbers in () if query.Z is None else (query.Z, *(one.z for one in query.frozen)):
        hashed.update(np.ascontiguousarray(numbers, dtype="<f4").data)
    return hashed.hexdigest()
