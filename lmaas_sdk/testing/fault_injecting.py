"""Any backend, with faults to order."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import final

from lmaas_sdk.backend import (
    ArrayStore,
    Backend,
    FeatureQuery,
    FeatureReply,
    ModelCard,
    PromptWriter,
    ScoreQuery,
    ScoreReply,
    TextRegistry,
)
from lmaas_sdk.testing.faults import Attempt, Faults, answer_or_fail

__all__ = ["FaultInjectingBackend"]


@final
class FaultInjectingBackend:
    """Stands before a backend and lets some of its calls fail.

    Registering texts, uploading arrays and writing prompts out pass through untouched, and exist only where the inner
    backend has them.

    Args:
        inner: Who answers; closing this closes it.
        faults: Which attempts fail, and how. A call that fails after being computed is really sent to `inner`.
    """

    def __init__(self, inner: Backend, faults: Faults) -> None:
        self.inner, self.faults = inner, faults
        self.attempts = 0
        self._by_key: Counter[str] = Counter()
        if isinstance(inner, TextRegistry):
            self.register = inner.register
        if isinstance(inner, ArrayStore):
            self.upload = inner.upload
        if isinstance(inner, PromptWriter):
            self.soft_prompts = inner.soft_prompts

    @property
    def card(self) -> ModelCard:
        return self.inner.card

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        """The inner backend's answer, or a fault.

        Raises:
            BackendError: The inner backend or a fault says so.
        """
        fault = self.faults.strikes(self._next(key))
        return await answer_or_fail(fault, key, partial(self.inner.score, query, key=key))

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        """The inner backend's answer, or a fault.

        Raises:
            BackendError: The inner backend or a fault says so.
        """
        fault = self.faults.strikes(self._next(key))
        return await answer_or_fail(fault, key, partial(self.inner.features, query, key=key))

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _next(self, key: str) -> Attempt:
        attempt = Attempt(self.attempts, key, nth=self._by_key[key])
        self.attempts += 1
        self._by_key[key] += 1
        return attempt
