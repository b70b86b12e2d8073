"""A row of the paper's second table, and the traffic that is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lmaas_sdk.bench.relay import Exchange

__all__ = ["DeploymentRow", "Traffic", "traffic_of"]

_REGISTERED = {"/v1/datasets": "registration", "/v1/arrays": "arrays"}
_LOOKED_UP = "card and tokenizer"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests, and the bytes of them and of their answers: heads and bodies, as counted on the socket."""

    requests: int = 0
    up_bytes: int = 0
    down_bytes: int = 0

    def and_of(self, exchange: Exchange) -> Traffic:
        """With one more."""
        return Traffic(self.requests + 1, self.up_bytes + exchange.up, self.down_bytes + exchange.down)


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """What one method cost its user and its server on one task.

    Args:
        configuration, method: What was measured, by its own name and its method's.
        task, model: On what.
        max_length: Most tokens of a sample, soft prompt and demonstrations apart.
        seed, threads: Of data and method; that compute, None: as many as the model takes by itself.
        deployment_efficient: Whether one model serves many tasks: a task keeps no copy of its weights.
        as_a_service: Whether it works over the API; where not, all was computed in the user's process.
        metric, test_metric: The task's metric, and what came out on the test set.
        training_time_s: Of `fit`, by the user's clock, dev scoring included; starting and loading are not in it.
        user_memory_bytes: Peak of the user's process over `fit` and the test set; None: the system does not tell.
        server_memory_bytes: Peak of the server's process until then; None: there is none, or the system does not tell.
        user_memory_fit_bytes, server_memory_fit_bytes: The same until the end of `fit`.
        user_memory_idle_bytes, server_memory_idle_bytes: The same until before it: interpreter, libraries, and the
            model where it is.
        memory_source: Where the figures of memory are from, or why one is missing.
        queries: What `upload_bytes` and `download_bytes` are for one of, each the whole training set: evaluations of a
            search, or times that features were asked for (with those of dev, a set as large: 2); 0: none of both.
        upload_bytes, download_bytes: Bytes of the requests for training, a query, and of their answers; None: none.
        traffic: All requests by what they were for: a purpose, or what is free: "registration" of texts for `fit`,
            "registration for test", "arrays", "card and tokenizer".
        attempts: Requests that the user's ledger has as sent; 0 in process.
        evaluations, tokens: Spent in all, billed or as if.
        kept_bytes: What a predictor keeps for its task.
        user_loads_torch: Whether the user's process imported torch.
        train_rows, dev_rows, test_rows: Of the data.
        cut_train, cut_dev, cut_test: Rows of which lost words to `max_length`.
        shortened: Texts that lost words to fit the model beside that.
    """

    configuration: str
    method: str
    task: str
    model: str
    max_length: int
    seed: int
    threads: int | None
    deployment_efficient: bool
    as_a_service: bool
    metric: str
    test_metric: float
    training_time_s: float
    user_memory_bytes: int | None
    server_memory_bytes: int | None
    user_memory_fit_bytes: int | None
    server_memory_fit_bytes: int | None
    user_memory_idle_bytes: int | None
    server_memory_idle_bytes: int | None
    memory_source: str
    queries: float
    upload_bytes: float | None
    download_bytes: float | None
    traffic: Mapping[str, Traffic]
    attempts: int
    evaluations: float
    tokens: int
    kept_bytes: int
    user_loads_torch: bool
    train_rows: int
    dev_rows: int
    test_rows: int
    cut_train: int
    cut_dev: int
    cut_test: int
    shortened: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> DeploymentRow:
        """Reads what `to_dict` made.

        Raises:
            ValueError: It is no such row.
        """
        try:
            traffic = {name: Traffic(**given) for name, given in value["traffic"].items()}
            return cls(**{**value, "traffic": traffic})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"this is no row of a deployment table: {error}") from error


def traffic_of(exchanges: Sequence[Exchange], purposes: Mapping[str, str], *, of_fit: int) -> dict[str, Traffic]:
    """Exchanges by what they were for.

    Args:
        exchanges: What a relay has counted, in order.
        purposes: The purpose of each idempotency key, as the ledger has it.
        of_fit: How many of the exchanges `fit` took; those before it, too.
    """
    found: dict[str, Traffic] = {}
    for number, exchange in enumerate(exchanges):
        purpose = purposes.get(exchange.key) or _free(exchange.path, is_fit=number < of_fit)
        found[purpose] = found.get(purpose, Traffic()).and_of(exchange)
    return found


def _free(path: str, *, is_fit: bool) -> str:
    """What a request without a booked key was for."""
    kind = _REGISTERED.get(path, _LOOKED_UP)
    return kind if is_fit or kind != "registration" else "registration for test"
