"""Calls on their way to a provider, played through in virtual time without sending any.

Concurrency, quota and retry budget are the client's own; what is played is when they are asked. Retries follow
`RetryPolicy`, and a tuner's patience beyond them `tuning/persistence.py`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.bill import BARE_CALL
from lmaas_sdk.backend import Limits
from lmaas_sdk.planning.breaker import Breaker
from lmaas_sdk.planning.conditions import Failures, Latency
from lmaas_sdk.planning.work import Ask, Step
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.quota import Quota
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.scheduling import LatencyRecord, Scheduling

__all__ = ["Ended", "Pay", "Tally", "Traffic", "World", "has_windows"]

Pay = Callable[[Amounts], None]
"""Takes what one more attempt needs from a budget; raises `Ended` where it does not reach."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 1.0, 30.0, 0.05  # of a tuner that asks again
_SHORTEST_429_S = 0.01
_SLACK_S = 0.001
_NOT_TAKEN = ("refused", "rate_limit")


class Ended(Exception):
    """Says why: "budget", "quota" or "interrupted"."""


@dataclass(frozen=True, slots=True)
class World:
    """What decides how calls fare.

    Args:
        limits: The quotas in force.
        most_at_once: Requests that may be under way.
        policy: When failed attempts are repeated.
        scheduling: What a run does about slow calls.
        bills_once: Whether the provider bills a key once.
        latency, failures: As they are.
        began_s: The first moment, in seconds since 1970.
    """

    limits: Limits
    most_at_once: int
    policy: RetryPolicy
    scheduling: Scheduling
    bills_once: bool
    latency: Latency
    failures: Failures
    began_s: float


@dataclass(slots=True)
class Tally:
    """What was sent.

    Attributes:
        billed: How often each call was billed in full.
        bare: Attempts by purpose that counted as a call and cost nothing else.
        attempts: All attempts by purpose, refused ones too.
    """

    billed: Counter[Ask] = field(default_factory=Counter)
    bare: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Call:
    """A call that has to be answered.

    Attributes:
        tries, failures: Attempts since the tuner asked for it, and those that failed otherwise than by a 429.
        pauses: How often the tuner has asked for it again.
        is_lost: Whether the outcome of an earlier attempt is unknown.
        is_held: Whether the next attempt is paid for.
        is_out: Whether an attempt is under way; `number`, `ticket`, `fate` and `is_probe` are that one's.
        waited_s, waited_before_s: For 429s, and what others had waited for the quota when it came to the gate.
    """

    ask: Ask
    began_s: float
    tries: int = 0
    failures: int = 0
    pauses: int = 0
    is_lost: bool = False
    is_held: bool = True
    is_out: bool = False
    number: int = 0
    ticket: str = ""
    fate: str = ""
    is_probe: bool = False
    sent_s: float = math.inf
    waited_s: float = 0.0
    waited_before_s: float = 0.0
    is_answered: bool = False
    is_over: bool = False


