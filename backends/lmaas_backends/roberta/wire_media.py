"""Which form of an answer a request asks for, by its Accept header."""

from __future__ import annotations

from lmaas_backends.roberta.protocol import JSON, TENSORS

__all__ = ["asked_form"]


def asked_form(accept: str, own_form: str) -> str:
    """The form of the answer: the one that Accept weighs most, the request's own where it weighs both alike.

    A form that no media range names has weight 0 (RFC 9110, section 12.5.1). Where that leaves neither, the answer has
    the request's own form all the same: a client that speaks this API reads both.

    Args:
        accept: The header's value, such as "application/json;q=0.5, */*;q=0.1"; empty: anything.
        own_form: `JSON` or `TENSORS`, the form of the request.
    """
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    other_form = JSON if own_form == TENSORS else TENSORS
    return other_form if _weight(other_form, ranges) > _weight(own_form, ranges) else own_form


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    weights = [value.strip() for key, _, value in (word.partition("=") for word in parameters) if key.strip() == "q"]
    return name, _quality(weights[0]) if weights else 1.0


def _quality(text: str) -> float:
    """A weight from 0 to 1; what is none is 0, as a range that cannot be understood asks for nothing."""
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()):
        return 0.0
    return min(1.0, float(text))


def _weight(form: str, ranges: list[tuple[str, float]]) -> float:
    """The weight of the most exact range that a form is in."""
    for name in (form, f"{form.partition('/')[0]}/*", "*/*"):
        weights = [weight for found, weight in ranges if found == name]
        if weights:
            return max(weights)
    return 0.0
