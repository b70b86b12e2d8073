"""What a landscape made of one run's journal says of other searches, against what they find on the model.

    python -m benchmarks.recorded_landscapes --data FOLDER --journals FOLDER [--out FILE]

Runs the bundled model on 16 shots of FOLDER/SST-2, 3000 evaluations each: a recorded run a preset, and searches of
another population or another seed in the same subspace. A run whose journal is there already is not made again. The
landscape of the recorded run is then searched with the settings of the others. A cell is one run: how far runs of one
setting lie apart is told by the two seeds.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.figures import tell
from lmaas_sdk import (
    Budget,
    Dataset,
    Optimizer,
    Preset,
    Tuner,
    few_shot,
    get_task,
    load_backend,
    read_folder,
)
from lmaas_sdk.planning.recorded import RecordedLandscape, recorded_landscape
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.planning.simulate import simulate
from lmaas_sdk.tuning.journal_file import records_of
from lmaas_sdk.tuning.presets import get_preset
from lmaas_sdk.tuning.searches import make_optimizer
from lmaas_sdk.tuning.told import Told

EVALUATIONS, SHOTS, SEED = 3000, 16, 42
PRESETS = ("default", "paper")


@dataclass(frozen=True, slots=True)
class Search:
    """One of a preset: how many candidates a generation, and its own seed; the subspace's is `SEED`."""

    population: int = 20
    seed: int = SEED


RECORDED = Search()
OTHERS = {"default": (Search(40), Search(10), Search(20, 7)), "paper": (Search(40), Search(20, 7))}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--journals", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    train, dev = few_shot(read_folder(args.data / "SST-2", get_task("SST-2"), "train"), SHOTS, seed=SEED)
    found = {name: _preset(name, train, dev, args.journals) for name in PRESETS}
    tell(found, "benchmarks.recorded_landscapes", args.out)


def _preset(name: str, train: Dataset, dev: Dataset, journals: Path) -> dict[str, object]:
    preset = replace(get_preset(name), plateau=None)
    paths = {search: _journal(preset, search, train, dev, journals) for search in (RECORDED, *OTHERS[name])}
    landscape = recorded_landscape(paths[RECORDED])
    rows = [
        {
            "population": search.population,
            "seed": search.seed,
            "model": round(_lowest(path), 4),
            "landscape": round(_told(landscape, search, train, dev), 4),
        }
        for search, path in paths.items()
    ]
    return {"d": landscape.recording.subspace.d, "searches": rows, "landscape": landscape.to_dict()}


def _journal(preset: Preset, search: Search, train: Dataset, dev: Dataset, journals: Path) -> Path:
    """Of a run on the model, made now if it is not there."""
    path = journals / f"{preset.name}-{search.population}-{search.seed}.journal"
    if not path.exists():
        asyncio.run(_run(replace(preset, population=search.population), search.seed, train, dev, path))
    return path


async def _run(preset: Preset, seed: int, train: Dataset, dev: Dataset, path: Path) -> None:
    make = None if seed == SEED else partial(_search_of_seed, preset, seed)
    async with load_backend("roberta-tiny") as backend:
        budget = Budget(evaluations=EVALUATIONS)
        await Tuner(backend, budget=budget, preset=preset, seed=SEED, optimizer=make, journal=path).fit(train, dev)


def _search_of_seed(preset: Preset, own_seed: int, d: int, _seed: int) -> Optimizer:
    return make_optimizer(preset, d, own_seed)


def _lowest(path: Path) -> float:
    told = [Told.from_record(record) for record in records_of(path) if record["kind"] == "told"]
    return min(min(one.scored.values()) for one in told)


def _told(landscape: RecordedLandscape, search: Search, train: Dataset, dev: Dataset) -> float:
    scenario = Scenario(
        train=train,
        dev=dev,
        preset=landscape.preset,
        population=search.population,
        budget=Budget(evaluations=EVALUATIONS),
        landscape=landscape,
    )
    (one,) = simulate(scenario, seeds=[search.seed], compare=False).runs
    if one.found is None:
        raise RuntimeError(f"the simulated run of {search} ended before its first generation: {one.failure}")
    return one.found.loss


if __name__ == "__main__":
    main()
