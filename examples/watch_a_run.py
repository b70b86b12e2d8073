"""Watch a run: iterate over its events as they come, or have an async callback take them.

    python examples/watch_a_run.py

The mock allows six calls a minute; in virtual time its minutes take no time.
"""

import asyncio

from lmaas_sdk import Budget, GenerationDone, Limits, Task, Tuner, Waiting, load_backend
from lmaas_sdk.testing import run_virtual

TASK = Task("reviews", template="{text} It was <mask> .", labels=["negative", "positive"], words=["bad", "great"])
TRAIN = TASK.examples([("Stale bread.", "negative"), ("Warm soup.", "positive"), ("Cold tea.", "negative")])
SIX_A_MINUTE = Limits(requests_per_minute=6)


async def iterate() -> None:
    """The loop decides when it is good enough: `stop` ends the run with a result, where `break` would cancel it."""
    async with load_backend("mock", limits=SIX_A_MINUTE) as backend:
        tuner = Tuner(backend, budget=Budget(evaluations=2000), preset="sep-tpa")
        async with tuner.events(TRAIN) as run:
            async for event in run:
                match event:
                    case GenerationDone(generation=generation, lowest_loss=loss) if generation % 5 == 0:
                        print(f"generation {generation}: loss {loss:.3f}")
                        if loss < 0.002:
                            tuner.stop()
                    case Waiting(seconds=seconds, cause=cause):
                        print(f"waiting {seconds:.0f} s: {cause}")
    print(run.result)


async def call_back() -> None:
    """A dashboard that takes three seconds for an update: the run does not wait for it, and it misses nothing."""
    shown: list[int] = []

    async def update_dashboard(event: object) -> None:
        if isinstance(event, GenerationDone):
            await asyncio.sleep(3)
            shown.append(event.generation)

    async with load_backend("mock", limits=SIX_A_MINUTE) as backend:
        tuner = Tuner(backend, budget=Budget(evaluations=400), preset="sep-tpa")
        result = await tuner.fit(TRAIN, on_event=update_dashboard)
    print(f"{len(result.generations)} generations in {result.wall_s:.0f} s, all shown: {shown == list(range(20))}")
    print(f"waited for the quota: {result.waits['quota']:.0f} s")


if __name__ == "__main__":
    for scene in (iterate, call_back):
        run_virtual(scene())
