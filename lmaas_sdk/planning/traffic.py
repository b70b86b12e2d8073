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
from lmaas_sdk.planning.breaker import Breaker
from lmaas_sdk.planning.underway import Call, Lateness
from lmaas_sdk.planning.work import Ask, Step
from lmaas_sdk.planning.world import World, has_windows
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.quota import Quota

__all__ = ["Ended", "Pay", "Tally", "Traffic"]

Pay = Callable[[Amounts], None]
"""Takes what one more attempt needs from a budget; raises `Ended` where it does not reach."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 1.0, 30.0, 0.05  # of a tuner that asks again
_SHORTEST_429_S = 0.01
_SLACK_S = 0.001
_NOT_TAKEN = ("refused", "rate_limit")


class Ended(Exception):
    """Says why: "budget", "quota" or "interrupted"."""


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
        self._lateness = Lateness(world.scheduling)
        self._chances = list(world.failures.chances.items()) if world.failures.total else []
        self._line: deque[Call] = deque()
        self._events: list[tuple[float, int, Callable[[Call], None], Call]] = []
        self._numbers = itertools.count()
        self._told_s, self._gate_opens_s, self._told_late_s = 0.0, -math.inf, -math.inf
        self._answered_s = -math.inf
        self._left = 0  # calls that are not over, of two for the same one
        self._twins: list[Call] = []  # of the volley: what was sent again beside itself
        self._is_timed = False
        self._pay: Pay = _nothing

    def volley(self, asks: Step, pay: Pay, *, wanted: float | None = None) -> list[Ask]:
        """Sends calls together, until they are answered; those that were.

        Args:
            asks: The calls; their first attempts are paid for.
            pay: Takes what further attempts need, and calls that are sent again because they are late.
            wanted: Of a generation, the candidates that are enough where the run does not wait for the slowest; None:
                it is none, so that all are waited for, and how long they take tells nothing of what is usual.

        Raises:
            Ended: The run ends here.
        """
        calls = [Call(ask, self.now_s) for ask in asks]
        self._pay, self._left, self._twins, self._is_timed = pay, len(calls), [], wanted is not None
        if self._is_timed:
            self._lateness.add_calls(len(calls))
        hedges = self._is_timed and self._world.scheduling.stragglers == "hedge"
        try:
            for call in calls:
                self._begin(call)
            while self._left and not self._is_cut_short(calls, wanted):
                self._admit()
                if hedges:
                    self._hedge(calls)
                self._next()
        finally:
            self._abandon([*calls, *self._twins])
        return [call.ask for call in calls if call.is_answered]

    def _next(self) -> None:
        at_s, _, happen, call = heapq.heappop(self._events)
        if at_s > self._until_s:
            self.now_s = self._until_s
            raise Ended("budget")
        self.now_s = at_s
        try:
            happen(call)
        except Ended:
            if not call.has_other:
                raise
            self._withdraw(call)

    def _at(self, at_s: float, happen: Callable[[Call], None], call: Call) -> None:
        heapq.heappush(self._events, (at_s, next(self._numbers), happen, call))

    # -- the way out: breaker, line, quota

    def _begin(self, call: Call) -> None:
        """The tuner asks for it."""
        self._retries.earn()
        call.tries = call.failures = 0
        self._enter(call)

    def _enter(self, call: Call) -> None:
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

    def _price(self, call: Call) -> Amounts:
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

    def _wait_for_quota(self, call: Call, wait_s: float) -> None:
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

    def _send(self, call: Call) -> None:
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

    def _book(self, call: Call) -> None:
        call.is_held = False
        if call.is_lost and self._world.bills_once:
            self.tally.bare[call.ask.purpose] += 1
        else:
            self.tally.billed[call.ask] += 1

    def _turned_away(self, call: Call) -> None:
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

    def _lost(self, call: Call) -> None:
        self._leave(call, answered=False)
        call.is_lost = True
        self._failed(call)

    def _answered(self, call: Call) -> None:
        self._leave(call, answered=True)
        self._breaker.answered(is_probe=call.is_probe)
        if self._is_timed:
            self._lateness.add(self.now_s - call.sent_s)
        self._answered_s = self.now_s
        call.is_answered = call.is_over = True
        self._left -= 1
        if call.twin is not None:
            call.twin.is_answered = True
            self._withdraw(call.twin)

    def _leave(self, call: Call, *, answered: bool) -> None:
        call.is_out = False
        self._concurrency.leave(call.number, answered=answered)
        if self._quota is not None:
            self._quota.settle(call.ticket, call.ask.worst.tokens)

    # -- again

    def _failed(self, call: Call) -> None:
        self._breaker.failed(self.now_s, is_probe=call.is_probe)
        call.failures += 1
        wait_s = self._backoff_s(call)
        if call.failures >= self._world.policy.attempts or not self._retries.take():
            self._ask_later(call)
        else:
            self._at(self.now_s + wait_s, self._enter, call)

    def _backoff_s(self, call: Call) -> float:
        policy = self._world.policy
        longest_s = min(policy.first_wait_s * 2.0 ** (call.tries - 1), policy.longest_wait_s)
        return self._random.random() * longest_s

    def _ask_later(self, call: Call, *, least_s: float = 0.0) -> None:
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
            self._left -= not call.has_other

    def _patient_until_s(self, call: Call) -> float:
        policy, is_away = self._world.policy, -math.inf < self._answered_s <= call.began_s
        return call.began_s + (max(policy.longest_outage_s, policy.patience_s) if is_away else policy.patience_s)

    # -- without the slowest

    def _is_cut_short(self, calls: Sequence[Call], wanted: float | None) -> bool:
        """Whether the rest is not waited for: enough are answered, and all others are late."""
        if wanted in (None, math.inf) or sum(call.ask.candidates for call in calls if call.is_answered) < wanted:
            return False
        if self._world.scheduling.over_ask:
            return True
        late_s = max(call.sent_s for call in calls if not call.is_over) + self._lateness.late_after_s
        if late_s > self.now_s and late_s < math.inf:
            self._at(late_s, _nothing_happens, calls[0])
        return late_s <= self.now_s

    def _hedge(self, calls: Sequence[Call]) -> None:
        """Sends what is late once more, if that is allowed and can be paid for."""
        for call in self._lateness.found(calls, self.now_s):
            if self._lateness.take_hedge():
                self._send_beside(call)
        late_s = self._lateness.next_s(calls)
        if self.now_s < late_s < math.inf and late_s != self._told_late_s:
            self._told_late_s = late_s
            self._at(late_s, _nothing_happens, calls[0])

    def _send_beside(self, call: Call) -> None:
        try:
            self._pay(call.ask.worst)
        except Ended:
            self._lateness.give_hedge_back()
            return
        call.twin = Call(call.ask, self.now_s, twin=call)
        self._twins.append(call.twin)
        self._begin(call.twin)
        self._admit()

    def _withdraw(self, call: Call) -> None:
        """Gives up one of two calls for the same; what is on its way is charged."""
        if call.is_out:
            self._give_up(call)
        if call in self._line:
            self._line.remove(call)
        call.is_over = True
        self._events = [event for event in self._events if event[3] is not call or event[2] is _nothing_happens]
        heapq.heapify(self._events)

    def _give_up(self, call: Call) -> None:
        self._leave(call, answered=False)
        self._breaker.told_nothing(is_probe=call.is_probe)

    def _abandon(self, calls: Sequence[Call]) -> None:
        """Gives up what is under way, and what was not sent yet."""
        self.unused = sum((self._price(call) for call in calls if call.is_held and not call.is_out), Amounts())
        for call in calls:
            if call.is_out:
                if self._is_timed:
                    self._lateness.add(self.now_s - call.sent_s)
                self._give_up(call)
        self._line.clear()
        self._events.clear()
        self._gate_opens_s = self._told_late_s = -math.inf


def _nothing(amounts: Amounts) -> None:
    pass


def _nothing_happens(call: Call) -> None:
    pass
