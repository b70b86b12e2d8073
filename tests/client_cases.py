"""Texts, calls and backends that the tests of budget, client and scheduler share."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, FeatureQuery, FeatureReply, ModelCard, ScoreQuery, ScoreReply
from lmaas_sdk.client import Call, Client
from lmaas_sdk.testing import Fault, Faults
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.subspace import Subspace

PRICE = Price(400_000_000, call_nanousd=1_000)
SUBSPACE = Subspace(4, 2, 64)
WORDS = ("a warm and funny film", "dull", "two hours of rain , slowly", "great cast")


def text_set(*sentences: str) -> TextSet:
    """Sentences in a small template."""
    texts = tuple((Piece("field", words), Piece("template", " . It was"), MASK) for words in sentences)
    return TextSet(texts, LabelWords((" bad", " great")))


TEXTS = text_set(*WORDS)
COUNTS = (13, 9, 14, 10)  # 2 of the prompt, 2 special, 3 of the template, the mask, and the words
TOKENS = 2 * sum(COUNTS)  # of two candidates
COST = PRICE.call_nanousd + TOKENS * 400


NOTHING = Amounts()
WORST = Amounts(1, 2, TOKENS, COST)


def mock(*script: Fault | str | None, **options: Any) -> MockBackend:
    """A priced mock whose attempts fail by script."""
    return MockBackend(price=PRICE, faults=Faults(script=script), **options)  # type: ignore[arg-type]


def points(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Different candidates: (count, d) float32."""
    return np.arange(count * SUBSPACE.d, dtype=np.float32).reshape(count, SUBSPACE.d) / 10


def query(candidates: int = 2, key: str = "k") -> ScoreQuery:
    """Some candidates on all texts; another key, other candidates."""
    shift = np.float32(zlib.crc32(key.encode()) / 2**32)
    return ScoreQuery(TEXTS, subspace=SUBSPACE, Z=points(candidates) + shift)


def call(client: Client, key: str = "k", *, purpose: Purpose = "train", candidates: int = 2) -> Call:
    """Two candidates on four texts, priced."""
    return client.call(query(candidates, key), key, purpose=purpose, token_counts=COUNTS)


class Altered:
    """A mock whose answers are changed on their way; it registers no texts.

    Attributes:
        times_s: When each request came, by the running loop's clock.
    """

    def __init__(self, change: Callable[[ScoreReply], object], inner: MockBackend | None = None) -> None:
        self.inner, self._change = inner or MockBackend(price=PRICE), change
        self.times_s: list[float] = []

    @property
    def card(self) -> ModelCard:
        return self.inner.card

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        self.times_s.append(asyncio.get_running_loop().time())
        return self._change(await self.inner.score(query, key=key))  # type: ignore[return-value]

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        return await self.inner.features(query, key=key)

    async def aclose(self) -> None:
        await self.inner.aclose()


def unchanged(inner: MockBackend | None = None) -> Altered:
    """A backend that only notes when requests come."""
    return Altered(lambda reply: reply, inner)


def failing(error: BaseException) -> Backend:
    """A backend that answers every call with an error of its own."""

    def fail(reply: ScoreReply) -> object:
        raise error

    return Altered(fail)
