"""Who may call, and what they have used: API keys, one account each, and their charges."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from lmaas_backends.roberta.rate_limits import Clocks, Quota
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.backend import Limits, Price, Usage

__all__ = ["Account", "Accounts", "ApiKeys", "Charge", "Terms"]

_ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every API key.

    Args:
        price: None: free.
        limits: The quotas of a key.
        balance_nanousd: What a key may spend in all; None: no bound.
    """

    price: Price | None = None
    limits: Limits = field(default_factory=Limits)
    balance_nanousd: int | None = None


class ApiKeys:
    """API keys by name. Only their SHA-256 is held, so no repr, log or traceback can show one."""

    def __init__(self, named: Iterable[str]) -> None:
        """Reads `NAME=KEY` entries.

        Raises:
            ValueError: An entry has another form, or a name or key comes twice. No key is in the message.
        """
        self._names: dict[bytes, str] = {}
        for place, entry in enumerate(named, start=1):
            name, _, key = (part.strip() for part in entry.partition("="))
            if not name or not key or not key.isascii() or any(c.isspace() for c in key):
                raise ValueError(f"API key entry {place} is not of the form NAME=KEY")
            if name in self._names.values() or _hashed(key) in self._names:
                raise ValueError(f"API key entry {place} ({name!r}) repeats a name or a key")
            self._names[_hashed(key)] = name

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """Whose keys there are, in the order they were named."""
        return tuple(self._names.values())

    def name_of(self, key: str) -> str | None:
        """Whose key it is. Every held key is compared, in constant time, so the time tells nothing."""
        presented, found = _hashed(key), None
        for held, name in self._names.items():
            if hmac.compare_digest(held, presented):
                found = name
        return found


class Charge:
    """Money set aside for one admitted call: posted or voided, once."""

    def __init__(self, account: Account, cost_nanousd: int) -> None:
        self._account, self._cost_nanousd = account, cost_nanousd
        account.pending_nanousd += cost_nanousd

    def post(self, usage: Usage, cost_nanousd: int) -> None:
        """The call was computed: bills it."""
        self.void()
        self._account.calls += 1
        self._account.usage += usage
        self._account.spent_nanousd += cost_nanousd

    def void(self) -> None:
        """The call was not computed: nothing is billed."""
        self._account.pending_nanousd -= self._cost_nanousd
        self._cost_nanousd = 0


class Account:
    """Usage, balance and quota of one API key."""

    def __init__(self, name: str, terms: Terms, clocks: Clocks) -> None:
        self.name = name
        self.quota = Quota(terms.limits, clocks)
        self.calls = 0
        self.usage = Usage()
        self.spent_nanousd = 0
        self.pending_nanousd = 0
        self._balance_nanousd = terms.balance_nanousd

    @property
    def balance_left_nanousd(self) -> int | None:
        """What may still be spent; None: no bound."""
        if self._balance_nanousd is None:
            return None
        return self._balance_nanousd - self.spent_nanousd - self.pending_nanousd

    def admit(self, tokens: int, cost_nanousd: int) -> Charge:
        """Takes a call in, in one step: balance first, then every quota.

        Raises:
            RefusalError: payment_required, rate_limited or, when it can never fit, invalid_query. Nothing was counted.
        """
        left = self.balance_left_nanousd
        if left is not None and (cost_nanousd > left or left <= 0):
            raise RefusalError(
                "payment_required", f"the call costs {format_usd(cost_nanousd)} and the balance is {format_usd(left)}"
            )
        self.quota.admit(tokens)
        return Charge(self, cost_nanousd)

    def fields(self) -> dict[str, object]:
        """The account as GET /v1/usage shows it."""
        return {
            "calls": self.calls,
            "input_tokens": self.usage.input_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "output_tokens": self.usage.output_tokens,
            "nanousd": self.spent_nanousd,
            "balance_nanousd": self.balance_left_nanousd,
        }


class Accounts:
    """The accounts of a server; without API keys there is one, for anyone who reaches it."""

    def __init__(self, keys: ApiKeys, terms: Terms, clocks: Clocks) -> None:
        self._keys = keys
        self._by_name = {name: Account(name, terms, clocks) for name in keys.names or (_ANYONE,)}

    def authenticate(self, authorization: str | None) -> Account:
        """The account behind an Authorization header.

        Raises:
            RefusalError: authentication_failed: the header or its key is missing or wrong.
        """
        if not self._keys:
            return self._by_name[_ANYONE]
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RefusalError("authentication_failed", "the request has no API key")
        name = self._keys.name_of(key.strip())
        if name is None:
            raise RefusalError("authentication_failed", "the API key is not known here")
        return self._by_name[name]


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
