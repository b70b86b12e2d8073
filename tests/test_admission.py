"""Admission under overload: clients that come by the clock, are refused and obey, for minutes of virtual time."""

from __future__ import annotations

import asyncio
import random
import resource
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from heapq import heappop, heappush
from itertools import count

import pytest
from served import FakeLanes, SetClock, served

from lmaas_backends.roberta.batcher import Batcher
from lmaas_backends.roberta.cost_model import CostModel, Overhead
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.metrics import ServerMetrics
from lmaas_backends.roberta.served_shares import ServedShares
from lmaas_backends.roberta.waiting_room import Occupancy, Ticket, WaitingRoom

SPEED = 1000.0  # tokens a second
CALL = 100  # tokens
BOUND = 30_000
EQUAL = dict.fromkeys("abcd", 0.75)
UNEVEN = {"greedy": 30 / 13, "b": 3 / 13, "c": 3 / 13, "d": 3 / 13}


class Overload:
    """A server that computes calls one after another, its clients in turn, and the clients.

    Args:
        rates: What each client offers, in parts of what can be computed.
        seconds: How long they do.
        deaf: Clients that never come again.
        slower: So many times longer everything takes than the room expects.

    Attributes:
        goodput, shares: What was computed while they came, in parts of what can be, and whose part it was.
    """

    def __init__(
        self, rates: Mapping[str, float], *, seconds: float = 60.0, deaf: Collection[str] = (), slower: float = 1.0
    ) -> None:
        self.came, self.let_in_at_once, self.let_in, self.refused_again = (Counter[str]() for _ in range(4))
        self.computed: Counter[str] = Counter()
        self.longest_wait_s: Counter[str] = Counter()
        self.fullest, self.goodput = 0, 0.0
        self.shares: dict[str, float] = {}
        self._deaf, self._call_s = deaf, slower * CALL / SPEED
        self._clock, self._numbers = SetClock(), count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: dict[str, deque[Occupancy]] = {client: deque() for client in rates}
        self._is_busy = False
        self.room = WaitingRoom(lambda: BOUND, lambda tokens: tokens / SPEED, self._clock)
        self._run(rates, seconds)

    @property
    def kept(self) -> float:
        """The part of those who obeyed that was let in."""
        return self.let_in.total() / (self.let_in.total() + self.refused_again.total())

    def _run(self, rates: Mapping[str, float], seconds: float) -> None:
        draw, end = random.Random(1), self._clock.now + seconds
        for client, rate in rates.items():
            at = self._clock.now
            while (at := at + draw.expovariate(rate * SPEED / CALL)) < end:
                self._at(at, self._coming(Ticket(client, f"call {next(self._numbers)}"), first=True))
        while self._events:
            self._clock.now, _, event = heappop(self._events)
            if self._clock.now > end and not self.goodput:
                self.goodput = self.computed.total() * CALL / SPEED / seconds
                self.shares = {client: self.computed[client] / self.computed.total() for client in rates}
            event()

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._numbers), event))

    def _coming(self, ticket: Ticket, *, first: bool = False) -> Callable[[], None]:
        def comes() -> None:
            self.came[ticket.client] += first
            entered = self.room.enter(ticket, CALL)
            if isinstance(entered, Occupancy):
                (self.let_in_at_once if first else self.let_in)[ticket.client] += 1
                self.fullest = max(self.fullest, self.room.tokens)
                self._waiting[ticket.client].append(entered)
                self._compute()
                return
            self.refused_again[ticket.client] += not first
            self.longest_wait_s[ticket.client] = max(self.longest_wait_s[ticket.client], int(entered))
            if ticket.client not in self._deaf:
                self._at(self._clock.now + entered, self._coming(ticket))

        return comes

    def _compute(self) -> None:
        waiting = [client for client, places in self._waiting.items() if places]
        if self._is_busy or not waiting:
            return
        client = min(waiting, key=self.computed.__getitem__)
        place = self._waiting[client].popleft()
        self._is_busy = True

        def ended() -> None:
            self._is_busy = False
            self.computed[client] += 1
            self.room.leave(place)
            self._compute()

        self._at(self._clock.now + self._call_s, ended)


def test_whoever_obeys_is_let_in_at_three_times_the_capacity() -> None:
    """The server is busy all the time, the room hardly fuller than its bound, and empty in the end."""
    overload = Overload(EQUAL)
    assert 1.0 == overload.kept
    assert overload.goodput > 0.99
    assert overload.fullest <= 1.1 * BOUND
    assert (0, 0, 0) == (overload.room.tokens, overload.room.calls, overload.room.promised_tokens)


