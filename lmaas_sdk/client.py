"""The one place that puts the layers around a backend: cache, reserve, quota, attempt, resolve, retry.

Nothing reaches a backend but through here, so no call can go out that no budget has paid for.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.bill import BARE_CALL, Bill
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.accounting.ledger_file import SqliteLedger
from lmaas_sdk.accounting.purse import Purse
from lmaas_sdk.accounting.spend import Purpose, Spend
from lmaas_sdk.accounting.tokens import registered
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.backend import Backend, FeatureQuery, FeatureReply, Limits, Registration, ScoreQuery, ScoreReply
from lmaas_sdk.calls import Call, Endpoint, actual_amounts, endpoint_for, endpoint_of, priced_call
from lmaas_sdk.errors import AttemptTimeout, BudgetExceeded
from lmaas_sdk.reply_checks import check_reply, check_usage
from lmaas_sdk.sending import Order, Sending, resolve, within
from lmaas_sdk.texts import TextSet
from lmaas_sdk.traffic.cache import MemoryCache, ReplyCache
from lmaas_sdk.traffic.gate import Permit
from lmaas_sdk.traffic.lane import limits_of
from lmaas_sdk.traffic.quota_presets import Quotas
from lmaas_sdk.traffic.retry import Patience, RetryPolicy
from lmaas_sdk.traffic.reuse import Reuse
from lmaas_sdk.traffic.routes import Route, Routes
from lmaas_sdk.traffic.waits import BeforeWait, Wait, WaitMeter
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Call", "Client"]

_Reply = ScoreReply | FeatureReply
_T = TypeVar("_T")
_P = ParamSpec("_P")

_CLOCK_SLACK_S = 0.01  # a timer may fire a tick before its time by another clock


class Client:
    """Sends calls to a backend and books every attempt.

    Args:
        backend: Where calls go.
        budget: What they are paid from; its ledger is where they are booked.
        retry: When a failed attempt is repeated.
        quotas: Limits beside those that the backend's card tells: for every endpoint, by endpoint ("score",
            "features"), or the name of a preset ("wudao-2021").
        cache: Of answers, for a deterministic backend; True: one in memory; False: answers are not kept, and identical
            calls are not put together.
        on_wait: Called before every wait.
        in_flight: Entered while an attempt is with the backend.
        wall: Seconds since 1970, by which quotas are counted; None: the event loop's clock, set to the time of day.

    Attributes:
        spend: The spend by purpose, of this client and all that were made from it.
        waits: How long its calls have waited, by cause; of the same clients.
        reuse: What need not be paid for again; of the same clients.
    """

    def __init__(  # noqa: PLR0913  (all but two by name)
        self,
        backend: Backend,
        budget: Budget,
        *,
        retry: RetryPolicy | None = None,
        quotas: Quotas | None = None,
        cache: ReplyCache | bool = True,
        on_wait: BeforeWait | None = None,
        in_flight: Callable[[], AbstractContextManager[None]] = nullcontext,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.backend = backend
        self.spend, self.waits = Spend(), WaitMeter()
        self._purse = Purse(budget)
        self._retry = retry or RetryPolicy()
        self._retries = self._retry.new_budget()
        self._quotas, self._wall = quotas, wall
        self._routes = self._new_routes()
        kept = MemoryCache() if cache is True else cache
        self.reuse = Reuse(backend.card, None if kept is False else kept)  # a cache that is empty is one, too
        self._on_wait, self._in_flight = on_wait, in_flight
        self._settled: set[tuple[str, str]] = set()

    @property
    def budget(self) -> Budget:
        """What calls are paid from."""
        return self._purse.budget

    @property
    def patience_s(self) -> float:
        """Seconds that a tuner goes on asking where a call failed because no retry is left."""
        return self._retry.patience_s

    @property
    def outage_s(self) -> float:
        """Seconds that a tuner goes on asking a backend that has worked before and now answers nobody."""
        return self._retry.longest_outage_s

    def with_budget(self, budget: Budget, spare: Budget | None = None) -> Client:
        """The same client, paying from another budget.

        Args:
            budget: What it pays from.
            spare: What it pays from where that does not reach: an allowance that retries have used up, say.
        """
        other = copy.copy(self)
        other._purse = Purse(budget, spare)
        if budget.ledger is not self.budget.ledger:
            other._routes = other._new_routes()
        return other

    def with_backend(self, backend: Backend) -> Client:
        """The same client of another backend, paying from the same budget; its spend is one with this one's."""
        other = copy.copy(self)
        other.backend, other.reuse = backend, self.reuse.of(backend.card)
        other._routes = other._new_routes()
        return other

    def limits(self, endpoint: Endpoint) -> Limits:
        """The quotas that hold for an endpoint: the card's, and those given."""
        return limits_of(self.backend.card, endpoint, self._quotas)

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Token counts of each text under a prompt, exact or an upper bound (see `count_tokens`); raises as `free`."""
        return await self.free("register", registered, self.backend, texts, subspace)

    async def free(self, endpoint: str, ask: Callable[_P, Awaitable[_T]], *args: _P.args, **named: _P.kwargs) -> _T:
        """What the backend answers to what costs nothing, asked for again if need be.

        Raises:
            BudgetExceeded: The wall time ends.
        """
        self.budget.check_open()
        wall = asyncio.timeout(self.budget.remaining_s())
        try:
            async with wall:
                return await self._patience(Label(endpoint=endpoint)).call(ask, *args, **named)
        except TimeoutError as error:
            if wall.expired():
                self.budget.check_open(_CLOCK_SLACK_S)
            raise AttemptTimeout(f"no answer in time to a call for nothing ({endpoint})") from error

    def call(
        self,
        query: ScoreQuery | FeatureQuery,
        key: str,
        *,
        purpose: Purpose,
        token_counts: Sequence[int],
        of_texts: int | None = None,
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
        card = self.backend.card
        return priced_call(query, key, purpose=purpose, token_counts=token_counts, of_texts=of_texts, card=card)

    @property
    def reserves_late(self) -> bool:
        """Whether a call for logits goes out at once, reserved in the step of a ledger file that marks it sent."""
        return isinstance(self.budget.ledger, SqliteLedger) and self._routes.to("score").is_free

    async def hold(self, calls: Sequence[Call]) -> list[Reservation]:
        """Reserves all of these calls in one step, or none.

        Raises:
            BudgetExceeded: They do not fit together; nothing was reserved or sent.
        """
        labels = [self._label(call) for call in calls]
        worst = [BARE_CALL if self._is_paid(label) else call.worst for call, label in zip(calls, labels, strict=True)]
        return await self._purse.hold_all(worst, labels)

    async def note_lost(
        self, key: str, purpose: Purpose, worst: Sequence[Amounts], *, is_booked: bool, is_new: bool
    ) -> None:
        """Notes that an earlier process sent attempts at a call and did not learn what they cost.

        An answer under the key puts that right, where the provider bills a key once.

        Args:
            key, purpose: Of the call.
            worst: The most that each attempt may have cost.
            is_booked: Whether the ledger, a file, has what was lost; else it is posted now.
            is_new: Whether `spend` does not have it yet.

        Raises:
            BudgetExceeded: What was lost does not fit into the budget.
        """
        label = Label(purpose, self._routes.to(endpoint_for(purpose)).scope, key)
        if not is_booked:
            for hold in await self._purse.hold_all(worst, [label] * len(worst)):
                await hold.mark_sent()
                hold.post_unknown()
        note = self.spend.add_unknown if is_new else self.spend.know_unknown
        for lost in self.budget.ledger.unknown_anywhere(key):
            note(lost.id, purpose, lost.amounts, key)

    async def booked(self, keys: Sequence[str], endpoint: Endpoint) -> dict[str, Amounts]:
        """What an earlier process has booked at an endpoint under each of these keys, of those that a ledger file has.

        Those that nobody knows the cost of are left out.
        """
        ledger, scope = self.budget.ledger, self._routes.to(endpoint).scope
        return await ledger.posted(scope, [key for key in keys if not ledger.unknown(scope, key)]) if keys else {}

    def note_settled(self, key: str, endpoint: Endpoint) -> None:
        """Notes that a call is booked whose answer an earlier process did not live to keep.

        Asked for again, it is a bare call, where the provider bills a key once.
        """
        self._settled.add((self._routes.to(endpoint).scope, key))

    def _is_paid(self, label: Label) -> bool:
        """Whether an attempt under this key has been paid for already, of a provider that bills a key once."""
        return self._is_settled(label) or (
            self._bills_once and bool(self.budget.ledger.unknown(label.endpoint, label.key))
        )

    def _is_settled(self, label: Label) -> bool:
        """Whether an earlier process has booked the answer itself, of a provider that bills a key once."""
        return self._bills_once and (label.endpoint, label.key) in self._settled

    @property
    def _bills_once(self) -> bool:
        return self.backend.card.capabilities.idempotent

    async def score(
        self,
        call: Call,
        hold: Reservation | None = None,
        *,
        again: bool = False,
        apart: bool = False,
        on_sent: Callable[[], None] | None = None,
    ) -> ScoreReply:
        """Sends a call, again if need be, and books each attempt.

        Args:
            call: From `call`.
            hold: A reservation made for it by `hold`, which this call takes over; None: it is made now.
            again: Whether it was sent before and failed, so that the spare budget pays first.
            apart: Whether to send it even if an identical one is under way, because that one is slow.
            on_sent: Called whenever an attempt goes out.

        Raises:
            BudgetExceeded: A reservation does not fit, the wall time ends (or would, before the next attempt), or the
                provider billed more than the worst case.
            QuotaExceeded: The quota would make it wait too long.
            RetryBudgetExhausted, CircuitOpen: Too much fails for it to be tried again now.
            BackendError: It failed for good; the type says how.
        """
        reply = await self._answered(Order(call, hold, again, on_sent), apart=apart)
        if not isinstance(reply, ScoreReply):
            raise TypeError("the call is one for features: send it by `features`")
        return reply

    async def features(self, call: Call, hold: Reservation | None = None, *, apart: bool = False) -> FeatureReply:
        """As `score`, for hidden states; `apart` is for who keeps them by other names than whole calls."""
        reply = await self._answered(Order(call, hold), apart=apart)
        if not isinstance(reply, FeatureReply):
            raise TypeError("the call is one for logits: send it by `score`")
        return reply

    async def _answered(self, order: Order, *, apart: bool = False) -> _Reply:
        """The answer: from the cache, from an identical call under way, or from the backend."""
        sending = Sending(self._sent, order)
        try:
            if apart:
                return await sending.begin()
            reply, was_free = await self.reuse.answer(order.call, sending.begin)
            if was_free:
                await self._count_only(order.call, order.hold)
        finally:
            # What was begun resolves the reservation by itself, for others too who wait for the same call.
            if order.hold is not None and order.hold.is_pending and not sending.is_begun:
                order.hold.void()
        return reply

    async def _count_only(self, call: Call, hold: Reservation | None) -> None:
        """Books an answer that cost nothing: it is an evaluation all the same."""
        counted = call.worst.evaluations_only()
        bill = Bill(self._purse, self.spend, self._label(call), worst=counted, bills_once=False, hold=hold)
        await bill.open()
        bill.post(counted)

    async def _sent(self, order: Order) -> _Reply:
        call = order.call
        self._retries.earn()
        route = self._routes.to(endpoint_of(call.query))
        label = Label(call.purpose, route.scope, call.key)
        bill = Bill(
            self._purse,
            self.spend,
            label,
            worst=call.worst,
            bills_once=self._bills_once,
            hold=order.hold,
            again=order.again,
            is_settled=self._is_settled(label),
            on_sent=order.on_sent,
        )
        patience = self._patience(label)
        try:
            return await patience.call(self._attempt, call, bill, patience, route)
        finally:
            bill.close()

    async def _attempt(self, call: Call, bill: Bill, patience: Patience, route: Route) -> _Reply:
        await bill.open(at_once=route.is_free)
        with route.lane.breaker.attempt():
            permit = await self._permitted(call, patience, route)
            try:
                reply = await self._exchanged(call, bill, patience)
            except BaseException as error:
                resolve(permit, bill, error)
                raise
            permit.settle(reply.usage.input_tokens + reply.usage.output_tokens)
        self._settle(call, reply, bill)
        return reply

    async def _permitted(self, call: Call, patience: Patience, route: Route) -> Permit:
        """Waits for the provider's quota and for a place among the requests under way."""
        left_s, may_wait = patience.quota_left_s, patience.wait_for_quota
        entered = route.lane.gate.enter(
            call.worst.tokens, route.limits, patience_s=left_s, before_wait=may_wait, meter=self.waits
        )
        try:
            return await within(self.budget.remaining_s(), entered)
        except TimeoutError:
            self.budget.check_open(_CLOCK_SLACK_S)
            raise

    async def _exchanged(self, call: Call, bill: Bill, patience: Patience) -> _Reply:
        """The attempt itself: marked as sent before it goes out, within the time that is left."""
        await bill.mark_sent()
        self.spend.attempts += 1
        wall_s = self.budget.remaining_s()
        bounds = [s for s in (wall_s, patience.left_s, self._retry.attempt_timeout_s) if s is not None]
        bound_s = min(bounds, default=None)
        try:
            with self._in_flight():
                reply = await within(bound_s, self._asked(call))
        except TimeoutError as error:
            if wall_s is not None and wall_s == bound_s:
                self.budget.check_open(_CLOCK_SLACK_S)
            raise AttemptTimeout(f"no answer in time to {call.key!r}") from error
        check_usage(call.query, reply)
        return reply

    def _asked(self, call: Call) -> Awaitable[_Reply]:
        if isinstance(call.query, FeatureQuery):
            return self.backend.features(call.query, key=call.key)
        return self.backend.score(call.query, key=call.key)

    def _settle(self, call: Call, reply: _Reply, bill: Bill) -> None:
        worst, actual = call.worst, actual_amounts(call, reply.usage, self.backend.card.price)
        bill.settle(actual)
        check_reply(call.query, reply)
        if actual.is_over(worst):
            unit = "tokens" if actual.tokens > worst.tokens else "nanousd"
            limit, billed = getattr(worst, unit), getattr(actual, unit)
            why = "the worst case of this call, which the provider's bill is above"
            raise BudgetExceeded(self.budget.name, unit, limit=limit, posted=billed, pending=0, asked=0, why=why)

    def _patience(self, label: Label) -> Patience:
        return Patience(self._retry, self._retries, self.before_wait, label=label, meter=self.waits)

    def before_wait(self, wait: Wait) -> None:
        """What has to happen before any wait of a call.

        Raises:
            BudgetExceeded: The wall time would be over after it.
        """
        self.budget.check_open(wait.seconds)
        if self._on_wait is not None:
            self._on_wait(wait)

    def _label(self, call: Call) -> Label:
        return Label(call.purpose, self._routes.to(endpoint_of(call.query)).scope, call.key)

    def _new_routes(self) -> Routes:
        return Routes(self.backend, self.budget.ledger, quotas=self._quotas, wall=self._wall)
