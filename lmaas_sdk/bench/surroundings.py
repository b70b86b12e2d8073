"""What a figure was measured on: the machine, the packages, the engine, and how much time the processors took."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from pathlib import Path

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.tuning.versions import versions_of

__all__ = ["cpu_seconds", "environment_of"]

_OTHERS = ("torch", "cma", "lmaas-sdk")


def environment_of(card: ModelCard, *, jobs: int) -> dict[str, object]:
    """Packages, engine, machine and how many cells were measured at once; reads files."""
    others = {name: importlib.metadata.version(name) for name in _OTHERS if importlib.util.find_spec(_module(name))}
    return {
        "versions": {**others, **versions_of(card)},
        "fingerprint": card.fingerprint,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "jobs": jobs,
    }


def _module(package: str) -> str:
    return package.replace("-", "_")


def cpu_seconds() -> float:
    """Seconds that processors have worked for this process and, where Linux tells, for those it has started."""
    return time.process_time() + sum(_of_process(child) for child in _descendants(os.getpid()))


def _descendants(process: int) -> list[int]:
    found: list[int] = []
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
        for thread in threads:
            for child in map(int, (thread / "children").read_text("ascii").split()):
                found += [child, *_descendants(child)]
    except OSError:  # not Linux, or it has ended meanwhile
        pass
    return found


def _of_process(process: int) -> float:
    """User and system time, fields 14 and 15 of proc(5)."""
    try:
        content = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0.0
    fields = content.rpartition(")")[2].split()  # the name before it may hold anything
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
