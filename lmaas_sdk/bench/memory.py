"""The most memory that a process has had resident, as its operating system tells it."""

from __future__ import annotations

import importlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PeakMemory", "peak_of_process", "peak_of_this_process"]


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """The most that was resident so far, pages of files (libraries, mapped weights) included.

    Args:
        size_bytes: None: the system does not tell.
        source: Where the figure is from, or why there is none.
    """

    size_bytes: int | None
    source: str


def peak_of_this_process() -> PeakMemory:
    """Of the process that asks.

    On Linux from VmHWM, not from `getrusage`: there `ru_maxrss` of a process also counts what its parent had resident
    when it was started.
    """
    if Path("/proc/self/status").exists():
        return _high_water("self")
    if os.name == "nt":
        return _windows_peak(os.getpid())
    import resource  # noqa: PLC0415  (Windows has none)

    unit = 1 if sys.platform == "darwin" else 1024  # macOS tells bytes, others KiB
    return PeakMemory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "ru_maxrss of getrusage")


def peak_of_process(pid: int) -> PeakMemory:
    """Of another process, which is still there."""
    if Path("/proc/self/status").exists():
        return _high_water(str(pid))
    if os.name == "nt":
        return _windows_peak(pid)
    return PeakMemory(None, f"{sys.platform} tells no other process's peak: measure on Linux or Windows")


def _high_water(process: str) -> PeakMemory:
    try:
        status = Path(f"/proc/{process}/status").read_text("ascii", "replace")
    except OSError as error:
        return PeakMemory(None, f"process {process} has ended, or is another user's: {error}")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        return PeakMemory(None, f"/proc/{process}/status has no VmHWM: the process has ended, or this is no Linux")
    return PeakMemory(int(found[1]) * 1024, "VmHWM of /proc/PID/status")


def _windows_peak(pid: int) -> PeakMemory:
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return PeakMemory(None, "psutil is not installed, and without it Windows is not asked: pip install psutil")
    return PeakMemory(int(psutil.Process(pid).memory_info().peak_wset), "peak_wset of psutil")
