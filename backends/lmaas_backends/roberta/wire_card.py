"""Model cards as JSON, both ways."""

from __future__ import annotations

from dataclasses import asdict
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lmaas_backends.roberta.wire_fields import Fields, shown
from lmaas_sdk.backend import Capabilities, Limits, ModelCard, Price
from lmaas_sdk.errors import InvalidQuery

__all__ = ["card_fields", "checked_zone", "read_card"]

_SWITCHES = ("arrays", "features", "top_k", "idempotent", "deterministic", "layers")
_LIMITS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency")
_BATCH_PRICES = ("batch_input_nanousd_per_mtok", "batch_output_nanousd_per_mtok")
_SIZES = ("hidden_size", "vocab_size", "max_tokens", "max_candidates", "max_texts")
_MOST_LIMIT = 2**53  # beyond it JSON's readers round
_MOST_NANOUSD = 10**15  # a million dollars: with it no call's cost leaves the 64 bits that a ledger has


def card_fields(card: ModelCard) -> dict[str, object]:
    """A card as GET /v1/models lists it: of one server, however many a client knows."""
    told = {name: value for name, value in asdict(card).items() if name != "replicas"}
    return told | {"endpoint_limits": {name: asdict(limits) for name, limits in card.endpoint_limits}}


def read_card(value: object) -> ModelCard:
    """Reads what `card_fields` wrote; fields of a newer server are passed over.

    Raises:
        InvalidQuery: Not a model card, or one whose sizes, price or limits no model can have.
    """
    fields = Fields(value, "the model card")
    price = fields.maybe("price", dict)
    return ModelCard(
        name=_read_name(fields),
        **{name: fields.take(name, str) for name in ("mask", "tokenizer_digest", "fingerprint")},  # type: ignore[arg-type]
        **{name: fields.whole(name, least=1) for name in _SIZES},  # type: ignore[arg-type]
        embedding_std=_read_deviation(fields),
        capabilities=_read_capabilities(Fields(fields.take("capabilities", dict), "capabilities")),
        price=None if price is None else _read_price(Fields(price, "price")),
        limits=_read_limits(Fields(fields.take("limits", dict), "limits")),
        endpoint_limits=_read_endpoint_limits(fields),
    )


def checked_zone(name: str) -> str:
    """The name of a time zone that this machine knows, such as Europe/Rome.

    Raises:
        InvalidQuery: It knows none of that name.
    """
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidQuery(
            f"a time zone is a name such as Europe/Rome that is known here, not {shown(name)}"
        ) from error


def _read_name(fields: Fields) -> str:
    name = fields.take("name", str)
    if not name or not name.isprintable():
        raise InvalidQuery(f"a model's name has printable characters only, unlike {shown(name)}")
    return name


def _read_deviation(fields: Fields) -> float:
    deviation = fields.take("embedding_std", float)
    if deviation <= 0:
        raise InvalidQuery(f"embedding_std is a positive number, not {deviation!r}")
    return deviation


def _read_capabilities(fields: Fields) -> Capabilities:
    layouts, projections = fields.list_of("layouts", str), fields.list_of("projections", str)
    switches = {name: fields.take(name, bool) for name in _SWITCHES}
    return Capabilities(layouts, projections, **switches, precise=fields.flag("precise"))


def _read_limits(fields: Fields) -> Limits:
    zone = fields.maybe("day_time_zone", str)
    numbers = {name: fields.maybe_whole(name, least=1, most=_MOST_LIMIT) for name in _LIMITS}
    return Limits(day_time_zone=None if zone is None else checked_zone(zone), **numbers)


def _read_endpoint_limits(fields: Fields) -> tuple[tuple[str, Limits], ...]:
    """Null or nothing, where no endpoint has quotas of its own."""
    rows: dict[str, object] = fields.maybe("endpoint_limits", dict) or {}
    return tuple((name, _read_limits(Fields(rows[name], f"endpoint_limits.{shown(name)}"))) for name in sorted(rows))


def _read_price(fields: Fields) -> Price:
    amounts = (
        fields.whole("input_nanousd_per_mtok", least=0, most=_MOST_NANOUSD),
        fields.whole("output_nanousd_per_mtok", least=0, most=_MOST_NANOUSD),
        fields.maybe_whole("cached_nanousd_per_mtok", least=0, most=_MOST_NANOUSD),
        fields.whole("call_nanousd", least=0, most=_MOST_NANOUSD),
    )
    batch = [fields.maybe_whole(name, least=0, most=_MOST_NANOUSD) for name in _BATCH_PRICES]
    try:
        return Price(*amounts, fields.take("effective", str), fields.take("source", str), *batch)
    except ValueError as error:
        raise InvalidQuery(str(error)) from error
