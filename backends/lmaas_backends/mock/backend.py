"""The mock backend: the synthetic model behind a provider's manners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.mock.admission import Admission
from lmaas_backends.mock.book import Book
from lmaas_backends.mock.card import card_of, check_options
from lmaas_backends.mock.checks import N_LAYERS
from lmaas_backends.mock.landscape import SyntheticLandscape
from lmaas_backends.mock.landscapes import Landscape
from lmaas_backends.mock.model import Job, Reply, SyntheticModel
from lmaas_backends.mock.precision import Precision
from lmaas_backends.mock.recent import Recent
from lmaas_sdk.backend import (
    Capabilities,
    FeatureQuery,
    FeatureReply,
    Limits,
    Price,
    Registration,
    ScoreQuery,
    ScoreReply,
)
from lmaas_sdk.errors import BackendError, BackendUnavailable, InvalidQuery, PaymentRequired, RateLimited
from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.testing.faults import Attempt, Fault, Faults, answer_or_fail
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Latency", "MockBackend", "open_backend"]


@runtime_checkable
class DrawnLatency(Protocol):
    """Seconds that depend on how much is asked, and on chance."""

    def draw_s(self, pairs: int, generator: np.random.Generator) -> float:
        """Seconds of an answer about so many texts under candidates."""
        ...


Latency = float | DrawnLatency | Callable[[ScoreQuery | FeatureQuery, np.random.Generator], float]
Query = TypeVar("Query", ScoreQuery, FeatureQuery)
_REPLIES_KEPT = 4096


@final
@dataclass(kw_only=True, eq=False)
class MockBackend:
    """A backend in this process whose answers are those of a smooth synthetic landscape; it needs no torch.

    The same options and query give the same logits on every machine. Nothing of it runs on another thread, so it is at
    home in virtual time (`lmaas_sdk.testing.run_virtual`). It is an async context manager; use without one is fine too.

    Args:
        name: The model's name on the card.
        hidden_size: D.
        max_tokens: Most positions of a text, prompt included; a longer text is shortened.
        effective_dim: The number of directions that matter to the loss, however large d is.
        seed: Of the landscape, the noise and the latency.
        ruggedness: 0: a smooth landscape; above 0, one with many local minima, the deeper the larger.
        noise: Standard deviation of noise on each logit; above 0 the card is not deterministic.
        landscape: Where label logits come from, such as a `recorded_landscape`; None: the synthetic one of the options
            above.
        embedding_std: Of the card, the unit of projection `normal`.
        precision: `bfloat16`: logits are rounded to its 8 bits, unless a query is precise.
        price: None: free.
        balance_nanousd: What the account holds; a call above the rest is `PaymentRequired`. None: no end.
        limits: Quotas, advertised and enforced.
        latency_s: Seconds a computed answer takes, a `lmaas_sdk.Latency`, or a function of the query and a generator
            seeded for the attempt.
        max_candidates, max_texts: Most candidates and texts a call may carry.
        faults: Which attempts fail, and how.
        capabilities: What the card promises; None: everything, and deterministic where there is no noise.
        clock_s: Read by the quotas; None: the running loop's clock.
        opened: Wall time (with a time zone) at the first request, for a day quota with a time zone; None: now.

    Attributes:
        card: The model card.
        book: What was received, computed and billed.

    Raises:
        ValueError: An option is out of its range; the message names it.
    """

    name: str = "mock"
    hidden_size: int = 64
    max_tokens: int = 512
    effective_dim: int = 10
    seed: int = 0
    ruggedness: float = 0.0
    noise: float = 0.0
    landscape: Landscape | None = None
    embedding_std: float = 1.0
    precision: Precision = "float32"
    price: Price | None = None
    balance_nanousd: int | None = None
    limits: Limits = field(default_factory=Limits)
    latency_s: Latency = 0.0
    max_candidates: int = 64
    max_texts: int = 1024
    faults: Faults = field(default_factory=Faults)
    capabilities: Capabilities | None = None
    clock_s: Callable[[], float] | None = None
    opened: datetime | None = None

    def __post_init__(self) -> None:
        check_options(self)
        self.card = card_of(self)
        self.book = Book()
        synthetic = SyntheticLandscape(effective_dim=self.effective_dim, seed=self.seed, ruggedness=self.ruggedness)
        self._model = SyntheticModel(
            self.card,
            self.landscape or synthetic,
            synthetic.vectors(self.hidden_size, N_LAYERS + 1),
            seed=self.seed,
            noise=self.noise,
            precision=self.precision,
        )
        self._admission: Admission | None = None
        self._replies: Recent[str, tuple[str, ScoreReply | FeatureReply]] = Recent(_REPLIES_KEPT)
        self._closed = False

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        """Label logits, or the `top_k` most likely of a small vocabulary.

        Raises:
            BackendError: The query is refused, or `faults` say so.
        """
        return await self._attend(query, key, self._model.score_job)

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        """Hidden states made of the texts' words.

        Raises:
            BackendError: The query is refused, or `faults` say so.
        """
        return await self._attend(query, key, self._model.feature_job)

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Takes a text set in; free, and its counts are what will be billed."""
        self._check_open()
        await asyncio.sleep(0)
        return self._model.register(texts, subspace)

    async def upload(self, array: NDArray[np.float32]) -> str:
        """Takes an array in; free."""
        self._check_open()
        await asyncio.sleep(0)
        return self._model.upload(array)

    async def soft_prompts(self, subspace: Subspace, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Prompts that act as the candidates do, (n_candidates, L, D) float32; free."""
        self._check_open()
        await asyncio.sleep(0)
        return self._model.soft_prompts(subspace, Z)

    async def aclose(self) -> None:
        """Takes no further call; may be called again."""
        self._closed = True

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _attend(self, query: Query, key: str, check: Callable[[Query, str], Job[Reply]]) -> Reply:
        """One request from its arrival to its answer."""
        self._check_open()
        attempt = self._received(key)
        await asyncio.sleep(0)  # a refusal takes a turn of the loop too, or a retry without a pause would starve it
        fault = self.faults.strikes(attempt)
        with self._refusals_booked():
            self._turn_away(fault, key)
            job = check(query, key)
            reply = self._replayed(key, job)
            self._admit(job, replayed=reply is not None)
        with self._in_flight():
            return await answer_or_fail(fault, key, partial(self._answer, job, reply, attempt=attempt, query=query))

    async def _answer(
        self, job: Job[Reply], reply: Reply | None, *, attempt: Attempt, query: ScoreQuery | FeatureQuery
    ) -> Reply:
        """Computes and bills first, waits then: whoever gives up waiting has been billed all the same."""
        if reply is None:
            reply = self._computed(job, attempt.key)
        await asyncio.sleep(self._latency_s(query, job.pairs, attempt))
        return reply

    def _received(self, key: str) -> Attempt:
        attempt = Attempt(self.book.received, key, nth=self.book.by_key[key])
        self.book.received += 1
        self.book.by_key[key] += 1
        return attempt

    def _turn_away(self, fault: Fault | None, key: str) -> None:
        error = None if fault is None else fault.refusal(key)
        if error is not None:
            raise error

    def _replayed(self, key: str, job: Job[Reply]) -> Reply | None:
        """The answer an earlier attempt under this key was computed for, if it is still known."""
        known = self._replies.get(key)
        if known is None:
            return None
        body, reply = known
        if body != job.body:
            raise InvalidQuery(f"the idempotency key {key!r} was used for another query: use a key of its own")
        return cast("Reply", reply)

    def _admit(self, job: Job[Reply], *, replayed: bool) -> None:
        cost = 0 if replayed else self._cost_nanousd(job)
        if self.balance_nanousd is not None and self.book.nanousd + cost > self.balance_nanousd:
            left = self.balance_nanousd - self.book.nanousd
            raise PaymentRequired(f"the call costs {cost} nanousd and the account holds {left}: add to the balance")
        now_s = self._now_s()
        if self._admission is None:
            self._admission = Admission(self.limits, opened=self.opened or datetime.now(UTC), opened_s=now_s)
        tokens = 0 if replayed else job.usage.input_tokens
        self._admission.admit(tokens=tokens, in_flight=self.book.in_flight, now_s=now_s)
        self.book.attempts += 1
        self.book.replayed += replayed

    def _computed(self, job: Job[Reply], key: str) -> Reply:
        reply = job.compute()
        self.book.computed += 1
        self.book.evaluations += job.evaluations
        self.book.candidate_texts += job.pairs
        self.book.tokens += job.usage.input_tokens
        self.book.nanousd += self._cost_nanousd(job)
        if self.card.capabilities.idempotent:
            self._replies.put(key, (job.body, reply))
        return reply

    def _cost_nanousd(self, job: Job[Reply]) -> int:
        return 0 if self.price is None else self.price.cost_nanousd(job.usage)

    def _latency_s(self, query: ScoreQuery | FeatureQuery, pairs: int, attempt: Attempt) -> float:
        if isinstance(self.latency_s, (int, float)):
            return self.latency_s
        generator = np.random.Generator(bit_generator(self.seed, f"mock/latency/{attempt.nth}/{attempt.key}"))
        if isinstance(self.latency_s, DrawnLatency):
            return self.latency_s.draw_s(pairs, generator)
        return self.latency_s(query, generator)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() if self.clock_s is None else self.clock_s()

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable(f"the backend {self.name!r} is closed: open a new one")

    @contextmanager
    def _refusals_booked(self) -> Iterator[None]:
        try:
            yield
        except RateLimited:
            self.book.limited += 1
            raise
        except BackendError:
            self.book.refused += 1
            raise

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self.book.in_flight += 1
        self.book.max_in_flight = max(self.book.max_in_flight, self.book.in_flight)
        try:
            yield
        finally:
            self.book.in_flight -= 1


def open_backend(spec: str = "mock", **options: Any) -> MockBackend:
    """A mock for `load_backend("mock", **options)`: an async context manager.

    Args:
        spec: What was asked for; the mock has one form only.
        **options: Those of `MockBackend`.
    """
    return MockBackend(**options)
