"""API keys: whose they are. Only their SHA-256 is held, so no repr, log, file or traceback can show one."""

from __future__ import annotations

import hashlib
import hmac
import string
from collections.abc import Iterable

__all__ = ["ApiKeys"]

_HASHED = "sha256:"
_HASH_DIGITS = 64


class ApiKeys:
    """API keys by name.

    A key is a long random word, so that its plain SHA-256 tells nothing of it; a password would need more.
    """

    def __init__(self, named: Iterable[str]) -> None:
        """Reads `NAME=KEY` and `NAME=sha256:HEX` entries; of a plain key only the hash is kept.

        Raises:
            ValueError: An entry has another form, or a name or key comes twice. No key is in the message.
        """
        self._names: dict[bytes, str] = {}
        for place, entry in enumerate(named, start=1):
            name, _, key = (part.strip() for part in entry.partition("="))
            if not name or not key or not key.isascii() or any(c.isspace() for c in key):
                raise ValueError(f"API key entry {place} is not of the form NAME=KEY")
            held = _held(key, place)
            if name in self._names.values() or held in self._names:
                raise ValueError(f"API key entry {place} ({name!r}) repeats a name or a key")
            self._names[held] = name

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """Whose keys there are, in the order they were named."""
        return tuple(self._names.values())

    def name_of(self, key: str) -> str | None:
        """Whose key it is. Every held key is compared, in constant time, so the time tells nothing."""
        presented, found = _hashed(key), None
        for held, name in self._names.items():
            if hmac.compare_digest(held, presented):
                found = name
        return found


def _held(key: str, place: int) -> bytes:
    """What is kept of a key, or of its hash in hexadecimal."""
    if not key.startswith(_HASHED):
        return _hashed(key)
    digits = key.removeprefix(_HASHED)
    if len(digits) != _HASH_DIGITS or not set(digits) <= set(string.hexdigits):
        raise ValueError(f"API key entry {place} is not of the form NAME=sha256:HEX with {_HASH_DIGITS} digits")
    return bytes.fromhex(digits)


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
