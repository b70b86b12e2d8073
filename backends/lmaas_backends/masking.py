"""Takes secrets out of texts that came from a server, which may have echoed them in one spelling or another."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

__all__ = ["masking"]

# How often an error that quotes an error may escape a character; bounded, for an answer may be nothing but backslashes.
_SOME, _AT_LEAST_ONE = r"\\{0,8}", r"\\{1,16}"


def masking(*secrets: str | None) -> Callable[[str], str]:
    """What puts `***` in the place of these secrets, as they are and as JSON, Python, a URL or HTML spell them."""
    patterns = [_pattern(secret) for secret in sorted(filter(None, secrets), key=len, reverse=True)]
    if not patterns:
        return str
    pattern = re.compile("|".join(patterns), re.IGNORECASE)
    return lambda text: pattern.sub("***", text)


def _pattern(secret: str) -> str:
    # of several backslashes nobody can tell how often each was escaped
    return "".join(
        _backslashes(len(run)) if "\\" in run else _spellings(run) for run in re.findall(r"\\+|.", secret, re.S)
    )


def _backslashes(count: int) -> str:
    return rf"(?:(?:{_escaped(chr(92))}){{{count}}}|{_AT_LEAST_ONE})"


def _spellings(character: str) -> str:
    plain = (_SOME if character in "\"'/" else "") + re.escape(character)
    return f"(?:{_escaped(character)}|{plain})"


def _escaped(character: str) -> str:
    """The ways to write a character by its number, or by a name that HTML has for it."""
    code, units = ord(character), character.encode("utf-16-be", "surrogatepass").hex()
    json = "".join(f"{_AT_LEAST_ONE}u{units[at : at + 4]}" for at in range(0, len(units), 4))
    python = f"{_AT_LEAST_ONE}(?:x{code:02x}|U{code:08x})"
    percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    named = [re.escape(name) for name in (html.escape(character),) if name != character]
    return "|".join((json, python, percent, f"&#{code};", f"&#x{code:x};", *named))