def test_a_greedy_client_does_not_starve_the_others_however_long_it_goes_on() -> None:
    """Those who ask for less than an equal share never wait to be let in; the greedy one has what they leave."""
    overload = Overload(UNEVEN, seconds=200.0)
    modest = ("b", "c", "d")
    assert [overload.came[client] for client in modest] == [overload.let_in_at_once[client] for client in modest]
    assert pytest.approx(1 - 9 / 13, abs=0.03) == overload.shares["greedy"]
    assert overload.goodput > 0.99
    assert overload.kept > 0.9


def test_promises_to_those_who_never_come_keep_nobody_else_out() -> None:
    """Neither does anything stand idle for them, nor does a client wait for what another was promised."""
    overload = Overload({"deaf": 30.0, "b": 0.7, "c": 0.7}, deaf=("deaf",))
    assert overload.goodput > 0.99
    assert 1.0 == overload.kept
    assert overload.longest_wait_s["b"] < 60
    assert overload.longest_wait_s["deaf"] > 600
    assert [pytest.approx(1 / 3, abs=0.01)] * 3 == [*overload.shares.values()]


def test_promises_are_kept_where_everything_takes_longer_than_was_expected() -> None:
    """By 30 %, for two minutes of promises; the room is bounded then, too."""
    overload = Overload(EQUAL, slower=1.3)
    assert overload.kept > 0.95
    assert overload.fullest <= 2 * BOUND


def room(*, most: int = 100, most_calls: int = 4096, speed: float = 10.0, clock: SetClock | None = None) -> WaitingRoom:
    """A room in which so many tokens are computed a second."""
    return WaitingRoom(lambda: most, lambda tokens: tokens / speed, clock or SetClock(), most_calls=most_calls)


def entered(waiting: WaitingRoom, client: str, call: str, tokens: int) -> Occupancy:
    place = waiting.enter(Ticket(client, call), tokens)
    assert isinstance(place, Occupancy)
    return place


def test_calls_are_bounded_however_small_they_are() -> None:
    """The room is full by its calls; the next is told when one has been computed, and another client has its share."""
    waiting = room(most=10_000, most_calls=4)
    for number in range(4):
        entered(waiting, "ann", f"call {number}", 20)
    assert 2.0 == waiting.enter(Ticket("ann", "call 4"), 20)
    assert 4.0 == waiting.enter(Ticket("ann", "call 5"), 20)
    entered(waiting, "bob", "a", 20)
    entered(waiting, "bob", "b", 20)
    assert isinstance(waiting.enter(Ticket("bob", "c"), 20), float)


def test_who_came_in_time_and_found_no_room_comes_before_all_others() -> None:
    """It is told of what is inside alone, not of those who were promised later times."""
    clock = SetClock()
    waiting = room(clock=clock)
    for number in range(10):
        entered(waiting, "ann", f"call {number}", 10)
    told = [waiting.enter(Ticket("ann", f"later {number}"), 10) for number in range(9)]
    assert [float(number + 1) for number in range(9)] == told
    for client, tokens in (("bob", 50), ("cyd", 33), ("dan", 16)):
        entered(waiting, client, "an equal share", tokens)
    clock.now += 1.0
    assert 11.0 == waiting.enter(Ticket("ann", "later 0"), 10)  # nothing was computed meanwhile
    assert waiting.enter(Ticket("ann", "new"), 10) > 11.0


def test_a_call_larger_than_the_room_is_let_in_though_others_keep_coming() -> None:
    """They keep half of the room full; what it was promised is the other half, and more."""
    clock = SetClock()
    waiting = room(clock=clock)
    first = entered(waiting, "ann", "first", 100)
    seconds = waiting.enter(Ticket("ann", "large"), 500)
    assert isinstance(seconds, float)
    clock.now += seconds
    waiting.leave(first)
    for number in range(5):
        entered(waiting, "bob", f"call {number}", 10)
    entered(waiting, "ann", "large", 500)


def test_nobody_takes_all_the_promises_there_may_be() -> None:
    """After ten thousand that were made to one client, another still gets one that is kept."""
    clock = SetClock()
    waiting = room(most=100_000, speed=1000.0, clock=clock)
    for number in range(10):
        entered(waiting, "ann", f"call {number}", 10_000)
    for number in range(11_000):
        waiting.enter(Ticket("ann", f"flood {number}"), 1)
    assert 10_000 == waiting.promises
    entered(waiting, "bob", "half", 50_000)
    assert isinstance(waiting.enter(Ticket("bob", "one more"), 1), float)
    assert 10_001 == waiting.promises


def test_nothing_is_left_of_promises_that_were_taken() -> None:
    """However many were made and kept, what is noted of them is a small multiple of those that are open."""
    clock = SetClock()
    waiting = room(clock=clock)
    place = entered(waiting, "ann", "first", 100)
    for number in range(1000):
        seconds = waiting.enter(Ticket("ann", f"call {number}"), 100)
        assert isinstance(seconds, float)
        clock.now += seconds / 10_000  # far from when the promise would run out
        waiting.leave(place)
        place = entered(waiting, "ann", f"call {number}", 100)
    assert 0 == waiting.promises
    assert len(waiting._ends) < 200


