"""The server under more load than it can bear, on loopback: what is answered, how late, and whom it turns away.

    python -m benchmarks.load [--load 0.5 1 3] [--seconds 60] [--uneven 3] [--json FILE] [--quick]

For each load the real server is started with the bundled model. Its capacity is measured first and once more at the
end, with 16 calls under way all the time, by the same client beside it. Then four clients with API keys of their own
offer so many times the capacity by the clock (a Poisson process with a seed), without waiting for answers: calls of 4
candidates, d = 500, on 32 texts of a registered set. Whoever is refused obeys Retry-After, as often as it takes, under
the same idempotency key. In the loads of `--uneven` the first client offers ten times as much as each of the others.

What is measured is bounded: no more than --most-calls for a load, --seconds of new calls (a third of that for loads of
at most 1), then --drain-seconds in which calls come again (who would come later gives up and is counted apart), then
at most 90 s for the last answers. The default takes seven minutes.

The bars, for loads above 2: goodput (tokens answered while the load was offered) at least 0.9 of the capacity; at least
0.8 of those who obeyed Retry-After let in; of what a client offers that asks for less than an equal share, 0.9 let in
at once. For every load: no other status than 200 and 429, a Retry-After with each 429, the queue within twice its
bound, beyond which nobody is let in, and little more memory. Exit code 1: one was missed; it is named.

Goodput and capacity are compared for the time in which the server's busiest thread had a core or needed none, by the
kernel's account, because other programs may take it at one time and not at another; the plain ratio is told, too, and
so is how long the server lacked a core. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import tell
from benchmarks.load_client import Caller, Offer, Shape, open_session
from benchmarks.load_figures import Capacity, Window, figures_of, missed
from benchmarks.load_server import LoadedServer, Spent, Used, started

CLIENTS = ("ann", "bob", "cid", "dan")
AT_ONCE = 16
_UNEVEN = 10.0
_WARM_UP_S = 1.0
_ANSWERS_S = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with a fresh server.

    Args:
        load: Times the capacity that is offered.
        uneven: Whether the first client offers ten times as much as the others.
        seconds: How long.
        drain_s: For calls that come again after that.
        capacity_s: For measuring the capacity, each time.
        most_calls: That are offered.
        seed: Of the times of the calls.
    """

    load: float
    uneven: bool
    seconds: float
    drain_s: float
    capacity_s: float
    most_calls: int
    seed: int

    @property
    def weights(self) -> dict[str, float]:
        return {name: _UNEVEN if self.uneven and name == CLIENTS[0] else 1.0 for name in CLIENTS}

    def offer(self, calls_a_second: float) -> Offer:
        """The load, where so many calls a second can be computed."""
        together = sum(self.weights.values())
        return Offer(
            rates={name: self.load * calls_a_second * weight / together for name, weight in self.weights.items()},
            seconds=self.seconds,
            drain_s=self.drain_s,
            answers_s=_ANSWERS_S,
            most_calls=self.most_calls,
        )


async def measure(plan: Plan, shape: Shape, options: Sequence[str]) -> dict[str, Any]:
    """The figures of one load, from a server that is started for it."""
    async with started(CLIENTS, options) as server, open_session() as session:
        caller = await Caller.of(server, session, shape)
        before = await _capacity(server, caller, plan.capacity_s)
        window = await _offered(server, caller, plan, capacity=before)
    return figures_of(window)


async def _capacity(server: LoadedServer, caller: Caller, seconds: float) -> Capacity:
    """Tokens a second, with enough calls under way to keep the server busy."""
    async with asyncio.TaskGroup() as group:
        group.create_task(caller.closed(CLIENTS, at_once=AT_ONCE, seconds=_WARM_UP_S + seconds))
        await asyncio.sleep(_WARM_UP_S)
        used, before = Used.of(server), await server.sample()
        await asyncio.sleep(seconds)
        after, spent = await server.sample(), used.since(server)
    tokens = after.computed_tokens - before.computed_tokens
    if not tokens:
        raise RuntimeError(f"nothing was computed in {seconds:g} s: measure the capacity for longer")
    return Capacity(tokens / spent.wall_s, tokens / spent.had_core_s)


async def _offered(server: LoadedServer, caller: Caller, plan: Plan, *, capacity: Capacity) -> Window:
    """Offers the load, then measures the capacity again."""
    rss_before = server.rss_mb
    async with server.sampled() as samples, asyncio.TaskGroup() as group:
        spent = group.create_task(_spent(server, plan.seconds))
        begin = asyncio.get_running_loop().time()
        calls = await caller.offered(plan.offer(capacity.a_second / caller.tokens), plan.seed)
    rss_after = server.rss_mb
    return Window(
        load=plan.load,
        weights=plan.weights,
        begin=begin,
        seconds=plan.seconds,
        capacity=(capacity, await _capacity(server, caller, plan.capacity_s)),
        tokens=caller.tokens,
        calls=calls,
        samples=samples,
        rss_mb=(rss_before, rss_after),
        spent=spent.result(),
        late_s=caller.late_s,
    )


async def _spent(server: LoadedServer, seconds: float) -> Spent:
    """What is used in so many seconds from now on."""
    used = Used.of(server)
    await asyncio.sleep(seconds)
    return used.since(server)


def plans(args: argparse.Namespace) -> list[Plan]:
    """What the options ask for."""
    wanted = [(load, False) for load in args.load] + [(load, True) for load in args.uneven]
    return [
        Plan(
            load=load,
            uneven=uneven,
            seconds=args.seconds if load > 1 else args.seconds / 3,
            drain_s=args.drain_seconds,
            capacity_s=args.capacity_seconds,
            most_calls=args.most_calls,
            seed=args.seed,
        )
        for load, uneven in wanted
    ]


def server_options(args: argparse.Namespace) -> list[str]:
    """The options of the server."""
    bound = [] if args.max_queued_tokens is None else [f"--max-queued-tokens={args.max_queued_tokens}"]
    return [f"--threads={args.threads}", *bound]


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, nargs="*", default=[0.5, 1.0, 3.0], help="times the capacity")
    parser.add_argument("--uneven", type=float, nargs="*", default=[3.0], help="the same, most of it by one client")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--drain-seconds", type=float, default=30.0)
    parser.add_argument("--capacity-seconds", type=float, default=6.0)
    parser.add_argument("--most-calls", type=int, default=50_000)
    parser.add_argument("--candidates", type=int, default=4, help="of a call (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=32, help="of a call (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the server (default: %(default)s)")
    parser.add_argument("--max-queued-tokens", type=int, help="of the server")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--quick", action="store_true", help="a few seconds of one load: does it run at all")
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args(argv)
    if args.quick:
        args.load, args.uneven = args.load[-1:], []
        args.seconds, args.drain_seconds, args.capacity_seconds = 3.0, 2.0, 1.0
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parsed(argv)
    shape = Shape(args.candidates, args.texts)
    found = [asyncio.run(measure(plan, shape, server_options(args))) for plan in plans(args)]
    misses = [f"load {figures['load']:g}: {what}" for figures in found for what in missed(figures)]
    tell({"call": str(shape), "loads": found, "missed": misses}, "benchmarks.load", args.json)
    for miss in misses:
        print(f"missed: {miss}", file=sys.stderr)
    return 1 if misses and not args.quick else 0


if __name__ == "__main__":
    sys.exit(main())
