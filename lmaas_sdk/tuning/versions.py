"""What the bits of a run depend on, beside its settings."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

from threadpoolctl import ThreadpoolController

from lmaas_sdk.backend import ModelCard

__all__ = ["differences", "versions_of"]

_PACKAGES = ("lmaas-sdk", "cma", "cmaes", "numpy")


def versions_of(card: ModelCard) -> dict[str, str]:
    """Packages, interpreter, engine, and the library and threads that ask and tell compute with; reads files."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return found | {"python": platform.python_version(), "blas": _blas(), "engine": card.fingerprint}


def _blas() -> str:
    """The libraries of linear algebra as an optimiser has them: with the threads it allows them."""
    controller = ThreadpoolController()
    with controller.limit(limits=1, user_api="blas"):
        libraries = [library for library in controller.info() if library["user_api"] == "blas"]
    named = (
        f"{library['internal_api']} {library['version']} {library.get('architecture')}, {library['num_threads']} thread"
        for library in libraries
    )
    return "; ".join(sorted(set(named)))


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is not as it was, in words."""
    names = sorted(before.keys() | now.keys())
    return [
        f"{name} was {before.get(name) or 'not there'} and is {now.get(name) or 'not there'}"
        for name in names
        if before.get(name) != now.get(name)
    ]
