"""From the mock's options to its model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from lmaas_backends.mock.admission import check_limits
from lmaas_backends.mock.checks import check_amount, check_count
from lmaas_backends.mock.landscapes import Landscape
from lmaas_backends.mock.model import TOP_WORDS
from lmaas_backends.mock.precision import Precision
from lmaas_sdk.backend import Capabilities, ModelCard
from lmaas_sdk.canonical import digest
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS

if TYPE_CHECKING:
    from lmaas_backends.mock.backend import MockBackend

__all__ = ["card_of", "check_options"]

_MOST_DIRECTIONS = 128  # with _MOST_TOKENS, what keeps the landscape's sums exact
_MOST_TOKENS = 4096


def check_options(options: MockBackend) -> None:
    """Refuses options that make no sense.

    Raises:
        ValueError: The message names the option.
    """
    for name in ("hidden_size", "max_candidates", "max_texts"):
        check_count(name, getattr(options, name))
    check_count("max_tokens", options.max_tokens, most=_MOST_TOKENS)
    check_count("effective_dim", options.effective_dim, most=_MOST_DIRECTIONS)
    for name in ("ruggedness", "noise"):
        check_amount(name, getattr(options, name))
    if options.precision not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(get_args(Precision))}, not {options.precision!r}")
    if not (callable(options.latency_s) or hasattr(options.latency_s, "draw_s")):
        check_amount("latency_s", options.latency_s)
    if options.balance_nanousd is not None and options.balance_nanousd < 0:
        raise ValueError(f"balance_nanousd is at least 0, or None for no end, not {options.balance_nanousd!r}")
    if options.opened is not None and options.opened.tzinfo is None:
        raise ValueError(f"opened has a time zone, unlike {options.opened!r}")
    if options.noise > 0 and options.capabilities is not None and options.capabilities.deterministic:
        raise ValueError(f"noise {options.noise} makes no deterministic backend: leave that capability out")
    _check_landscape(options)
    check_limits(options.limits)


def _check_landscape(options: MockBackend) -> None:
    check_amount("embedding_std", options.embedding_std)
    landscape: object = options.landscape
    if landscape is not None and not isinstance(landscape, Landscape):
        raise TypeError(f"landscape has check, logits and a fingerprint, unlike {landscape!r:.80}")
    if landscape is not None and options.capabilities is not None and options.capabilities.top_k:
        raise ValueError("a landscape answers with label logits alone: leave the capability top_k out")


def card_of(options: MockBackend) -> ModelCard:
    """The card that advertises these options."""
    everything = Capabilities(
        projections=NAMED_PROJECTIONS,
        arrays=True,
        features=True,
        top_k=options.landscape is None,
        idempotent=True,
        deterministic=options.noise == 0,
        layers=True,
        precise=options.precision != "float32",
    )
    engine: list[object] = [options.effective_dim, options.seed, float(options.ruggedness), float(options.noise)]
    if options.precision != "float32":
        engine.append(options.precision)
    if options.landscape is not None:
        engine.append(options.landscape.fingerprint)
    return ModelCard(
        name=options.name,
        hidden_size=options.hidden_size,
        vocab_size=len(TOP_WORDS),
        max_tokens=options.max_tokens,
        mask="<mask>",
        capabilities=options.capabilities or everything,
        price=options.price,
        max_candidates=options.max_candidates,
        max_texts=options.max_texts,
        limits=options.limits,
        embedding_std=options.embedding_std,
        tokenizer_digest=digest("mock/words/1"),
        fingerprint=f"mock/1/{digest(engine)[:16]}",
    )
