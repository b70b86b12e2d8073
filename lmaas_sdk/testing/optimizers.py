"""The conformance suite of searches: the rules that every optimiser keeps."""

from __future__ import annotations

from collections.abc import Callable

from lmaas_sdk.testing import rules_searches
from lmaas_sdk.testing.probe import ConformanceError
from lmaas_sdk.testing.search_probe import MakeOptimizer, SearchProbe

__all__ = ["check_optimizer"]

Rule = Callable[[SearchProbe], None]
RULES: dict[str, Rule] = {
    "batch": rules_searches.batch,
    "partial": rules_searches.partial,  # first of all, as the others leave values out too
    "seeds": rules_searches.seeds,
    "arguments": rules_searches.arguments,
    "replay": rules_searches.replay,
    "reading": rules_searches.reading,
    "global-generators": rules_searches.global_generators,
    "interleaving": rules_searches.interleaving,
    "threads": rules_searches.threads,
    "order": rules_searches.order,
    "refusals": rules_searches.refusals,
    "telling-twice": rules_searches.telling_twice,
    "over-asking": rules_searches.over_asking,
    "flat-values": rules_searches.flat_values,
}


def check_optimizer(factory: MakeOptimizer, *, generations: int = 8) -> None:
    """Checks that an optimiser keeps every rule of `Optimizer`; it stops at the first that is broken.

    It makes some fifty of them, and evaluates a quadratic function with ripples, which costs nothing.

    Args:
        factory: Makes a fresh one of a seed; 0 is a seed too.
        generations: How long the searches are that are compared, at least 3. More finds what comes late, a restart say.

    Raises:
        ConformanceError: Naming the broken rule.
        ValueError: `generations` is below 3.
    """
    probe = SearchProbe(factory, generations)
    for name, rule in RULES.items():
        probe.rule = name
        _check(rule, probe)


def _check(rule: Rule, probe: SearchProbe) -> None:
    try:
        rule(probe)
    except ConformanceError:
        raise
    except Exception as error:
        what = (rule.__doc__ or "").strip()
        found = f"{type(error).__name__}: {error}"
        raise ConformanceError(probe.rule, f"{what} The optimiser raised {found}") from error
