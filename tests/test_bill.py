"""What two calls under one key cost, where an attempt is lost: one bill, however their answers overlap."""

from __future__ import annotations

import asyncio

import pytest
from client_cases import COST, PRICE, call

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, ScoreQuery, ScoreReply
from lmaas_sdk.client import Client
from lmaas_sdk.errors import AttemptTimeout
from lmaas_sdk.testing import run_virtual


class LosesTheFirst:
    """Bills a key once; its first answer is lost, and each of the others comes later than the one before."""

    def __init__(self) -> None:
        self._inner = MockBackend(price=PRICE)
        self._received = 0

    @property
    def card(self) -> ModelCard:
        return self._inner.card

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        self._received += 1
        if self._received == 1:
            raise AttemptTimeout("lost")
        delay_s = self._received * 0.2
        reply = await self._inner.score(query, key=key)
        await asyncio.sleep(delay_s)
        return reply

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        return await self._inner.features(query, key=key)

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_answers_under_one_key_overlap_and_one_bill_is_booked(calls: int) -> None:
    """The answer that puts the lost attempt right has the bill; the budget stays open, and every attempt is a call."""

    async def main() -> None:
        budget = Budget(calls=100, usd="5")
        client = Client(LosesTheFirst(), budget, cache=False)

        async def one(number: int) -> ScoreReply:
            await asyncio.sleep(number * 0.01)
            return await client.score(call(client, "k"))

        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                group.create_task(one(number))
        assert budget.posted.nanousd == COST
        assert budget.posted.calls == calls + 1
        assert not budget.overrun
        assert budget.pending.calls == 0

    run_virtual(main())
