"""For those who test against this package: conformance of backends and searches, faults to order, virtual time."""

from __future__ import annotations

from lmaas_sdk.testing.conformance import check_backend
from lmaas_sdk.testing.fault_injecting import FaultInjectingBackend
from lmaas_sdk.testing.faults import Attempt, Fault, FaultKind, Faults
from lmaas_sdk.testing.optimizers import check_optimizer
from lmaas_sdk.testing.probe import ConformanceError
from lmaas_sdk.testing.virtual_loop import VirtualDeadlock, VirtualLoop, run_virtual

__all__ = [
    "Attempt",
    "ConformanceError",
    "Fault",
    "FaultInjectingBackend",
    "FaultKind",
    "Faults",
    "VirtualDeadlock",
    "VirtualLoop",
    "check_backend",
    "check_optimizer",
    "run_virtual",
]
