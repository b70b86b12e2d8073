"""Backends that are planned with and sent nothing: a real one whose tokenizer counts, and one on paper."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import NoReturn, Self

from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.accounting.tokens import counter_of
from lmaas_sdk.backend import (
    Backend,
    Capabilities,
    FeatureQuery,
    Limits,
    ModelCard,
    Registration,
    ScoreQuery,
    TextRegistry,
)
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["CountedBackend", "OnPaper"]

_LONGEST = 1_000_000
_MOST_TOKENS = 1 << 20  # room for a prompt beside the longest text


class CountedBackend:
    """A backend that counts tokens and takes no call.

    By the model's own tokenizer where the backend hands out one that can be read here, so that its server hears of no
    text; else by the server's free registration, else by a bound.

    Args:
        backend: The real one.

    Attributes:
        card: The model card.
        method: How tokens were counted, in words.
        is_exact: Whether that is what will be billed.
    """

    def __init__(self, backend: Backend) -> None:
        self.card = backend.card
        self.method, self.is_exact = "", True
        self._backend = backend

    @property
    def price(self) -> Price | None:
        """What the model costs: nothing, if its card has no price; None: nobody knows."""
        return self.card.price or Price(0)

    def priced(self, price: Price) -> Self:
        """The same model at another price."""
        other = copy.copy(self)
        other.card = replace(self.card, price=price)
        return other

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Token counts of each text under a prompt.

        Raises:
            InvalidQuery: The model could not take them.
            BackendError: The tokenizer could not be fetched, or the texts not registered.
        """
        counted = await (await counter_of(self._backend)).count(texts.texts, subspace)
        if not counted.exact and isinstance(self._backend, TextRegistry):
            self.method = "the backend's own count"
            return await self._backend.register(texts, subspace)
        self.method, self.is_exact = counted.method, counted.exact
        return Registration(texts.digest, counted.counts, counted.shortened)

    async def score(self, query: ScoreQuery, *, key: str) -> NoReturn:
        """Raises: Unsupported: Always."""
        raise Unsupported("a backend that is planned with takes no calls")

    async def features(self, query: FeatureQuery, *, key: str) -> NoReturn:
        """Raises: Unsupported: Always."""
        raise Unsupported("a backend that is planned with takes no calls")

    async def aclose(self) -> None:
        """Nothing is open."""


class OnPaper(CountedBackend):
    """A model that nobody has to serve: every text has the same number of tokens.

    Args:
        name: The model's.
        tokens_a_text: Tokens of a text in its template, special tokens included, at most a million; a prompt's come
            on top.
        hidden_size: D, by which a preset may size its prompt.
        max_candidates: Most candidates a call may carry.
        price: None: nobody knows, so that its money is unknown.
        limits: Its quotas.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        name: str,
        *,
        tokens_a_text: int,
        hidden_size: int = 1024,
        max_candidates: int = 64,
        price: Price | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._tokens = whole_number("tokens_a_text", tokens_a_text, at_least=1)
        if self._tokens > _LONGEST:
            raise ValueError(f"tokens_a_text is at most {_LONGEST:,}, not {tokens_a_text}")
        self.card = ModelCard(
            name,
            hidden_size=whole_number("hidden_size", hidden_size, at_least=1),
            vocab_size=50_265,
            max_tokens=_MOST_TOKENS,
            mask="<mask>",
            capabilities=Capabilities(projections=("uniform", "normal", "identity"), deterministic=True, layers=True),
            price=price,
            max_candidates=whole_number("max_candidates", max_candidates, at_least=1),
            limits=limits or Limits(),
        )
        self.method, self.is_exact = f"{tokens_a_text} a text, as given", False

    @property
    def price(self) -> Price | None:
        """What it was given."""
        return self.card.price

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """The same count for each text."""
        tokens = self._tokens + (0 if subspace is None else subspace.prompt_tokens)
        return Registration(texts.digest, (tokens,) * len(texts))
