"""The one place that puts the layers around a backend: reserve, attempt, resolve, retry.

Nothing reaches a backend but through here, so no call can go out that no budget has paid for.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.accounting.spend import Purpose, Spend
from lmaas_sdk.backend import Backend, Registration, ScoreQuery, ScoreReply, TextRegistry, Usage
from lmaas_sdk.errors import (
    AttemptTimeout,
    AuthenticationFailed,
    BackendUnavailable,
    BudgetExceeded,
    InvalidQuery,
    PaymentRequired,
    ProtocolError,
    RateLimited,
    TaskError,
    UnknownDataset,
    Unsupported,
)
from lmaas_sdk.texts import Text, TextSet
from lmaas_sdk.traffic.concurrency import slots_of
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Call", "Client"]

OnWait = Callable[[float, BaseException | None], None]

_BARE_CALL = Amounts(calls=1)
_NOT_COUNTED = (RateLimited, BackendUnavailable)
_REFUSED = (AuthenticationFailed, InvalidQuery, PaymentRequired, TaskError, UnknownDataset, Unsupported)
_SPECIAL_TOKENS = 4  # a generous allowance for special tokens and separators where nobody counts exactly
_CLOCK_SLACK_S = 0.01  # a timer may fire a tick before its time by another clock


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One logical request: its query, its idempotency key, and the worst it may cost."""

    query: ScoreQuery
    key: str
    purpose: Purpose
    worst: Amounts


