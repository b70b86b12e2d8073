"""Takes secrets out of texts that came from a server, which may have echoed them in one spelling or another."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from urllib.parse import quote

__all__ = ["masking"]

# How often an error that quotes an error may escape a character. Bounded: a hostile answer may be nothing but backslashes.
_SOME, _AT_LEAST_ONE = r"\\{0,8}", r"\\{1,16}"


def masking(*secrets: str | None) -> Callable[[str], str]:
    """What puts `***` in the place of each of these secrets: as they are, and as JSON, Python, a URL or HTML spell them."""
    patterns = [_pattern(secret) for secret in sorted(filter(None, secrets), key=len, reverse=True)]
    if not patterns:
        return str
    pattern = re.compile("|".join(patterns), re.IGNORECASE)
    return lambda text: pattern.sub("***", text)


def _pattern(secret: str) -> str:
    # several backslashes after one another are one: nobody can tell how often each was escaped
    return "".join(map(_spellings, re.sub(r"\\+", r"\\", secret)))


def _spellings(character: str) -> str:
    code = ord(character)
    plain = _AT_LEAST_ONE if character == "\\" else _SOME * (character in "\"'/") + re.escape(character)
    escaped = (rf"{_AT_LEAST_ONE}u{code:04x}", rf"{_AT_LEAST_ONE}x{code:02x}", f"&#{code};", f"&#x{code:x};")
    percent = "".join(f"%{byte:02x}" for byte in character.encode())
    others = {quote(character, safe=""), html.escape(character)} - {character}
    return f"(?:{'|'.join((plain, *escaped, percent, *map(re.escape, sorted(others))))})"
