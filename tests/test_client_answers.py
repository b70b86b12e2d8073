"""What the client makes of an answer: its bill, its shape, and what nobody counted beforehand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from client_cases import (
    COUNTS,
    NOTHING,
    SUBSPACE,
    TEXTS,
    TOKENS,
    WORST,
    Altered,
    call,
    mock,
    text_set,
    unchanged,
)

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.prices import Price, Usage
from lmaas_sdk.backend import ScoreQuery, ScoreReply
from lmaas_sdk.client import Client
from lmaas_sdk.errors import (
    BudgetExceeded,
    ProtocolError,
)
from lmaas_sdk.texts import MASK, Piece, TextSet


def billed(**usage: int) -> Altered:
    """A mock that bills otherwise than it counts."""
    return Altered(lambda reply: replace(reply, usage=replace(reply.usage, **usage)))


@pytest.mark.parametrize(
    ("usage", "unit"), [({"input_tokens": TOKENS + 1}, "tokens"), ({"input_tokens": 0, "output_tokens": 9}, "nanousd")]
)
async def test_a_bill_above_the_worst_case_is_booked_and_closes_the_budget(usage: dict[str, int], unit: str) -> None:
    """In full, in the unit that it breaks, and nothing goes out after it."""
    price = Price(400, 10**12)
    backend = Altered(lambda reply: replace(reply, usage=replace(reply.usage, **usage)), MockBackend(price=price))
    budget = Budget(usd="100")
    client = Client(backend, budget)
    first, second = await client.hold([call(client, "a"), call(client, "b")])
    with pytest.raises(BudgetExceeded, match="worst case of this call") as over:
        await client.score(call(client, "a"), first)
    assert (over.value.unit, budget.overrun) == (unit, True)
    actual = Usage(**({"input_tokens": TOKENS} | usage))
    expected = Amounts(1, 2, actual.input_tokens + actual.output_tokens, price.cost_nanousd(actual))
    assert (budget.posted, client.spend.total) == (expected, expected)
    with pytest.raises(BudgetExceeded, match="closed it"):
        await client.score(call(client, "b"), second)
    assert (len(backend.times_s), budget.pending) == (1, NOTHING)


@pytest.mark.parametrize("fault", ["nan", "wrong_shape"])
async def test_a_damaged_answer_is_charged_as_billed(fault: Any) -> None:
    """It is an error of the protocol, it is not tried again, and it is paid."""
    backend, budget = mock(fault), Budget()
    client = Client(backend, budget)
    with pytest.raises(ProtocolError):
        await client.score(call(client))
    assert (budget.posted, budget.pending, backend.book.received) == (WORST, NOTHING, 1)
    assert budget.posted.nanousd == backend.book.nanousd


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits.astype(np.float64),
        lambda logits: logits[:1],
        lambda logits: logits[:, :3],
        lambda logits: logits[..., 0],
        lambda logits: np.full_like(logits, np.inf),
        lambda logits: logits.tolist(),
    ],
    ids=["float64", "candidates", "texts", "axes", "infinite", "list"],
)
async def test_logits_that_are_not_what_was_asked_for(change: Any) -> None:
    """Another type, too few candidates, texts or axes, infinity, no array: refused, and booked as billed."""
    budget = Budget()
    client = Client(Altered(lambda reply: replace(reply, logits=change(reply.logits))), budget)
    with pytest.raises(ProtocolError, match="the answer"):
        await client.score(call(client))
    assert (budget.posted, budget.pending, client.spend.unknown_outcomes) == (WORST, NOTHING, 0)


@pytest.mark.parametrize(
    "backend",
    [
        billed(input_tokens=-1),
        billed(output_tokens=-1),
        billed(cached_tokens=TOKENS + 1),
        Altered(lambda reply: replace(reply, usage=Usage(1.5))),  # type: ignore[arg-type]
        Altered(lambda reply: replace(reply, usage=None)),  # type: ignore[type-var]
        Altered(lambda reply: None),
    ],
    ids=["negative", "negative output", "more cached than sent", "half a token", "no usage", "no reply"],
)
async def test_a_bill_that_is_none_is_booked_at_the_worst_case(backend: Altered) -> None:
    """A negative bill would make room that nobody paid for; without a readable one the outcome is unknown."""
    budget = Budget()
    client = Client(backend, budget)
    with pytest.raises(ProtocolError, match="the answer"):
        await client.score(call(client))
    assert (budget.posted, budget.pending, client.spend.unknown_outcomes) == (WORST, NOTHING, 1)


async def test_without_a_registry_tokens_have_an_upper_bound() -> None:
    """Bytes, a mask, prompt and special tokens: never below the true count, never above the model's length."""
    texts = text_set("", "plain words", "naïve café 猫猫猫", "\U0001f600\U0001f600", "!?;:." * 4, "long " * 1000)
    bound = await Client(unchanged(), Budget()).register(texts, SUBSPACE)
    exact = await MockBackend().register(texts, SUBSPACE)
    assert bound.digest == exact.digest
    assert all(most >= count for most, count in zip(bound.token_counts, exact.token_counts, strict=True))
    assert bound.token_counts[:3] == (16, 27, 40)
    assert max(bound.token_counts) == 512


async def test_the_upper_bound_counts_masks_and_lone_surrogates() -> None:
    """A mask is a token without bytes, and what stands for half a character takes three of them."""
    texts = TextSet(((Piece("field", "\ud800"), MASK, MASK),))
    bound = await Client(unchanged(), Budget()).register(texts)
    assert bound.token_counts == (4 + 3 + 2,)


async def test_top_k_and_rows_shape_the_answer() -> None:
    """What the answer should look like follows the query."""
    client = Client(MockBackend(), Budget())
    asked = ScoreQuery(TEXTS, rows=(1, 3), top_k=5)
    reply: ScoreReply = await client.score(client.call(asked, "k", purpose="predict", token_counts=COUNTS[:2]))
    assert reply.logits.shape == (1, 2, 5)
    assert math.isclose(sum(client.spend.total.to_dict().values()), 1 + reply.usage.input_tokens)