class Traffic:
    """The calls of one client.

    Args:
        world: How they fare.
        generator: Gives the chance.
        until_s: When its time is over.

    Attributes:
        now_s: Seconds since the first call.
        tally: What was sent.
        unused: What was reserved for calls of the last volley that were not sent in the end.
    """

    def __init__(self, world: World, generator: np.random.Generator, *, until_s: float = math.inf) -> None:
        self.now_s, self.tally, self.unused = 0.0, Tally(), Amounts()
        self._world, self._random, self._until_s = world, generator, until_s
        self._concurrency = AdaptiveConcurrency(world.most_at_once, lambda: self.now_s)
        if world.limits.concurrency is not None:
            self._concurrency.allow(world.limits.concurrency)
        self._quota = Quota() if has_windows(world.limits) else None
        self._retries = world.policy.new_budget()
        self._breaker = Breaker()
        self._latencies = LatencyRecord()
        self._chances = list(world.failures.chances.items()) if world.failures.total else []
        self._line: deque[_Call] = deque()
        self._events: list[tuple[float, int, Callable[[_Call], None], _Call]] = []
        self._numbers = itertools.count()
        self._told_s, self._gate_opens_s = 0.0, -math.inf
        self._answered_s = -math.inf
        self._left = 0  # calls that are not over
        self._pay: Pay = _nothing

    def volley(self, asks: Step, pay: Pay, *, wanted: float = math.inf) -> list[Ask]:
        """Sends calls together, until they are answered; those that were.

        Args:
            asks: The calls; their first attempts are paid for.
            pay: Takes what further attempts need.
            wanted: Candidates that are enough, where the run does not wait for the slowest.

        Raises:
            Ended: The run ends here.
        """
        calls = [_Call(ask, self.now_s) for ask in asks]
        self._pay, self._left = pay, len(calls)
        try:
            for call in calls:
                self._begin(call)
            while self._left and not self._is_cut_short(calls, wanted):
                self._admit()
                self._next()
        finally:
            self._abandon(calls)
        return [call.ask for call in calls if call.is_answered]

    def _next(self) -> None:
        at_s, _, happen, call = heapq.heappop(self._events)
        if at_s > self._until_s:
            self.now_s = self._until_s
            raise Ended("budget")
        self.now_s = at_s
        happen(call)

    def _at(self, at_s: float, happen: Callable[[_Call], None], call: _Call) -> None:
        heapq.heappush(self._events, (at_s, next(self._numbers), happen, call))

    # -- the way out: breaker, line, quota

    def _begin(self, call: _Call) -> None:
        """The tuner asks for it."""
        self._retries.earn()
        call.tries = call.failures = 0
        self._enter(call)

    def _enter(self, call: _Call) -> None:
        if not call.is_held:
            self._pay(self._price(call))
            call.is_held = True
        wait_s = self._breaker.wait_s(self.now_s)
        if wait_s is not None:
            self._ask_later(call, least_s=wait_s)
            return
        call.is_probe = self._breaker.is_open
        call.waited_before_s = self._told_s
        self._line.append(call)

    def _price(self, call: _Call) -> Amounts:
        return BARE_CALL if call.is_lost and self._world.bills_once else call.ask.worst

    def _admit(self) -> None:
        """Lets out who is first in line, and those behind, as far as place and quota reach."""
        while self._line and self._concurrency.has_room:
            call = self._line[0]
            wait_s = 0.0
            if self._quota is not None:
                wait_s = self._quota.wait_s(call.ask.worst.tokens, self._world.limits, self._wall_s)
            if wait_s > 0:
                self._wait_for_quota(call, wait_s)
                return
            self._line.popleft()
            self._send(call)

    def _wait_for_quota(self, call: _Call, wait_s: float) -> None:
        opens_s = self.now_s + wait_s
        if opens_s - self._gate_opens_s < _SLACK_S and self._gate_opens_s > self.now_s:
            return  # that is waited for already
        self._told_s += wait_s
        self._check_patience(call.waited_s + self._told_s - call.waited_before_s)
        self._gate_opens_s = opens_s
        self._at(opens_s, _nothing_happens, call)

    def _check_patience(self, waited_s: float) -> None:
        most_s = self._world.policy.max_wait_s
        if waited_s == math.inf or (most_s is not None and waited_s > most_s + _SLACK_S):
            raise Ended("quota")

    @property
    def _wall_s(self) -> float:
        return self._world.began_s + self.now_s

    # -- an attempt

    def _send(self, call: _Call) -> None:
        self._concurrency.enter()
        call.number, call.is_out, call.sent_s = self._concurrency.number, True, self.now_s
        if self._quota is not None:
            call.ticket = str(call.number)
            self._quota.take(call.ticket, call.ask.worst.tokens, self._wall_s)
        self.tally.attempts[call.ask.purpose] += 1
        call.tries += 1
        call.fate = self._fate()
        if call.fate in _NOT_TAKEN:
            self._at(self.now_s, self._turned_away, call)
            return
        self._book(call)
        takes_s = 0.0
        if call.fate != "server_fault" or self._world.failures.charged:
            takes_s = self._world.latency.draw_s(call.ask.pairs, self._random)
        longest_s = self._world.policy.attempt_timeout_s
        if longest_s is not None and takes_s > longest_s:
            takes_s, call.fate = longest_s, "timeout"
        self._at(self.now_s + takes_s, self._lost if call.fate else self._answered, call)

    def _fate(self) -> str:
        """How an attempt will end; "": well."""
        outages = self._world.failures.outages
        if outages and any(outage.covers(self.now_s) for outage in outages):
            return "refused"
        if not self._chances:
            return ""
        drawn = self._random.random()
        for kind, chance in self._chances:
            if drawn < chance:
                return kind
            drawn -= chance
        return ""

    def _book(self, call: _Call) -> None:
        call.is_held = False
        if call.is_lost and self._world.bills_once:
            self.tally.bare[call.ask.purpose] += 1
        else:
            self.tally.billed[call.ask] += 1

    def _turned_away(self, call: _Call) -> None:
        call.is_out = False
        if self._quota is not None:
            self._quota.refund(call.ticket)
        if call.fate == "refused":
            self._concurrency.leave(call.number, answered=False)
            self._failed(call)
            return
        self._concurrency.refused(call.number)
        self._breaker.told_nothing(is_probe=call.is_probe)
        wait_s = max(self._backoff_s(call), _SHORTEST_429_S)
        call.waited_s += wait_s
        self._check_patience(call.waited_s)
        self._at(self.now_s + wait_s, self._enter, call)

    def _lost(self, call: _Call) -> None:
        self._leave(call, answered=False)
        call.is_lost = True
        self._failed(call)

    def _answered(self, call: _Call) -> None:
        self._leave(call, answered=True)
        self._breaker.answered(is_probe=call.is_probe)
        self._latencies.add(self.now_s - call.sent_s)
        self._answered_s = self.now_s
        call.is_answered = call.is_over = True
        self._left -= 1

    def _leave(self, call: _Call, *, answered: bool) -> None:
        call.is_out = False
        self._concurrency.leave(call.number, answered=answered)
        if self._quota is not None:
            self._quota.settle(call.ticket, call.ask.worst.tokens)

    # -- again

    def _failed(self, call: _Call) -> None:
        self._breaker.failed(self.now_s, is_probe=call.is_probe)
        call.failures += 1
        wait_s = self._backoff_s(call)
        if call.failures >= self._world.policy.attempts or not self._retries.take():
            self._ask_later(call)
        else:
            self._at(self.now_s + wait_s, self._enter, call)

    def _backoff_s(self, call: _Call) -> float:
        policy = self._world.policy
        longest_s = min(policy.first_wait_s * 2.0 ** (call.tries - 1), policy.longest_wait_s)
        return self._random.random() * longest_s

    def _ask_later(self, call: _Call, *, least_s: float = 0.0) -> None:
        """The client tries no more; the tuner asks again after a pause."""
        call.pauses += 1
        pause_s = self._random.random() * min(_FIRST_PAUSE_S * 2.0 ** (call.pauses - 1), _LONGEST_PAUSE_S)
        again_s = self.now_s + max(pause_s, least_s, _SHORTEST_PAUSE_S)
        if again_s <= self._patient_until_s(call):
            self._at(again_s, self._begin, call)
        elif call.fate in _NOT_TAKEN or call.ask.purpose != "train":
            raise Ended("interrupted")
        else:
            call.is_over = True  # the run goes on without this candidate
            self._left -= 1

    def _patient_until_s(self, call: _Call) -> float:
        policy, is_away = self._world.policy, -math.inf < self._answered_s <= call.began_s
        return call.began_s + (max(policy.longest_outage_s, policy.patience_s) if is_away else policy.patience_s)

    # -- without the slowest

    def _is_cut_short(self, calls: Sequence[_Call], wanted: float) -> bool:
        """Whether the rest is not waited for: enough are answered, and all others are late."""
        if wanted == math.inf or sum(call.ask.candidates for call in calls if call.is_answered) < wanted:
            return False
        if self._world.scheduling.over_ask:
            return True
        usual_s = self._latencies.usual_s
        slow_s = math.inf if usual_s is None else self._world.scheduling.late_s(usual_s)
        late_s = max(call.sent_s for call in calls if not call.is_over) + slow_s
        if late_s > self.now_s and late_s < math.inf:
            self._at(late_s, _nothing_happens, calls[0])
        return late_s <= self.now_s

    def _abandon(self, calls: Sequence[_Call]) -> None:
        """Gives up what is under way, and what was not sent yet."""
        self.unused = sum((self._price(call) for call in calls if call.is_held and not call.is_out), Amounts())
        for call in calls:
            if call.is_out:
                self._latencies.add(self.now_s - call.sent_s)
                self._leave(call, answered=False)
                self._breaker.told_nothing(is_probe=call.is_probe)
        self._line.clear()
        self._events.clear()
        self._gate_opens_s = -math.inf


def has_windows(limits: Limits) -> bool:
    """Whether these limits are about a stretch of time."""
    counted = (limits.requests_per_minute, limits.tokens_per_minute, limits.requests_per_day)
    return any(limit is not None for limit in (*counted, getattr(limits, "other_per_day", None)))


def _nothing(amounts: Amounts) -> None:
    pass


def _nothing_happens(call: _Call) -> None:
    pass
