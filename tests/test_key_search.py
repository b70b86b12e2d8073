"""The search for keys finds them."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import key_search
import pytest
from key_search import MARKERS, LogSearch, found_in

from lmaas_sdk.accounting.ledger_file import open_ledger

TESTS = Path(key_search.__file__).parent
KEY = f"{MARKERS[0]}nobody"


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that the search at the end of this very run does not look into."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


SPELLED = {
    "raw": KEY.encode(),
    "JSON": json.dumps({"Authorization": f"Bearer {KEY}"}).encode(),
    "every character escaped": "".join(f"\\u{ord(character):04x}" for character in KEY).encode(),
    "dashes escaped": KEY.replace("-", "%2D").encode(),
    "percent": "".join(f"%{ord(character):02X}" for character in KEY).encode(),
    "UTF-16": KEY.encode("utf-16-le"),
    "hex": KEY.encode().hex().encode(),
} | {f"base64 after {n}": base64.b64encode(b"ann:__"[:n] + KEY.encode()) for n in range(6)}


@pytest.mark.parametrize("written", SPELLED.values(), ids=SPELLED)
@pytest.mark.parametrize("around", [b"", b"\0" * 5000], ids=["alone", "in the middle"])
def test_a_key_is_found_in_any_spelling(elsewhere: Path, written: bytes, around: bytes) -> None:
    """In a file of a folder below, and nowhere else."""
    (elsewhere / "logs").mkdir()
    (elsewhere / "logs" / "empty").touch()
    (elsewhere / "logs" / "harmless").write_bytes(b"a test, a key, of nobody: dGVzdA==")
    (elsewhere / "logs" / "leak").write_bytes(around + written + around)
    assert [elsewhere / "logs" / "leak"] == found_in(elsewhere)


def test_a_key_is_found_in_the_name_of_a_file(elsewhere: Path) -> None:
    """Even of an empty one."""
    (elsewhere / KEY).touch()
    assert [elsewhere / KEY] == found_in(elsewhere)


def test_a_key_is_found_in_a_database_that_is_still_open(elsewhere: Path) -> None:
    """It is in the journal beside the file, which the main file does not hold yet."""
    with open_ledger(elsewhere / "ledger") as ledger:
        ledger.run(lambda _: ledger._file.connection.execute(f"CREATE TABLE leak (key DEFAULT '{KEY}')"))
        assert "ledger-wal" in [path.name for path in found_in(elsewhere)]


def test_files_of_api_keys_are_the_only_ones_left_out(elsewhere: Path) -> None:
    """By their exact name."""
    for name in ("api-keys", "api-keys.bak"):
        (elsewhere / name).write_text(KEY)
    assert [elsewhere / "api-keys.bak"] == found_in(elsewhere)


LOGGED: dict[str, Callable[[logging.Logger], None]] = {
    "text": lambda logger: logger.warning(f"Bearer {KEY}"),
    "an argument": lambda logger: logger.debug("%s", {"Authorization": KEY}),
    "an argument that is not shown": lambda logger: logger.info("%(name)s", {"name": "ann", "key": KEY}),
    "an attribute": lambda logger: logger.info("sent", extra={"headers": {"Authorization": KEY}}),
    "an error": lambda logger: logger.error("failed", exc_info=ValueError(KEY)),
}


@pytest.mark.parametrize("log", LOGGED.values(), ids=LOGGED)
def test_a_key_is_found_in_a_log_record(log: Callable[[logging.Logger], None]) -> None:
    """In its text, in what it was made of, and in its error."""
    search, logger = LogSearch(), logging.Logger("some.logger")
    logger.addHandler(search)
    logger.warning("fine: %s", "nothing")
    assert [] == search.found
    log(logger)
    assert ["some.logger"] == [where.partition(" ")[0] for where in search.found]


LEAKS = {
    "a file": f"def test_it(tmp_path):\n    (tmp_path / 'x').write_text({MARKERS[0]!r})\n",
    "a log": f"import logging\ndef test_it():\n    logging.getLogger('x').warning({MARKERS[1]!r})\n",
    "nothing": "def test_it(tmp_path):\n    (tmp_path / 'x').write_text('fine')\n",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_run_that_leaks_a_key_fails(elsewhere: Path, leak: str) -> None:
    """Though every test of it passes; a clean one passes."""
    (elsewhere / "test_leak.py").write_text(LEAKS[leak])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "key_search", "-p", "no:cacheprovider", "--rootdir", "."]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    run = subprocess.run(
        [*command, "--basetemp", str(elsewhere / "base"), "test_leak.py"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ("1 passed" in run.stdout, int(leak != "nothing")) == (True, run.returncode)
    assert (leak != "nothing") == ("an API key is in" in run.stdout)
