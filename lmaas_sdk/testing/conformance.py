"""The conformance suite: the rules that every backend keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lmaas_sdk.backend import Backend
from lmaas_sdk.errors import AuthenticationFailed, BackendUnavailable, PaymentRequired, ServerUntrusted
from lmaas_sdk.testing import rules_answers, rules_inputs
from lmaas_sdk.testing.probe import ConformanceError, Probe
from lmaas_sdk.texts import LabelWords

__all__ = ["check_backend"]

Rule = Callable[[Probe], Awaitable[None]]
_NOT_THE_BACKENDS_FAULT = (AuthenticationFailed, BackendUnavailable, PaymentRequired, ServerUntrusted)
RULES: dict[str, Rule] = {
    "card": rules_answers.card,
    "label-logits": rules_answers.label_logits,
    "soft-prompts": rules_answers.soft_prompts,
    "repeatability": rules_answers.repeatability,
    "batching": rules_answers.batching,
    "precise": rules_answers.precise,
    "rows": rules_answers.rows,
    "registration": rules_inputs.registration,
    "usage": rules_answers.usage,
    "same-key": rules_answers.same_key,
    "top-k": rules_answers.top_k,
    "features": rules_answers.features,
    "arrays": rules_inputs.arrays,
    "layers": rules_answers.layers,
    "unsupported": rules_inputs.unsupported,
    "invalid-queries": rules_inputs.invalid_queries,
    "unknown-digests": rules_inputs.unknown_digests,
    "plain-text": rules_inputs.plain_text,
    "empty-text": rules_inputs.empty_text,
    "long-text": rules_inputs.long_text,
    "concurrency": rules_answers.concurrency,
    "closing": rules_inputs.closing,  # last: nothing can be asked afterwards
}


async def check_backend(backend: Backend, *, label_words: LabelWords | None = None, close: bool = False) -> None:
    """Checks that a backend keeps every rule; it stops at the first that is broken.

    The check sends some fifty small calls under keys of its own, and waits out rate limits.

    Args:
        backend: What to check.
        label_words: Two or more words of its vocabulary; None: " bad" and " great", by their first tokens.
        close: Close it in the end, to see that it may be closed twice.

    Raises:
        ConformanceError: Naming the broken rule.
        BackendError: It cannot be reached, or does not accept the account.
    """
    probe = Probe(backend, label_words or LabelWords((" bad", " great"), "first"))
    for name, rule in RULES.items():
        if close or name != "closing":
            probe.rule = name
            await _check(rule, probe)


async def _check(rule: Rule, probe: Probe) -> None:
    try:
        await rule(probe)
    except (ConformanceError, *_NOT_THE_BACKENDS_FAULT):
        raise
    except Exception as error:
        what = (rule.__doc__ or "").strip()
        found = f"{type(error).__name__}: {error}"
        raise ConformanceError(probe.rule, f"{what} The backend raised {found}") from error
