"""What the rules of the conformance suite share: texts to send, calls with keys of their own, and how to find fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import Backend, FeatureQuery, FeatureReply, ModelCard, ScoreQuery, ScoreReply
from lmaas_sdk.errors import BackendError, RateLimited
from lmaas_sdk.seeding import raw_words
from lmaas_sdk.texts import MASK, LabelWords, Piece, Text, TextSet
from lmaas_sdk.tuning.subspace import Layout, Subspace

__all__ = ["ConformanceError", "Probe", "candidates", "text"]

SIZE_OF_Z = 6
PROMPT_TOKENS = 3
_SENTENCES = ("a warm and funny film", "dull", "the plot goes nowhere , slowly , for two hours", "great cast")
_PATIENCE = 50
T = TypeVar("T")


class ConformanceError(AssertionError):
    """A backend or an optimiser breaks a rule.

    Attributes:
        rule: The rule's name.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule = rule


def text(words: str) -> Text:
    """The user's words in a small template with a mask."""
    return (Piece("field", words), Piece("template", " . It was"), MASK, Piece("template", " ."))


def candidates(count: int, d: int = SIZE_OF_Z) -> NDArray[np.float32]:
    """Different points in [-1, 1): (count, d) float32."""
    words = raw_words(0, "conformance", count * d)
    return (words.astype(np.float64) * 2.0**-63 - 1.0).astype(np.float32).reshape(count, d)


class Probe:
    """A backend under test.

    Args:
        backend: The backend.
        label_words: Words that its vocabulary has.
    """

    def __init__(self, backend: Backend, label_words: LabelWords) -> None:
        self.backend, self.label_words = backend, label_words
        self.texts = self.text_set(*_SENTENCES)
        self.rule = ""
        self._run, self._calls = uuid4().hex, 0  # a server may remember the keys of an earlier check

    @property
    def card(self) -> ModelCard:
        return self.backend.card

    def text_set(self, *sentences: str) -> TextSet:
        return TextSet(tuple(text(sentence) for sentence in sentences), self.label_words)

    def subspace(
        self, layout: Layout | None = None, projection: str | None = None, *, base: str | None = None
    ) -> Subspace:
        """A small subspace; what is not given is the first that the card claims."""
        can = self.card.capabilities
        chosen: Layout = layout or ("add" if "add" in can.layouts else "cat")
        kind = projection or next(iter(can.projections), "uniform")
        d = PROMPT_TOKENS * self.card.hidden_size if kind == "identity" else SIZE_OF_Z
        return Subspace(d, PROMPT_TOKENS, self.card.hidden_size, layout=chosen, projection=kind, base=base, seed=7)

    def soft_query(self, count: int = 3, *, subspace: Subspace | None = None) -> ScoreQuery:
        """Some candidates on the usual texts; the manual prompt where the backend takes no other."""
        can = self.card.capabilities
        if subspace is None and not (can.layouts and can.projections):
            return ScoreQuery(self.texts)
        space = subspace or self.subspace()
        return ScoreQuery(self.texts, subspace=space, Z=candidates(count, space.d))

    def new_key(self) -> str:
        self._calls += 1
        return f"conformance/{self._run}/{self._calls}"

    async def score(self, query: ScoreQuery, *, key: str | None = None) -> ScoreReply:
        """Scores under a key of its own; a rate limit is waited for."""
        name = key or self.new_key()
        return await self._patiently(lambda: self.backend.score(query, key=name))

    async def features(self, query: FeatureQuery) -> FeatureReply:
        name = self.new_key()
        return await self._patiently(lambda: self.backend.features(query, key=name))

    def require(self, holds: bool, message: str) -> None:
        """Finds fault unless `holds`.

        Raises:
            ConformanceError: Naming the rule being checked.
        """
        if not holds:
            raise ConformanceError(self.rule, message)

    async def refuses(self, error: type[BackendError], call: Callable[[], Awaitable[object]], what: str) -> None:
        """Finds fault unless the call raises `error`."""
        try:
            await self._patiently(call)
        except error:
            return
        except ConformanceError:
            raise
        except Exception as other:
            found = f"{type(other).__name__}: {other}"
            raise ConformanceError(self.rule, f"{what} must raise {error.__name__}, not {found}") from other
        raise ConformanceError(self.rule, f"{what} must raise {error.__name__}, and was answered")

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        for _ in range(_PATIENCE):
            try:
                return await call()
            except RateLimited as limit:
                await asyncio.sleep(1.0 if limit.retry_after_s is None else limit.retry_after_s)
        raise ConformanceError(self.rule, f"the call was rate-limited {_PATIENCE} times, each wait kept")
