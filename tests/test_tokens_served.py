"""Tokens counted on the client are those that a running server counts and bills."""

from __future__ import annotations

import numpy as np

from lmaas_sdk import MASK, LabelWords, Piece, ScoreQuery, Subspace, TextSet, load_backend
from lmaas_sdk.accounting.tokens import count_tokens

FIELDS = (
    "a film",
    "",
    "naïve 😀 <mask> </s>",
    "two\n lines\t",
    "long words " * 2000,
    "é" * 700,
    "it's 2022, isn't it?",
)
TEXTS = TextSet(
    tuple((Piece("field", field), Piece("template", " . It was "), MASK, Piece("template", " .")) for field in FIELDS),
    LabelWords((" bad", " great")),
)


async def test_counts_are_what_a_server_registers_and_bills() -> None:
    """Without a prompt and in both layouts, also of texts that are shortened."""
    async with load_backend("roberta-tiny") as backend:
        subspaces = (None, *(Subspace(4, 9, backend.card.hidden_size, layout) for layout in ("add", "cat")))
        for index, subspace in enumerate(subspaces):
            counted = await count_tokens(backend, TEXTS, subspace)
            registered = await backend.register(TEXTS, subspace)
            assert (registered.token_counts, registered.shortened) == (counted.counts, counted.shortened)
            assert (True, 2) == (counted.exact, counted.shortened)
            Z = None if subspace is None else np.zeros((3, 4), np.float32)
            reply = await backend.score(ScoreQuery(TEXTS, subspace=subspace, Z=Z), key=f"call-{index}")
            assert reply.usage.input_tokens == sum(counted.counts) * (1 if Z is None else 3)
