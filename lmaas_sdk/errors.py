"""The one tree of errors.

```
LmaasError
├── BudgetExceeded            a reservation does not fit; nothing was sent
│   └── BudgetTooSmall        not even one generation fits; nothing was sent (also ValueError)
├── QuotaExceeded             the provider's quota would make the call wait too long
├── LedgerError               a ledger file cannot be read or written
│   └── LedgerConflict        a budget of that name has other limits there (also ValueError)
├── JournalError              a run's journal cannot be read, written or gone on with (also ValueError)
│   ├── JournalCorrupt        a line of it was changed, lost or moved, or is no record of a run
│   ├── JournalInUse          another run has it open
│   └── JournalMismatch       it was written under other settings, versions or on another engine
├── MissingExtra              an optional package is not installed (also ImportError)
├── UnknownPrice              no price is known for a model
├── TaskError                 a template, verbalizer or data set is unusable (also ValueError)
│   ├── UnknownTask           no task of that name is in the catalogue
│   ├── EmptyClass            a class has too few examples
│   └── VerbalizerError       a label has no word, or the word is not one token
├── PromptFileError           a prompt file is damaged or belongs to another model (also ValueError)
├── PredictorFileError        a predictor file is damaged or belongs to another model (also ValueError)
├── RunFileError              a run file is damaged, or no run file (also ValueError)
├── ModelLoadError            a model cannot be loaded
│   ├── CorruptModel          its bytes differ from the expected digest
│   └── NoLanguageModelHead   it is not a masked language model
└── BackendError              a backend refused or failed a call
    ├── Unsupported           it lacks a capability
    ├── InvalidQuery          it refused the query as malformed (also ValueError)
    ├── UnknownDataset        the digest names no registered text set or array
    ├── AuthenticationFailed  the API key is missing or wrong
    ├── PaymentRequired       the account's balance is used up
    ├── ServerUntrusted       no TLS with it can be trusted; nothing was sent
    ├── ProtocolError         the answer is not what the API promises
    │   └── NotFinite         it holds NaN or infinity
    ├── RetryBudgetExhausted  too many calls fail for this one to be tried again now
    ├── CircuitOpen           the backend keeps failing, so nothing is sent until a probe is answered
    └── Retryable             trying again may help
        ├── RateLimited       429: refused before any work; counts as no call
        ├── BackendUnavailable  refused, unreachable or draining; provably not charged
        └── OutcomeUnknown    sent, but no answer came: it may have been charged
            ├── AttemptTimeout
            └── ServerFault   a 5xx answer
```

Whether a call may be tried again is a type (`Retryable`), and so is whether it may have been charged
(`OutcomeUnknown`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmaas_sdk.accounting.money import format_usd

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "AttemptTimeout",
    "AuthenticationFailed",
    "BackendError",
    "BackendUnavailable",
    "BudgetExceeded",
    "BudgetTooSmall",
    "CircuitOpen",
    "CorruptModel",
    "EmptyClass",
    "InvalidQuery",
    "JournalCorrupt",
    "JournalError",
    "JournalInUse",
    "JournalMismatch",
    "LedgerConflict",
    "LedgerError",
    "LmaasError",
    "MissingExtra",
    "ModelLoadError",
    "NoLanguageModelHead",
    "NotFinite",
    "OutcomeUnknown",
    "PaymentRequired",
    "PredictorFileError",
    "PromptFileError",
    "ProtocolError",
    "QuotaExceeded",
    "RateLimited",
    "RetryBudgetExhausted",
    "Retryable",
    "RunFileError",
    "ServerFault",
    "ServerUntrusted",
    "TaskError",
    "UnknownDataset",
    "UnknownPrice",
    "UnknownTask",
    "Unsupported",
    "VerbalizerError",
]


class LmaasError(Exception):
    """Root of everything this package raises on purpose."""


class BudgetExceeded(LmaasError):
    """A reservation does not fit into a budget. Nothing was sent.

    Attributes:
        budget: Name of the budget that refused.
        unit: The limit that binds: calls, evaluations, tokens, nanousd or wall_s; or why it is closed: overrun or
            released.
        limit, posted, pending, asked: Amounts in that unit (seconds for wall_s); limit None: no limit, `why` tells.
        why: What else there is to say.
    """

    def __init__(
        self, budget: str, unit: str, *, limit: object, posted: object, pending: object, asked: object, why: str = ""
    ) -> None:
        allowed = "is closed" if limit is None else f"allows {_told(unit, limit)}"
        if limit is not None and unit != "nanousd":
            allowed += f" {unit}"
        taken, held, more = (_told(unit, amount) for amount in (posted, pending, asked))
        reason = f" ({why})" if why else ""
        super().__init__(f"budget {budget!r} {allowed}: {taken} posted, {held} pending, {more} more asked for{reason}")
        self.budget, self.unit = budget, unit
        self.limit, self.posted, self.pending, self.asked = limit, posted, pending, asked


def _told(unit: str, amount: object) -> str:
    """An amount for people: money in dollars."""
    return format_usd(amount) if unit == "nanousd" and isinstance(amount, int) else str(amount)


class BudgetTooSmall(BudgetExceeded, ValueError):
    """The budget cannot pay for a single generation. Nothing was sent."""

    @classmethod
    def of(cls, refusal: BudgetExceeded, why: str) -> BudgetTooSmall:
        """The same refusal where it came before anything was sent."""
        return cls(
            refusal.budget,
            refusal.unit,
            limit=refusal.limit,
            posted=refusal.posted,
            pending=refusal.pending,
            asked=refusal.asked,
            why=why,
        )


class QuotaExceeded(LmaasError):
    """Waiting for the provider's quota would take longer than allowed.

    Attributes:
        wait_s: Seconds until the provider would admit the call.
    """

    def __init__(self, message: str, *, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class LedgerError(LmaasError):
    """A ledger file cannot be opened, read or written; nothing is sent that it does not hold."""


class LedgerConflict(LedgerError, ValueError):
    """A ledger file knows a budget of this name with other limits."""


class JournalError(LmaasError, ValueError):
    """A run's journal cannot be read, written or gone on with."""


