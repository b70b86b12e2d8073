"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings
from key_search import no_key_is_left

__all__ = ["no_key_is_left", "nothing_blocks_the_event_loop", "real_data"]

settings.register_profile("steady", deadline=None, derandomize=True)  # the same examples on every machine, however slow
settings.load_profile("steady")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, one folder each.

    `LMAAS_TEST_DATA` names it; unset, `../shared/data` beside the checkout is used where it exists. A folder that is
    named and missing fails the test: it was asked for.
    """
    named = os.environ.get("LMAAS_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"LMAAS_TEST_DATA names {folder}, which is not there: point it at the data sets or unset it")
    pytest.skip("no real data: set LMAAS_TEST_DATA to a folder of data sets (SST-2/train.tsv, ...)")


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[None]:
    """A call that would block the event loop (a file, a database, a lock, a sleep) fails the test it is made in."""
    with blockbuster_ctx(["lmaas_sdk", "lmaas_backends"]) as blockbuster:
        for function in blockbuster.functions.values():
            for file, name in _AT_THE_START:
                function.can_block_in(file, name)
        yield


# What a program does once, before anything is under way, and plain functions that it calls where it likes: to find
# what is installed, to import, to read data, to draw, to save.
_AT_THE_START = (
    ("lmaas_sdk/registry.py", "load_backend"),
    ("gettext.py", "find"),
    ("<frozen importlib._bootstrap>", "_find_and_load"),
    ("lmaas_sdk/tasks/readers.py", "read_folder"),
    ("lmaas_sdk/tasks/readers.py", "read_dataset"),
    ("lmaas_sdk/tuning/cmaes.py", "__init__"),
    ("lmaas_sdk/tuning/prompt.py", "save"),
    ("lmaas_sdk/tuning/prompt.py", "load"),
    ("lmaas_sdk/methods/saved.py", "save"),
    ("lmaas_sdk/methods/saved.py", "load"),
    ("lmaas_sdk/tuning/run_file.py", "save_record"),
    ("lmaas_sdk/tuning/run_file.py", "load_fields"),
    ("lmaas_sdk/reporting/report_runs.py", "read_run"),
    ("lmaas_sdk/reporting/report_runs.py", "read_runs"),
    ("lmaas_sdk/reporting/report_page.py", "render_page"),
    ("lmaas_sdk/reporting/report.py", "write_report"),
    ("lmaas_sdk/reporting/curves.py", "draw_run"),
    ("lmaas_sdk/cli/session.py", "report"),
    ("lmaas_sdk/planning/simulate.py", "_apart"),
    ("lmaas_sdk/testing/virtual_loop.py", "turn"),  # what else would be done on a thread
)
