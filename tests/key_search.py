"""At the end of a test run, nothing that was written during it may hold an API key.

Every key in the tests begins with one of `MARKERS`. Imported into conftest.py, the fixture searches, at the end of each
worker's session, all files under its base folder (logs, ledgers, caches, state files with their journals) and has seen
every log record that a handler of the root logger sees.
"""

from __future__ import annotations

import logging
import mmap
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["MARKERS", "LogSearch", "found_in", "no_key_is_left"]

# How the tests' own keys begin, and those that a server started by the SDK gets.
MARKERS = ("test-key-of-", "lmaas-local-")
# Files of `lmaas serve --api-key-file`, which hold keys by their nature.
KEY_FILES = ("api-keys",)


def _base64_parts(marker: bytes) -> Iterator[bytes]:
    """What base64 makes of a marker, wherever it begins in a group of three bytes, without the characters at its ends
    that also depend on the bytes beside it."""
    for before in range(3):
        inside = marker[-before % 3 :]
        yield b64encode(inside[: len(inside) // 3 * 3])


def _spellings(marker: str) -> set[bytes]:
    raw = marker.encode()
    percent = "".join(f"%{byte:02x}" for byte in raw)
    json = "".join(f"\\u{byte:04x}" for byte in raw)
    escaped = {text.encode() for text in (percent, json, raw.hex())}
    upper = {text.replace(b"\\U", b"\\u") for text in (text.upper() for text in escaped)}
    dashes = {raw.replace(b"-", dash) for dash in (b"%2d", b"%2D", b"\\u002d", b"\\u002D")}
    return {raw, marker.encode("utf-16-le"), marker.encode("utf-16-be"), *_base64_parts(raw), *escaped, *upper, *dashes}


_NEEDLES = frozenset(needle for marker in MARKERS for needle in _spellings(marker))


def _holds_a_key(written: bytes | mmap.mmap) -> bool:
    return any(written.find(needle) >= 0 for needle in _NEEDLES)


def found_in(folder: Path) -> list[Path]:
    """Files below a folder that hold a key in any spelling, and those whose names do."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if _holds_a_key(path.name.encode()) or _file_holds_a_key(path)]


def _file_holds_a_key(path: Path) -> bool:
    if path.name in KEY_FILES:
        return False
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as written:
            return _holds_a_key(written)


class LogSearch(logging.Handler):
    """Looks for keys in log records as they come: in the text, what it was made of, and the traceback.

    Attributes:
        found: The loggers that told one, and where in the code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if _holds_a_key(f"{self.format(record)}\n{vars(record)!r}".encode("utf-8", "surrogatepass")):
            self.found.append(f"{record.name} ({record.pathname}:{record.lineno})")


@pytest.fixture(scope="session", autouse=True)
def no_key_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails the run where a key was written to a file or a log."""
    search = LogSearch()
    logging.getLogger().addHandler(search)
    yield
    logging.getLogger().removeHandler(search)
    told = [f"a file: {path}" for path in found_in(tmp_path_factory.getbasetemp())]
    told += [f"the logger {logger}" for logger in search.found]
    assert not told, f"an API key is in {', '.join(told)}"