def test_what_was_computed_long_ago_counts_for_nothing() -> None:
    """Shares are those of the last half minute or so; after long enough there are none."""
    clock = SetClock()
    shares = ServedShares(clock)
    assert None is shares.share("ann")
    shares.add("ann", 900)
    shares.add("bob", 100)
    assert (pytest.approx(0.9), pytest.approx(0.1), 0.0) == tuple(map(shares.share, ("ann", "bob", "cyd")))
    clock.now += 90.0
    shares.add("bob", 900)
    assert shares.share("ann") < 0.06
    clock.now += 3600.0
    assert None is shares.share("ann")


def test_overhead_is_what_passes_beyond_the_computing() -> None:
    """Units that take three times as long as they compute; never less than they do."""
    slow, fast = Overhead(), Overhead()
    for _ in range(500):
        slow.observe(0.03, 0.01)
        fast.observe(0.001, 0.01)
    assert (pytest.approx(3.0, rel=0.01), 1.0) == (slow.factor, fast.factor)


def test_the_mean_time_of_a_position_is_none_that_noise_can_tilt() -> None:
    """Units of nearly one size have no slope, but the time of a usual unit is known well."""
    draw, model = random.Random(1), CostModel()
    for _ in range(300):
        model.observe(1000 + draw.choice((-5, 5)), 0.01 * draw.uniform(0.5, 1.5))
        assert 0.5e-5 < model.a_position_s < 1.5e-5
    assert pytest.approx(1e-5, rel=0.1) == model.a_position_s


async def test_the_bound_is_half_a_minute_of_what_was_measured() -> None:
    """On two lanes, by the mean time of a position."""
    async with EngineThread() as thread:
        clock = SetClock()
        batcher = Batcher(FakeLanes(2), thread, observer=ServerMetrics(2, lambda: (0, 0)), clock=clock)
        for _ in range(300):
            batcher.cost.observe(100, 0.01)
        assert pytest.approx(30 * 2 * 10_000, rel=0.01) == batcher.room.most_tokens


class Slow:
    """A call that takes a second to be made ready, by the clock, and hardly any time to compute."""

    def __init__(self, clock: SetClock) -> None:
        self._clock, self.units = clock, (10,)

    def flops(self, unit: int) -> int:
        return self.units[unit]

    def prepare(self, unit: int) -> Callable[[], None]:
        self._clock.now += 1.0
        return lambda: None

    def reply(self) -> None:
        return None


async def test_the_bound_counts_what_a_server_does_beside_computing() -> None:
    """About ten positions a second are what it gets done, however fast they are computed; pauses count for nothing."""
    async with EngineThread() as thread:
        clock = SetClock()
        async with Batcher(FakeLanes(), thread, observer=ServerMetrics(1, lambda: (0, 0)), clock=clock) as batcher:
            for _ in range(100):
                await batcher.run("ann", Slow(clock))
                clock.now += 100.0
            assert batcher.room.most_tokens > 10_000
            async with asyncio.TaskGroup() as tasks:
                for _ in range(500):
                    tasks.create_task(batcher.run("ann", Slow(clock)))
            assert 100 < batcher.room.most_tokens < 1000


async def test_the_bound_and_the_promises_are_told() -> None:
    """Beside what waits, for whoever watches the queue."""
    keys = ("ann=test-key-of-ann", "metrics=test-key-of-metrics")
    async with served(keys=keys) as server:
        page = (await server.ask("GET", "/metrics", key="test-key-of-metrics"))[1].decode()
    told = dict(line.split(" ") for line in page.splitlines() if line.startswith("lmaas_queue_") and "{" not in line)
    assert float(told["lmaas_queue_most_tokens"]) > 0
    assert "0.0" == told["lmaas_queue_promises"]


def test_the_server_may_have_more_connections_than_a_shell_allows() -> None:
    """Those beyond would be turned away by silence."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    script = (
        "import resource, lmaas_backends.roberta.server as server\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "code = server.serve.run(server.argparse.Namespace(exit_with_parent=False, host='0.0.0.0', api_key_file=None,"
        " limits=None, price_usd_per_1k_tokens=None, balance_usd=None, requests_per_minute=None,"
        " tokens_per_minute=None, requests_per_day=None, time_zone=None))\n"
        "print(code, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    code, allowed = map(int, done.stdout.split())
    assert 2 == code  # another host than loopback needs keys
    assert allowed == min(65_536, hard) if hard != resource.RLIM_INFINITY else 65_536
