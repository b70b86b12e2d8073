"""How large a query may be at a model: checked before it is counted, admitted or computed."""

from __future__ import annotations

from lmaas_backends.roberta.stores import MOST_ARRAY_BYTES
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.backend import FeatureQuery, ModelCard, ScoreQuery
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["check_features", "check_score", "check_subspace"]

_BYTES_AN_ENTRY = 4


def check_score(query: ScoreQuery, card: ModelCard) -> None:
    """Refuses more candidates or texts than the card allows, and a subspace that does not fit the model.

    Raises:
        RefusalError: too_large or invalid_query.
    """
    if query.n_candidates > card.max_candidates:
        raise RefusalError(
            "too_large",
            f"a call carries at most {card.max_candidates} candidates, and this one has {query.n_candidates}",
        )
    for subspace in query.subspaces:
        check_subspace(subspace, card)
    check_features(query, card)


def check_features(query: ScoreQuery | FeatureQuery, card: ModelCard) -> None:
    """Refuses more texts than the card allows; a registered set without `rows` is for the engine to check.

    Raises:
        RefusalError: too_large.
    """
    selected = query.rows if query.rows is not None else query.texts
    if isinstance(selected, (tuple, TextSet)) and len(selected) > card.max_texts:
        raise RefusalError(
            "too_large", f"a call carries at most {card.max_texts} texts, and this one has {len(selected)}"
        )


def check_subspace(subspace: Subspace | None, card: ModelCard) -> None:
    """Refuses a prompt of another width than the model's, and a projection that the engine would not hold.

    Raises:
        RefusalError: invalid_query or too_large.
    """
    if subspace is None:
        return
    if subspace.hidden_size != card.hidden_size:
        raise RefusalError(
            "invalid_query", f"subspace.hidden_size is {card.hidden_size} for {card.name}, not {subspace.hidden_size}"
        )
    rows, d = subspace.shape
    if subspace.projection != "identity" and rows * d * _BYTES_AN_ENTRY > MOST_ARRAY_BYTES:
        raise RefusalError(
            "too_large", f"a projection takes at most {MOST_ARRAY_BYTES} bytes of float32, not {rows} x {d} entries"
        )