class Client:
    """Sends calls to a backend and books every attempt.

    Args:
        backend: Where calls go.
        budget: What they are paid from.
        retry: When a failed attempt is repeated.
        on_wait: Called before every wait with its seconds and the error that asks for it.

    Attributes:
        spend: The spend by purpose, of this client and all that `with_budget` made from it.
    """

    def __init__(
        self, backend: Backend, budget: Budget, *, retry: RetryPolicy | None = None, on_wait: OnWait | None = None
    ) -> None:
        self.backend = backend
        self.budget = budget
        self.spend = Spend()
        self._spare: Budget | None = None
        self._retry = retry or RetryPolicy()
        self._on_wait = on_wait

    def with_budget(self, budget: Budget, spare: Budget | None = None) -> Client:
        """The same client, paying from another budget.

        Args:
            budget: What it pays from.
            spare: What it pays from where that does not reach: an allowance that retries have used up, say.
        """
        other = copy.copy(self)
        other.budget, other._spare = budget, spare
        return other

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Token counts of each text under a prompt: exact where the backend counts them, else an upper bound.

        A byte-level tokenizer never makes more tokens than there are UTF-8 bytes.

        Raises:
            BudgetExceeded: The wall time ends.
        """
        if isinstance(self.backend, TextRegistry):
            return await self._register(self.backend, texts, subspace)
        extra = _SPECIAL_TOKENS + (0 if subspace is None else subspace.prompt_tokens)
        most = self.backend.card.max_tokens
        return Registration(texts.digest, tuple(min(_most_tokens(text) + extra, most) for text in texts.texts))

    async def _register(self, registry: TextRegistry, texts: TextSet, subspace: Subspace | None) -> Registration:
        self.budget.check_open()
        wall = asyncio.timeout(self.budget.remaining_s())
        try:
            async with wall:
                return await self._retry.controller(self._before_wait)(registry.register, texts, subspace)
        except TimeoutError as error:
            if wall.expired():
                self.budget.check_open(_CLOCK_SLACK_S)
            raise AttemptTimeout("no answer in time to a registration of texts") from error

    def call(
        self, query: ScoreQuery, key: str, *, purpose: Purpose, token_counts: Sequence[int], of_texts: int | None = None
    ) -> Call:
        """Prices a query before it is sent.

        Args:
            query: What to send.
            key: The idempotency key, the same for all attempts.
            purpose: Only `train` counts evaluations.
            token_counts: Tokens of each text it scores.
            of_texts: Texts in the whole training set, of which the query may score a part.

        Raises:
            ValueError: There is not one token count a text.
        """
        n_texts = _n_texts(query)
        if not token_counts or len(token_counts) != (len(token_counts) if n_texts is None else n_texts):
            raise ValueError(
                f"a query of {n_texts or 'some'} texts has {len(token_counts)} token counts: give one a text"
            )
        tokens = query.n_candidates * sum(token_counts)
        evaluations: int | Fraction = 0
        if purpose == "train":
            part = Fraction(len(token_counts), of_texts or len(token_counts))
            evaluations = query.n_candidates if part == 1 else query.n_candidates * part
        # Some providers charge more for what goes into their cache.
        dearest = max(self._cost(Usage(tokens)), self._cost(Usage(tokens, cached_tokens=tokens)))
        return Call(query, key, purpose, Amounts(1, evaluations, tokens, dearest))

    def hold(self, calls: Sequence[Call]) -> list[Reservation]:
        """Reserves all of these calls in one step, or none.

        Raises:
            BudgetExceeded: They do not fit together; nothing was reserved or sent.
        """
        return self._reserve([call.worst for call in calls])

    async def score(self, call: Call, hold: Reservation | None = None) -> ScoreReply:
        """Sends a call, again if need be, and books each attempt.

        Args:
            call: From `call`.
            hold: A reservation made for it by `hold`; None: it is made now.

        Raises:
            BudgetExceeded: A reservation does not fit, the wall time ends (or would, before the next attempt), or the
                provider billed more than the worst case.
            QuotaExceeded: The provider's quota would make it wait too long.
            BackendError: It failed for good; the type says how.
        """
        bill = _Bill(self, call, hold)
        try:
            reply: ScoreReply = await self._retry.controller(self._before_wait)(self._attempt, call, bill)
        finally:
            bill.close()
        return reply

    def _reserve(self, requests: Sequence[Amounts], *, again: bool = False) -> list[Reservation]:
        """Reserves from the budget, else from the spare; `again`: the other way, to leave what was planned alone."""
        if self._spare is None:
            return self.budget.reserve_all(requests)
        first, second = (self._spare, self.budget) if again else (self.budget, self._spare)
        try:
            return first.reserve_all(requests)
        except BudgetExceeded:
            return second.reserve_all(requests)

    def _before_wait(self, wait_s: float, error: BaseException | None) -> None:
        self.budget.check_open(wait_s)
        if self._on_wait is not None:
            self._on_wait(wait_s, error)

    async def _attempt(self, call: Call, bill: _Bill) -> ScoreReply:
        async with slots_of(self.backend):
            return await self._attempt_now(call, bill)

    async def _attempt_now(self, call: Call, bill: _Bill) -> ScoreReply:
        bill.open()
        wall = asyncio.timeout(self.budget.remaining_s())
        try:
            async with wall:
                reply = await self.backend.score(call.query, key=call.key)
            _check_usage(reply)
        except _NOT_COUNTED:
            raise  # the reservation stays for the next attempt; close() voids it if there is none
        except _REFUSED:
            bill.post(_BARE_CALL)
            raise
        except TimeoutError as error:
            bill.post_unknown()
            if wall.expired():
                self.budget.check_open(_CLOCK_SLACK_S)
            raise AttemptTimeout(f"no answer in time to {call.key!r}") from error
        except BaseException:
            bill.post_unknown()
            raise
        self._settle(call, reply, bill)
        return reply

    def _settle(self, call: Call, reply: ScoreReply, bill: _Bill) -> None:
        worst, usage = call.worst, reply.usage
        actual = Amounts(1, worst.evaluations, usage.input_tokens + usage.output_tokens, self._cost(usage))
        bill.settle(actual)
        _check_reply(call.query, reply)
        if (worst - actual).is_negative:
            unit = "tokens" if actual.tokens > worst.tokens else "nanousd"
            limit, billed = getattr(worst, unit), getattr(actual, unit)
            why = "the worst case of this call, which the provider's bill is above"
            raise BudgetExceeded(self.budget.name, unit, limit=limit, posted=billed, pending=0, asked=0, why=why)

    def _cost(self, usage: Usage) -> int:
        price = self.backend.card.price
        return 0 if price is None else price.cost_nanousd(usage)


class _Bill:
    """The reservations of one call: one an attempt, each resolved exactly once.

    Where a key bills once, all attempts of a call together cost one bill and a call each. So the first attempt that is
    lost is posted at the worst case, and those after it reserve no more than a call.
    """

    def __init__(self, client: Client, call: Call, hold: Reservation | None) -> None:
        self.call = call
        self._client = client
        self._hold = hold
        self._lost: list[Reservation] = []
        self._bills_once = client.backend.card.capabilities.idempotent

    def open(self) -> None:
        """Makes sure that the next attempt is paid for, and that the budget has not ended since it was."""
        self._client.budget.check_open()
        if self._hold is None:
            (self._hold,) = self._client._reserve([self._next_worst()], again=bool(self._lost))

    def post(self, actual: Amounts) -> None:
        """Books an attempt whose cost is known."""
        hold, self._hold = self._take(), None
        hold.post(actual)
        self._client.spend.add(self.call.purpose, actual)

    def post_unknown(self) -> None:
        """Books an attempt that may have been charged, at the worst case."""
        hold = self._take()
        self.post(self._next_worst())
        self._lost.append(hold)
        self._client.spend.unknown_outcomes += 1

    def settle(self, actual: Amounts) -> None:
        """Books the attempt that was answered and, where a key bills once, puts right those that were lost before."""
        if not (self._lost and self._bills_once):
            self.post(actual)
            return
        within = not (self.call.worst - actual).is_negative  # more than the worst case cannot be put in its place
        self._lost[0].correct(actual if within else _BARE_CALL)
        self._client.spend.add(self.call.purpose, (actual if within else _BARE_CALL) - self.call.worst)
        self._client.spend.unknown_outcomes -= len(self._lost)
        self.post(_BARE_CALL if within else actual)

    def _next_worst(self) -> Amounts:
        return _BARE_CALL if self._lost and self._bills_once else self.call.worst

    def close(self) -> None:
        """Frees what no attempt used."""
        if self._hold is not None:
            self._hold.void()
            self._hold = None

    def _take(self) -> Reservation:
        if self._hold is None:
            raise RuntimeError("an attempt was booked that had no reservation")
        return self._hold


def _most_tokens(text: Text) -> int:
    """A text's UTF-8 bytes, and a token for its mask; a lone surrogate counts as the three bytes that replace it."""
    return sum(1 if piece.kind == "mask" else len(piece.text.encode("utf-8", "surrogatepass")) for piece in text)


