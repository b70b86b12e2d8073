"""How a method reaches its model: what every method is given beside its own options."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, BudgetTooSmall
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.quota_presets import quotas_of
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.options import check_backend, check_cache, check_kinds

__all__ = ["Connection", "spending"]


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """A backend, and how calls to it are paid and repeated.

    Args:
        backend: The model.
        budget: What calls are paid from; None: no limit.
        retry, quotas, cache: As of `Client`.

    Raises:
        TypeError: One is of another type; the message names it.
        ValueError: A quota is unknown.
    """

    backend: Backend
    budget: Budget | None = None
    retry: RetryPolicy | None = None
    quotas: str | Limits | Mapping[str, Limits] | None = None
    cache: ReplyCache | bool = True

    def __post_init__(self) -> None:
        check_backend(self.backend)
        check_kinds(budget=self.budget, retry=self.retry)
        check_cache(self.cache)
        quotas_of(self.quotas, "score")

    def client(self) -> Client:
        """A client of its own for every fit, so that its spend is that of one predictor."""
        budget = self.budget or Budget()
        return Client(self.backend, budget, retry=self.retry, quotas=self.quotas, cache=self.cache)


@asynccontextmanager
async def spending(client: Client) -> AsyncIterator[None]:
    """Inside, a fit sends its calls: wall time counts, and what was booked is in the ledger afterwards.

    Raises:
        BudgetTooSmall: The budget refused the first call, so nothing was sent.
        BudgetExceeded: It ended later.
        LedgerConflict: The budget is in its ledger with other limits.
    """
    await client.budget.ready()
    before = client.spend.total.calls
    client.budget.start()
    try:
        yield
    except BudgetExceeded as end:
        if isinstance(end, BudgetTooSmall) or client.spend.total.calls > before:
            raise
        raise BudgetTooSmall.of(end, "it ended before the first call") from end
    finally:
        client.budget.stop()
        await client.budget.ledger.flush()
