"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
