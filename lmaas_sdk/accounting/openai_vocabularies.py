"""tiktoken's own vocabularies for OpenAI's models, where they already lie on this machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

__all__ = ["is_openai_name", "local_encoding"]

# How the names begin that tiktoken knows.
_NAMES = ("gpt", "chatgpt", "o1", "o3", "o4", "ft:", "text-", "code-", "davinci", "curie", "babbage", "ada", "cushman")
_FOLDER_URL = "https://openaipublic.blob.core.windows.net/encodings"
# Encoding -> the file it is made from, and the file's SHA-256, both as tiktoken names them.
_R50K = ("r50k_base", "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930")
_P50K = ("p50k_base", "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069")
_CL100K = ("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7")
_O200K = ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d")
_FILES = {
    "r50k_base": _R50K,
    "p50k_base": _P50K,
    "p50k_edit": _P50K,
    "cl100k_base": _CL100K,
    "o200k_base": _O200K,
    "o200k_harmony": _O200K,
}


def is_openai_name(model: str) -> bool:
    """Whether a model's name may be one of OpenAI's, told without the time that tiktoken takes to import."""
    return model.startswith(_NAMES)


def local_encoding(model: str) -> tiktoken.Encoding | None:
    """The encoding of an OpenAI model; None: another model, or its vocabulary is not on this machine.

    tiktoken downloads a vocabulary that it lacks. Here it is only asked for one whose file, whole and right, is in its
    cache folder (`TIKTOKEN_CACHE_DIR`), so nothing goes over the network. Reading it takes up to a second.
    """
    import tiktoken  # noqa: PLC0415  (slow to import)

    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        return None
    return tiktoken.get_encoding(name) if name in _FILES and _is_cached(*_FILES[name]) else None


def _is_cached(file: str, sha256: str) -> bool:
    folder = _cache_folder()
    if folder is None:
        return False
    url = f"{_FOLDER_URL}/{file}.tiktoken"
    try:
        content = (folder / hashlib.sha1(url.encode()).hexdigest()).read_bytes()  # noqa: S324 (a file's name)
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == sha256


def _cache_folder() -> Path | None:
    """Where tiktoken keeps what it has downloaded; None: nowhere, by an empty variable."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return Path(os.environ[variable]) if os.environ[variable] else None
    return Path(tempfile.gettempdir(), "data-gym-cache")
