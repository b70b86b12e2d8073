"""How every benchmark tells its figures: printed as JSON with what they depend on, and kept in a file if asked for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["environment", "tell"]

_PACKAGES = ("aiohttp", "numpy", "openai", "tenacity")


def environment() -> dict[str, object]:
    """What the figures depend on; the load average says how busy the machine was with other things."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES if importlib.util.find_spec(name)}
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        **versions,
    }


def tell(found: Mapping[str, object], module: str, path: Path | None) -> None:
    """Prints the figures and, if a path is given, keeps them there.

    Args:
        found: The figures.
        module: What measured them, with the arguments of this process.
        path: Of a JSON file.
    """
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    text = json.dumps({"command": command, **found, "environment": environment()}, indent=2)
    print(text)
    if path is not None:
        path.write_text(text + "\n", "utf-8")
