"""What the exit code of every command says."""

from __future__ import annotations

from lmaas_sdk.errors import BackendError, BudgetExceeded, LmaasError, ModelLoadError, QuotaExceeded

__all__ = ["BUDGET_ENDED", "DONE", "EXIT_CODES_HELP", "UNAVAILABLE", "USAGE", "exit_code_of"]

DONE, USAGE, BUDGET_ENDED, UNAVAILABLE = 0, 2, 3, 4
EXIT_CODES_HELP = (
    "Exit codes: 0 done; 2 the command, its data or its budget cannot be used as given; "
    "3 the budget or a quota ended the run (a result is still written); 4 the backend is unavailable."
)


def exit_code_of(error: Exception) -> int | None:
    """The exit code of an error that a user can do something about; None: it is a fault of this program."""
    if isinstance(error, ValueError) or (isinstance(error, LmaasError) and not isinstance(error, BackendError)):
        ended = isinstance(error, (BudgetExceeded, QuotaExceeded)) and not isinstance(error, ValueError)
        if isinstance(error, ModelLoadError):
            return UNAVAILABLE
        return BUDGET_ENDED if ended else USAGE
    return UNAVAILABLE if isinstance(error, (BackendError, OSError)) else None
