"""Tokenizers that servers hand out, fetched and read once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Protocol, runtime_checkable

from lmaas_sdk.accounting.token_encodings import ByteLevelBpe, read_byte_level_bpe
from lmaas_sdk.errors import ProtocolError, Unsupported

__all__ = ["TokenizerSource", "tokenizer_of"]

_MOST_TOKENIZERS = 8  # some tens of MB each
# A tokenizer, or why it cannot be used; by SHA-256 of its file, which says all, so every backend may share it.
_READ: OrderedDict[str, ByteLevelBpe | str] = OrderedDict()


@runtime_checkable
class TokenizerSource(Protocol):
    """A backend that hands out its model's tokenizer.json, for free."""

    async def tokenizer_json(self) -> bytes:
        """The bytes of tokenizer.json.

        Raises:
            BackendError: As in `Backend.score`.
        """
        ...


async def tokenizer_of(source: TokenizerSource, digest: str) -> ByteLevelBpe:
    """A backend's tokenizer, asked for once a process.

    Args:
        source: The backend.
        digest: SHA-256 of the file, in hex, as its card has it; "": not known, and it is fetched every time.

    Raises:
        Unsupported: It is no byte-level BPE.
        ProtocolError: It is another file than the digest names.
        BackendError: It could not be fetched.
    """
    read = _READ.get(digest)
    if read is None:
        data = await source.tokenizer_json()
        read = await asyncio.to_thread(_read, data, digest)
        if digest:
            _remember(digest, read)
    if isinstance(read, str):
        raise Unsupported(read)
    return read


def _read(data: bytes, digest: str) -> ByteLevelBpe | str:
    found = hashlib.sha256(data).hexdigest()
    if digest and found != digest:
        raise ProtocolError(f"the tokenizer's SHA-256 is {found}, and the card says {digest}")
    try:
        return read_byte_level_bpe(data)
    except Unsupported as error:
        return str(error)


def _remember(digest: str, read: ByteLevelBpe | str) -> None:
    _READ[digest] = read
    while len(_READ) > _MOST_TOKENIZERS:
        _READ.popitem(last=False)
