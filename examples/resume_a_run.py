"""Kill a run in the middle, and go on with it from its journal: the same prompt, and no generation done twice.

    python examples/resume_a_run.py

The run is a process of its own, which gets SIGKILL; nothing is left of it but its journal. Another is left alone, to
compare with. The mock stands for the provider, slowed down so that there is something to kill.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmaas_sdk import Budget, Resumed, Task, Tuner, TuningResult, load_backend

TASK = Task("things", template="{text} It was <mask> .", labels=["negative", "positive"], words=["bad", "great"])
TRAIN = TASK.examples([(f"a {('dull', 'lovely')[n % 2]} thing, number {n}", n % 2) for n in range(16)])
BUDGET = Budget(evaluations=600)
LATENCY_S = 0.05


async def begin(journal: Path) -> TuningResult:
    """A run of 30 generations that is written down as it goes."""
    async with load_backend("mock", latency_s=LATENCY_S) as backend:
        return await Tuner(backend, budget=BUDGET, seed=42, journal=journal).fit(TRAIN)


async def go_on(journal: Path) -> TuningResult:
    """The rest of it: preset, seed and budget are in the journal, the data are not."""
    async with load_backend("mock", latency_s=LATENCY_S) as backend:
        tuner = await asyncio.to_thread(Tuner.resume, journal, backend)
        return await tuner.fit(TRAIN, on_event=lambda event: print(event) if isinstance(event, Resumed) else None)


def kill_one(journal: Path) -> int:
    """Has a process begin the run, and kills it after some generations; how many they were."""
    command = [sys.executable, __file__, str(journal)]
    with subprocess.Popen(command) as process:  # noqa: S603  (this file)
        while (told := journal.read_bytes().count(b'"kind":"told"') if journal.exists() else 0) < 5:
            time.sleep(0.01)
        process.kill()
    return told


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        killed, alone = Path(folder) / "killed.journal", Path(folder) / "alone.journal"
        print(f"killed after {kill_one(killed)} generations or a few more, with {killed.stat().st_size} bytes written")
        result, expected = asyncio.run(go_on(killed)), asyncio.run(begin(alone))
    print(f"{len(result.generations)} generations, {result.evaluations} evaluations, stopped={result.stopped!r}")
    same = (result.prompt.to_bytes(), result.core.to_bytes()) == (expected.prompt.to_bytes(), expected.core.to_bytes())
    print(f"the same bytes as a run that was left alone: {same}")


if __name__ == "__main__":
    asyncio.run(begin(Path(sys.argv[1]))) if len(sys.argv) > 1 else main()
