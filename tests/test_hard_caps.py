"""Fifty calls at once against a cap of ten, over real HTTP: the server sees ten, whatever the cap counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pytest
from served import KEYS, TOKENS_A_TEXT, served

from lmaas_backends.roberta.accounts import Terms
from lmaas_sdk import Budget, LabelWords, Piece, Price, ScoreQuery, Subspace, TextSet, load_backend
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded
from lmaas_sdk.texts import MASK

TEXTS = TextSet(((Piece("field", "a film"), MASK),), LabelWords((" bad", " great")))
SUBSPACE = Subspace(4, 2, 4)
TERMS = Terms(Price(0, call_nanousd=1_000_000))


@pytest.mark.parametrize(
    "limits", [{"calls": 10}, {"tokens": 10 * TOKENS_A_TEXT}, {"usd": "0.01"}, {"evaluations": 10}], ids=str
)
@pytest.mark.parametrize("depth", [0, 2])
async def test_fifty_concurrent_calls_against_a_cap_of_ten(limits: dict[str, Any], depth: int) -> None:
    """Exactly ten reach the server and are billed; the other forty are refused before anything is sent."""
    async with served(terms=TERMS) as server, load_backend(server.url, api_key=KEYS[0].split("=")[1]) as backend:
        budget = Budget(**limits, name="cap")
        for level in range(depth):
            budget = budget.child(f"level {level}")
        client = Client(backend, budget)
        ends: Counter[str] = Counter()

        async def ask(number: int) -> None:
            z = np.full((1, 4), number, np.float32)
            query = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=z)
            call = client.call(query, f"call {number}", purpose="train", token_counts=(TOKENS_A_TEXT,))
            try:
                await client.score(call)
            except BudgetExceeded as refused:
                ends[f"refused by {refused.budget}"] += 1
            else:
                ends["answered"] += 1

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(ask(number))
        assert ends == {"answered": 10, "refused by cap": 40}
        assert len(server.engine.scored) == 10
        _, told, _ = await server.ask("GET", "/v1/usage")
        assert (told["usage"]["ann"]["calls"], told["usage"]["ann"]["nanousd"]) == (10, 10_000_000)
        assert budget.posted.calls == 10
