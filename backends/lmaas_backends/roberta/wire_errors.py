"""Errors on the wire: one table that both the server and its client read.

An answer that is not 2xx has the body `{"error": {"type", "message", "hint"}}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmaas_backends.roberta.wire_fields import Fields, parse_json
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    InvalidQuery,
    LmaasError,
    PaymentRequired,
    ProtocolError,
    RateLimited,
    Retryable,
    ServerFault,
    TaskError,
    UnknownDataset,
    Unsupported,
    VerbalizerError,
)

__all__ = ["KINDS", "ErrorKind", "RefusalError", "error_from_answer", "refusal_from"]


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A kind of refusal: its name and HTTP status on the wire, and the error a caller sees.

    Args:
        name: The `type` on the wire.
        status: The HTTP status.
        error: The class of `lmaas_sdk.errors` it stands for.
        hint: What to do next, where the one who refuses says nothing better.
    """

    name: str
    status: int
    error: type[LmaasError]
    hint: str


# The first row of a status is the one a client reads an answer as when its body tells nothing.
KINDS = (
    ErrorKind("malformed_body", 400, InvalidQuery, "see docs/http-api.md for the form of each body"),
    ErrorKind("malformed_request", 400, InvalidQuery, "send HTTP/1.1 with well-formed headers of at most 8 KiB each"),
    ErrorKind("authentication_failed", 401, AuthenticationFailed, "send 'Authorization: Bearer KEY' (LMAAS_API_KEY)"),
    ErrorKind("payment_required", 402, PaymentRequired, "ask the server's operator for more balance"),
    ErrorKind("forbidden", 403, AuthenticationFailed, "use the API key that this is for"),
    ErrorKind("not_found", 404, InvalidQuery, "see docs/http-api.md for the paths there are"),
    ErrorKind("unknown_model", 404, InvalidQuery, "GET /v1/models lists the models there are"),
    ErrorKind("unknown_dataset", 404, UnknownDataset, "register it again: a restarted server has forgotten it"),
    ErrorKind("method_not_allowed", 405, InvalidQuery, "see docs/http-api.md for the methods there are"),
    ErrorKind("body_timeout", 408, BackendUnavailable, "send the whole body at once"),
    ErrorKind("too_large", 413, InvalidQuery, "send less in one call"),
    ErrorKind("content_encoding", 415, InvalidQuery, "send the body as it is, without Content-Encoding"),
    ErrorKind("expectation_failed", 417, InvalidQuery, "send 'Expect: 100-continue', or no Expect at all"),
    ErrorKind("invalid_query", 422, InvalidQuery, "correct the query; the same one is refused again"),
    ErrorKind("key_reused", 422, InvalidQuery, "use a new Idempotency-Key for another query"),
    ErrorKind("unsupported", 422, Unsupported, "GET /v1/models tells what the model can do"),
    ErrorKind("verbalizer_error", 422, VerbalizerError, "choose other label words, or another rule for their pieces"),
    ErrorKind("task_error", 422, TaskError, "correct the texts"),
    ErrorKind("rate_limited", 429, RateLimited, "wait as long as Retry-After says"),
    ErrorKind("overloaded", 429, RateLimited, "come again after as long as Retry-After says: there will be room then"),
    ErrorKind("server_fault", 500, ServerFault, "the server's log has the reason"),
    ErrorKind("unavailable", 503, BackendUnavailable, "try again later"),
)
_MOST_MESSAGE = 1000  # characters
_BY_NAME = {kind.name: kind for kind in KINDS}
_BY_ERROR = {kind.error: kind for kind in KINDS} | {
    AuthenticationFailed: _BY_NAME["authentication_failed"],
    InvalidQuery: _BY_NAME["invalid_query"],
    RateLimited: _BY_NAME["rate_limited"],
}


class RefusalError(Exception):
    """A request that the server does not answer with 2xx.

    Args:
        name: A name of `KINDS`.
        message: What was wrong, with the value; cut where it repeats very much of the request.
        hint: What to do next; empty: the kind's own.
        retry_after_s: Seconds to wait, where waiting helps.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        name: str,
        message: str,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message if len(message) <= _MOST_MESSAGE else f"{message[: _MOST_MESSAGE - 3]}...")
        self.kind = _BY_NAME[name]
        self.hint = hint or self.kind.hint
        self.retry_after_s = retry_after_s
        self.headers = headers or {}

    def body(self) -> bytes:
        """The body of the answer: the JSON object that every refusal has."""
        return canonical_json({"error": {"type": self.kind.name, "message": str(self), "hint": self.hint}})


def refusal_from(error: LmaasError) -> RefusalError:
    """The refusal that tells a client of an error raised while its request was served."""
    kind = next((_BY_ERROR[base] for base in type(error).__mro__ if base in _BY_ERROR), _BY_NAME["server_fault"])
    wait_s = error.retry_after_s if isinstance(error, Retryable) else None
    return RefusalError(kind.name, str(error), retry_after_s=wait_s)


def error_from_answer(
    status: int, body: bytes, *, retry_after_s: float | None = None, masked: Callable[[str], str] = str
) -> LmaasError:
    """The error a client raises for an answer that is not 2xx.

    Status and the body's `type` decide together; the status alone where the body is not this API's (a proxy's page).

    Args:
        status, body: Of the answer.
        retry_after_s: Seconds that its Retry-After asks to wait.
        masked: Takes secrets out of a text that came from the server; it sees them decoded, and before they are cut.
    """
    told = _told(body)
    kind = _BY_NAME.get(told[0]) if told else None
    if kind is None or kind.status != status:
        kind = _kind_of_status(status)
    reason = masked(f"{told[1]} ({told[2]})") if told else _untold(body, masked)
    text = f"the server answered {status}{': ' if told else ' '}{reason}"
    if kind is None:
        return ProtocolError(f"{text}: no such answer is part of this API (is the URL right?)")
    if issubclass(kind.error, Retryable):
        return kind.error(text, retry_after_s=retry_after_s)
    return kind.error(text)


def _kind_of_status(status: int) -> ErrorKind | None:
    if status >= 500 and status != 503:
        return _BY_NAME["server_fault"]
    return next((kind for kind in KINDS if kind.status == status), None)


def _untold(body: bytes, masked: Callable[[str], str]) -> str:
    start = masked(body.decode("utf-8", "replace"))[:80]
    return f"with a body that tells no reason: {start!r}"


def _told(body: bytes) -> tuple[str, str, str] | None:
    try:
        error = Fields(Fields(parse_json(body, "the answer"), "the answer").take("error", dict), "error")
        return error.take("type", str), error.take("message", str), error.maybe("hint", str) or "no hint"
    except InvalidQuery:
        return None