class JournalCorrupt(JournalError):
    """A line of a journal was changed, lost or moved, or is no record; a last line that is cut short is neither."""


class JournalInUse(JournalError):
    """Another run has the journal open."""


class JournalMismatch(JournalError):
    """A journal was written under other settings or versions, or on another engine; the message names them."""


class MissingExtra(LmaasError, ImportError):
    """An optional package is needed and not installed; the message names the extra."""


class UnknownPrice(LmaasError):
    """No price is known for a model, so its cost cannot be bounded."""


class TaskError(LmaasError, ValueError):
    """A template, verbalizer, label or data file is unusable."""


class UnknownTask(TaskError):
    """No task of that name is in the catalogue."""


class EmptyClass(TaskError):
    """A class has fewer examples than asked for."""


class VerbalizerError(TaskError):
    """A label has no word, or its word cannot stand for it in this model's vocabulary."""


class PromptFileError(LmaasError, ValueError):
    """A prompt file is damaged, of an unknown format, or made for another model."""


class PredictorFileError(LmaasError, ValueError):
    """A predictor file is damaged, of an unknown format or method, or made for another model."""


class RunFileError(LmaasError, ValueError):
    """A run file cannot be written or read: it is damaged, of an unknown format, or something else."""


class ModelLoadError(LmaasError):
    """A model cannot be loaded."""


class CorruptModel(ModelLoadError):
    """A model file's bytes differ from the digest it was shipped with."""


class NoLanguageModelHead(ModelLoadError):
    """A checkpoint holds no masked-language-model head."""


class BackendError(LmaasError):
    """A backend refused or failed a call."""


class Unsupported(BackendError):
    """A backend lacks a capability; the message names it."""


class InvalidQuery(BackendError, ValueError):
    """A backend refused a query as malformed."""


class UnknownDataset(BackendError):
    """A digest names no text set or array that the backend holds."""


class AuthenticationFailed(BackendError):
    """The API key is missing or wrong."""


class PaymentRequired(BackendError):
    """The account behind the API key has no balance left."""


class ServerUntrusted(BackendError):
    """The server's certificate is not trusted, or it speaks no TLS where https:// was asked for. Nothing was sent."""


class ProtocolError(BackendError):
    """The answer is not what the API promises (wrong shape, NaN, not JSON)."""


class NotFinite(ProtocolError):
    """An answer holds NaN or infinity.

    Attributes:
        logits: The logits as they came, (n_candidates, n_texts, n_labels), of which other candidates may be right; None
            where the answer has none.
    """

    def __init__(self, message: str, *, logits: NDArray[np.float32] | None = None) -> None:
        super().__init__(message)
        self.logits = logits


class RetryBudgetExhausted(BackendError):
    """An attempt failed, and so many others have that it is not tried again now: ask again later.

    Attributes:
        last: The error of the attempt that failed.
    """

    def __init__(self, message: str, *, last: BackendError) -> None:
        super().__init__(message)
        self.last = last


class CircuitOpen(BackendError):
    """The backend keeps failing, so calls fail at once, unsent, until it has answered a probe.

    Attributes:
        retry_after_s: Seconds until the next probe may go out.
        last: The error of the attempt that failed last.
    """

    def __init__(self, message: str, *, retry_after_s: float, last: BackendError | None = None) -> None:
        super().__init__(message)
        self.retry_after_s, self.last = retry_after_s, last


class Retryable(BackendError):
    """The call failed in a way that another attempt may mend.

    Attributes:
        retry_after_s: Seconds the provider asked to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Retryable):
    """429: refused before any work was done; it counts as no call and costs nothing."""


class BackendUnavailable(Retryable):
    """No server took the request (refused, unreachable, draining); provably not charged."""


class OutcomeUnknown(Retryable):
    """The request may have reached the backend and no usable answer came back: it may have been charged."""


class AttemptTimeout(OutcomeUnknown):
    """No answer within the deadline of the attempt."""


class ServerFault(OutcomeUnknown):
    """The server answered with a 5xx status."""
