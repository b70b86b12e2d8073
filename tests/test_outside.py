"""What a process takes from outside, and what a simulation takes instead."""

import asyncio

from lmaas_sdk.outside import of_a_simulation, outside, within_outside
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.lane import loop_wall

MAY_DAY = 1_777_593_600.0


def test_two_simulations_of_one_seed_have_the_same_names_and_chance() -> None:
    """And those of another seed have others."""
    worlds = [of_a_simulation(began_s=0.0, clock=lambda: 0.0, seed=seed) for seed in (1, 1, 2)]
    first, again, other = ([world.new_id(), world.new_id(), world.jitter.random()] for world in worlds)
    assert first == again
    assert not set(first) & set(other)
    assert first[0] != first[1]


def test_names_of_the_real_world_are_new() -> None:
    """They are 32 hexadecimal digits, in a simulation too."""
    simulated = of_a_simulation(began_s=0.0, clock=lambda: 0.0, seed=0)
    names = {world.new_id() for world in (outside(), simulated) for _ in range(100)}
    assert 200 == len(names)
    assert {32} == {len(f"{int(name, 16):032x}") for name in names}


def test_tasks_that_a_simulation_starts_stay_in_it() -> None:
    """What is around it does not change, and what it started sees its date when it has ended."""

    async def main() -> tuple[float, float, bool]:
        loop, real = asyncio.get_running_loop(), outside()
        with within_outside(of_a_simulation(began_s=MAY_DAY, clock=loop.time, seed=0)):
            later = asyncio.create_task(_wall_after(3600.0))
            wall = loop_wall()
        return await later, wall(), outside() is real

    assert (MAY_DAY + 3600.0, MAY_DAY + 3600.0, True) == run_virtual(main())


async def _wall_after(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return outside().wall()