def _check_usage(reply: object) -> None:
    """Refuses an answer that does not say, in whole numbers, what it cost.

    Raises:
        ProtocolError: It says what came instead.
    """
    usage: object = getattr(reply, "usage", None)
    if not isinstance(reply, ScoreReply) or not isinstance(usage, Usage):
        raise ProtocolError(f"the answer should be a ScoreReply with its Usage, not {reply!r:.80}")
    counts: tuple[object, ...] = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
    whole = all(isinstance(count, int) and count >= 0 for count in counts)
    if not whole or usage.cached_tokens > usage.input_tokens:
        raise ProtocolError(f"the answer's usage should count tokens, with no more cached than sent, not {usage}")


def _check_reply(query: ScoreQuery, reply: ScoreReply) -> None:
    """Refuses an answer of the wrong shape, or with NaN or infinity.

    Raises:
        ProtocolError: It says what was expected and what came.
    """
    logits: object = reply.logits
    if not isinstance(logits, np.ndarray):
        raise ProtocolError(f"the answer should hold an array of logits, not {type(logits).__name__}")
    if reply.logits.ndim != 3 or len(reply.logits) != query.n_candidates or reply.logits.dtype != np.float32:
        raise ProtocolError(
            f"the answer should hold float32 logits of {query.n_candidates} candidates, "
            f"not {reply.logits.dtype} of shape {reply.logits.shape}"
        )
    for axis, expected in ((1, _n_texts(query)), (2, _n_labels(query))):
        if expected is not None and reply.logits.shape[axis] != expected:
            what = ("texts", "labels")[axis - 1]
            raise ProtocolError(f"the answer should hold logits of {expected} {what}, not {reply.logits.shape[axis]}")
    if not np.isfinite(reply.logits).all():
        raise ProtocolError(
            "the answer holds NaN or infinite logits: the backend is faulty, nothing was learned from it"
        )


def _n_texts(query: ScoreQuery) -> int | None:
    if query.rows is not None:
        return len(query.rows)
    return len(query.texts) if isinstance(query.texts, TextSet) else None


def _n_labels(query: ScoreQuery) -> int | None:
    if query.top_k is not None:
        return query.top_k
    if isinstance(query.texts, TextSet) and query.texts.label_words is not None:
        return len(query.texts.label_words.words)
    return None
