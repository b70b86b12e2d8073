"""Peak memory as the operating system tells it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lmaas_sdk.bench.memory import peak_of_process, peak_of_this_process

LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
MIB = 1 << 20
HOLDS = f"""
import sys
held = bytearray({{}} * {MIB})
held[::4096] = b"x" * len(held[::4096])
del held
print("held", flush=True)
sys.stdin.read()
"""


@LINUX
def test_the_peak_stays_when_memory_is_given_back() -> None:
    """What was held once is in the figure, and nothing is taken off it afterwards."""
    held = np.ones(64 * MIB, np.uint8)
    during = peak_of_this_process().size_bytes
    del held
    after = peak_of_this_process()

    assert during is not None
    assert after.size_bytes is not None
    assert during >= 64 * MIB
    assert after.size_bytes >= during - MIB  # the kernel counts pages in batches
    assert after.source == "VmHWM of /proc/PID/status"


@LINUX
def test_another_process_has_its_own_peak() -> None:
    """Of two that differ in what they held for a while only, one's peak is that much above the other's."""
    peaks = [held_by_a_child(mib) for mib in (1, 65)]
    assert 63 * MIB <= peaks[1] - peaks[0] <= 67 * MIB


def held_by_a_child(mib: int) -> int:
    """The peak of a process that has held so much and holds it no more."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDS.format(mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = peak_of_process(child.pid).size_bytes
        child.communicate()
    assert found is not None
    return found


@LINUX
def test_a_process_is_not_charged_for_its_parent() -> None:
    """`ru_maxrss` would count what the parent held when it started the child; this figure does not."""
    held = np.ones(256 * MIB, np.uint8)
    child = "from lmaas_sdk.bench.memory import peak_of_this_process as peak; print(peak().size_bytes)"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert int(done.stdout) < len(held)


@LINUX
def test_a_process_that_has_ended_has_no_figure() -> None:
    """The reason is told instead."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        pass
    found = peak_of_process(child.pid)
    assert found.size_bytes is None
    assert f"process {child.pid} has ended" in found.source
