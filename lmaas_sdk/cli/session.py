"""A tuning run as a command does it: watch, save, draw, report."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmaas_sdk.cli.console import stdout_console
from lmaas_sdk.cli.run_options import Splits
from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.reporting.curves import check_can_draw, draw_run
from lmaas_sdk.reporting.progress import RunProgress
from lmaas_sdk.reporting.result_tables import accuracy_table, estimate_lines, spend_table
from lmaas_sdk.tuning.interruption import Stoppable
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.run_file import save_record
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["OutputFiles", "report", "stopping_on_signals", "tune"]


async def tune(tuner: Tuner, splits: Splits, *, max_wait_s: float | None, target: float | None = None) -> TuningResult:
    """Runs the search with a progress display on stderr and compares the tuned prompt with the manual one."""
    with RunProgress(tuner.budget) as progress, stopping_on_signals(tuner):
        return await tuner.fit(
            splits.train,
            splits.dev,
            test=splits.test,
            compare_manual=splits.test is not None,
            max_wait_s=max_wait_s,
            target=target,
            on_event=progress.show,
        )


@contextmanager
def stopping_on_signals(search: Stoppable) -> Iterator[asyncio.Event]:
    """The first Ctrl-C (or SIGTERM) ends the search with what it has found; the second ends it at once.

    The event that this gives is set by the first.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            if task is not None:
                task.cancel()
            return
        asked.set()
        search.stop()
        print("stopping after this generation; once more to stop at once", file=sys.stderr)

    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        yield asked
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Where a run writes; `checked` before anything is spent."""

    prompt: Path
    run: Path
    picture: Path | None

    @classmethod
    def checked(cls, folder: Path, stem: str, *, picture: bool) -> OutputFiles:
        """The files of a run in a folder, which is made if need be.

        Raises:
            OSError: Nothing can be written there.
            ValueError: A picture is wanted and matplotlib is not installed.
        """
        if picture:
            try:
                check_can_draw()
            except MissingExtra as missing:  # to the command line it is an option that cannot be had
                raise ValueError(str(missing)) from missing
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        prompt, run, drawn = (folder / f"{stem}.{ending}" for ending in ("prompt", "run.json", "png"))
        return cls(prompt, run, drawn if picture else None)

    def write(self, result: TuningResult) -> dict[str, str | None]:
        """Writes them; what is where, for JSON."""
        result.prompt.save(self.prompt)
        save_record(result.to_record() | {"prompt_file": self.prompt.name}, self.run)
        if self.picture is not None:
            draw_run(result, self.picture)
        picture = None if self.picture is None else str(self.picture)
        return {"prompt_file": str(self.prompt), "run_file": str(self.run), "picture": picture}


def report(result: TuningResult, files: OutputFiles, *, as_json: bool) -> None:
    """Writes the files and prints the result, as a table or as one JSON object."""
    written = files.write(result)
    if as_json:
        print(json.dumps(result.to_dict() | written, indent=2))
        return
    console = stdout_console()
    console.print(accuracy_table(result))
    console.print(spend_table(result))
    console.print(f"stopped: {result.stopped} after {result.wall_s:.1f} s; chosen by {result.chosen_by}")
    for line in estimate_lines(result):
        console.print(line, soft_wrap=True, highlight=False)
    for warning in (*result.warnings, *([] if result.failure is None else [f"the backend failed: {result.failure}"])):
        console.print(f"note: {warning}", soft_wrap=True, highlight=False, markup=False)
    for name, path in written.items():
        if path is not None:
            console.print(f"{name.replace('_', ' ')}: {path}", soft_wrap=True, highlight=False, markup=False)
