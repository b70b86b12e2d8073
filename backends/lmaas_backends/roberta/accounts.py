"""Who may call, and on which terms: one account for each API key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.backend import Limits, Price, Usage

__all__ = ["ANYONE", "ENDPOINTS", "Account", "Accounts", "Terms"]

ANYONE = "anyone"
ENDPOINTS = ("score", "features")  # those that are metered: counted in quotas and billed


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for an API key.

    Args:
        price: None: free.
        limits: The quotas of each endpoint that has none of its own.
        balance_nanousd: What a key may spend in all; None: no bound.
        endpoint_limits: The endpoints that have quotas of their own, with these.
    """

    price: Price | None = None
    limits: Limits = field(default_factory=Limits)
    balance_nanousd: int | None = None
    endpoint_limits: tuple[tuple[str, Limits], ...] = ()

    def limits_of(self, endpoint: str) -> Limits:
        """The quotas of an endpoint: its own, or those of all."""
        return dict(self.endpoint_limits).get(endpoint, self.limits)

    def cost_nanousd(self, usage: Usage) -> int:
        """The charge for one call."""
        return 0 if self.price is None else self.price.cost_nanousd(usage)


@dataclass(frozen=True, slots=True)
class Account:
    """One API key by its name, and its terms. What it used is in the `UsageStore`."""

    name: str
    terms: Terms


class Accounts:
    """The accounts of a server; without API keys there is one, for anyone who reaches it.

    Args:
        keys: The API keys.
        terms: What holds for a key without terms of its own.
        own_terms: The names of keys that have terms of their own, with these.

    Raises:
        ValueError: Terms name a key that there is not.
    """

    def __init__(self, keys: ApiKeys, terms: Terms, own_terms: Mapping[str, Terms] | None = None) -> None:
        own, names = dict(own_terms or {}), keys.names or (ANYONE,)
        for place, name in enumerate(own, start=1):
            if name not in names:  # which may be a key, by mistake: it is not shown
                raise ValueError(f"table {place} of [keys] is about no API key: their names are {', '.join(names)}")
        self._keys = keys
        self._by_name = {name: Account(name, own.get(name, terms)) for name in names}

    @property
    def has_keys(self) -> bool:
        """Whether callers need an API key."""
        return bool(self._keys)

    def authenticate(self, authorization: str | None) -> Account:
        """The account behind an Authorization header.

        Raises:
            RefusalError: authentication_failed: the header or its key is missing or wrong.
        """
        if not self._keys:
            return self._by_name[ANYONE]
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RefusalError("authentication_failed", "the request has no API key")
        name = self._keys.name_of(key.strip())
        if name is None:
            raise RefusalError("authentication_failed", "the API key is not known here")
        return self._by_name[name]
