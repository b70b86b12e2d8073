"""What the exit code of every command says."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lmaas_sdk.errors import BackendError, LmaasError, MissingExtra, ModelLoadError, QuotaExceeded, Unsupported
from lmaas_sdk.tuning.group_result import GroupResult
from lmaas_sdk.tuning.result import TuningResult

__all__ = [
    "BUDGET_ENDED",
    "DONE",
    "EXIT_CODES_HELP",
    "INTERRUPTED",
    "READER_LEFT",
    "UNAVAILABLE",
    "USAGE",
    "exit_code_of",
    "exit_code_of_group",
    "exit_code_of_part",
    "exit_code_of_parts",
    "exit_code_of_run",
]

DONE, USAGE, BUDGET_ENDED, UNAVAILABLE, INTERRUPTED, READER_LEFT = 0, 2, 3, 4, 130, 141
EXIT_CODES_HELP = (
    "Exit codes: 0 done (a run: its target or a plateau was reached); 1 `ledger verify` found something wrong; "
    "2 the command, its data or its budget cannot be used as given; "
    "3 the budget or a quota ended the run (its result is written); 4 the backend is unavailable, or failed later on "
    "(then the result so far is written); 130 interrupted (likewise, unless interrupted twice); 141 whoever read its "
    "output left before all was told."
)


def exit_code_of(error: Exception) -> int | None:
    """The exit code of an error that a user can do something about; None: it is a fault of this program."""
    if isinstance(error, QuotaExceeded) and math.isinf(error.wait_s):
        return USAGE  # no wait would let the call through
    if isinstance(error, (MissingExtra, ModelLoadError, QuotaExceeded)):
        return UNAVAILABLE
    if isinstance(error, BackendError) and not isinstance(error, ValueError):
        return UNAVAILABLE
    return USAGE if isinstance(error, (LmaasError, ValueError, OSError)) else None


def exit_code_of_run(result: TuningResult) -> int:
    """The exit code of a run that has a result."""
    if result.stopped == "interrupted":
        return INTERRUPTED if result.failure is None else UNAVAILABLE
    return BUDGET_ENDED if result.stopped in ("budget", "quota") else DONE


def exit_code_of_group(result: GroupResult) -> int:
    """That of the first failure, if there is one; else of the run that ended worst.

    Raises:
        Exception: A run has failed by a fault of this program, which ends the command as it would end a single run's.
    """
    codes = []
    for error in result.failures.values():
        if (code := exit_code_of(error)) is None:
            raise error
        codes.append(code)
    return codes[0] if codes else max(map(exit_code_of_run, result.values()))


def exit_code_of_part(error: Exception) -> int | None:
    """That of one of many measurements: a backend that cannot do what one asks is not unavailable to the others."""
    return USAGE if isinstance(error, Unsupported) else exit_code_of(error)


def exit_code_of_parts(codes: Iterable[int]) -> int:
    """That of many measurements, not all of which are done: of what failed first of all, else time or budget ended."""
    found = set(codes)
    return next((code for code in (UNAVAILABLE, USAGE) if code in found), BUDGET_ENDED)
