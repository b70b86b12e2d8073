"""Reading a ledger file changes nothing, and needs nothing that may be written."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ledger_files import ASKED, die_with, write_ledger, wrong

from lmaas_sdk.accounting.audit import state_ledger
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.ledger_reader import LedgerReader

_NOBODY = 65534


@contextmanager
def may_only_read(folder: Path) -> Iterator[None]:
    """Nothing in the folder may be written; where that does not stop us, as somebody whom it stops."""
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that others may look into, too."""
    made = Path(tempfile.mkdtemp(prefix="ledger-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are others here")
def test_a_closed_file_is_read_where_nothing_may_be_written(folder: Path) -> None:
    """An archive, say, or a mounted backup; nothing is left beside it."""
    path = asyncio.run(write_ledger(folder / "ledger.db"))
    path.chmod(0o444)
    with may_only_read(folder):
        with LedgerReader(path) as reader:
            assert 4 == state_ledger(reader).accounts[0].posted[0]
        assert [] == wrong(path)
        assert [path] == list(folder.iterdir())


def test_reading_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    """Nor does it change a byte of one that was closed."""
    path = asyncio.run(write_ledger(tmp_path / "ledger.db"))
    before = path.read_bytes()
    with LedgerReader(path) as reader:
        state_ledger(reader)
    assert ([path], before) == (list(tmp_path.iterdir()), path.read_bytes())


def test_what_the_dead_left_beside_it_is_read(tmp_path: Path) -> None:
    """What only the WAL says is there, before and after."""
    path = tmp_path / "ledger.db"
    die_with(path)
    for _ in range(2):
        with LedgerReader(path) as reader:
            assert 3 == state_ledger(reader).accounts[0].pending[0]


def test_a_reader_sees_what_is_written_meanwhile_only_afterwards(tmp_path: Path) -> None:
    """And whoever writes is not kept waiting."""
    path = tmp_path / "ledger.db"
    with open_ledger(path, busy_timeout_s=1.0) as ledger:
        team = Budget(name="team", ledger=ledger)
        with LedgerReader(path) as reader:
            team.reserve(ASKED)
            assert 0 == reader.account("team").pending[0]
        with LedgerReader(path) as reader:
            assert 1 == reader.account("team").pending[0]
