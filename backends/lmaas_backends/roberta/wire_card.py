"""Model cards as JSON, both ways."""

from __future__ import annotations

from dataclasses import asdict

from lmaas_backends.roberta.wire_fields import Fields
from lmaas_sdk.backend import Capabilities, Limits, ModelCard, Price

__all__ = ["card_fields", "read_card"]

_SWITCHES = ("arrays", "features", "top_k", "idempotent", "deterministic", "layers")
_LIMITS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency")


def card_fields(card: ModelCard) -> dict[str, object]:
    """A card as GET /v1/models lists it."""
    return asdict(card)


def read_card(value: object) -> ModelCard:
    """Reads what `card_fields` wrote; fields of a newer server are passed over.

    Raises:
        InvalidQuery: Not a model card.
    """
    fields = Fields(value, "the model card")
    price = fields.maybe("price", dict)
    return ModelCard(
        **{name: fields.take(name, str) for name in ("name", "mask", "tokenizer_digest", "fingerprint")},  # type: ignore[arg-type]
        **{name: fields.take(name, int) for name in _sizes()},  # type: ignore[arg-type]
        embedding_std=fields.take("embedding_std", float),
        capabilities=_read_capabilities(Fields(fields.take("capabilities", dict), "capabilities")),
        price=None if price is None else _read_price(Fields(price, "price")),
        limits=_read_limits(Fields(fields.take("limits", dict), "limits")),
    )


def _sizes() -> tuple[str, ...]:
    return ("hidden_size", "vocab_size", "max_tokens", "max_candidates", "max_texts")


def _read_capabilities(fields: Fields) -> Capabilities:
    layouts, projections = fields.list_of("layouts", str), fields.list_of("projections", str)
    return Capabilities(layouts, projections, **{name: fields.take(name, bool) for name in _SWITCHES})


def _read_limits(fields: Fields) -> Limits:
    return Limits(day_time_zone=fields.maybe("day_time_zone", str), **{n: fields.maybe(n, int) for n in _LIMITS})


def _read_price(fields: Fields) -> Price:
    return Price(
        fields.take("input_nanousd_per_mtok", int),
        fields.take("output_nanousd_per_mtok", int),
        fields.maybe("cached_nanousd_per_mtok", int),
        fields.take("call_nanousd", int),
        fields.take("effective", str),
        fields.take("source", str),
    )
