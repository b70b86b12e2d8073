"""Try budgets, quotas and faults on a model that is none, before a real one is paid for.

    python examples/mock_with_quotas.py

The mock keeps a provider's manners, and in virtual time its waits take no time: nine days pass in a second.
"""

import asyncio

from lmaas_sdk import Budget, Limits, Price, Task, Tuner, TuningResult, load_backend
from lmaas_sdk.testing import Faults, run_virtual

TASK = Task("reviews", template="{text} It was <mask> .", labels=["negative", "positive"], words=["bad", "great"])
TRAIN = TASK.examples([("Stale bread.", "negative"), ("Warm soup.", "positive"), ("Cold tea.", "negative")])
PRICE = Price(input_nanousd_per_mtok=400_000_000)  # 0.0004 USD per 1,000 tokens
DAY_S = 24 * 3600


def report(title: str, result: TuningResult) -> None:
    print(f"{title}: stopped={result.stopped!r} after {result.evaluations} evaluations")
    for purpose, spent in result.spend.to_dict().items():
        print(f"  {purpose:7} {spent['calls']:4} calls {spent['tokens']:8} tokens {spent['nanousd'] / 1e9:.6f} USD")


async def no_time_to_wait() -> None:
    """Thirty calls a minute, and nobody who would wait for the next minute."""
    async with load_backend("mock", limits=Limits(requests_per_minute=30), price=PRICE) as backend:
        result = await Tuner(backend, budget=Budget(evaluations=8000), preset="sep-tpa").fit(TRAIN, max_wait_s=1)
    report("impatient", result)


async def five_cents() -> None:
    """A hard limit in dollars while a tenth of the attempts fail: repeats count as calls, and nothing is paid twice."""
    faults = Faults(seed=1, server_fault=0.06, timeout=0.04)
    async with load_backend("mock", price=PRICE, faults=faults) as backend:
        result = await Tuner(backend, budget=Budget(usd="0.05"), preset="sep-tpa").fit(TRAIN, TRAIN)
    report("five cents", result)


async def a_hundred_a_day() -> None:
    """The patient way: how long do 20,000 evaluations take at a hundred calls a day?"""
    began_s = asyncio.get_running_loop().time()
    async with load_backend("mock", limits=Limits(requests_per_day=100)) as backend:
        result = await Tuner(backend, budget=Budget(evaluations=20_000), preset="sep-tpa").fit(TRAIN)
    report("patient", result)
    print(f"  it took {(asyncio.get_running_loop().time() - began_s) / DAY_S:.1f} days")


if __name__ == "__main__":
    for scene in (no_time_to_wait, five_cents, a_hundred_a_day):
        run_virtual(scene())
