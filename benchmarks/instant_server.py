"""`lmaas serve` with an engine that answers at once: what is left is what HTTP and the books cost.

    python -m benchmarks.instant_server

It takes the options of `lmaas serve`; its URL is in the first line it prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.stub_server import CARD, LABELS, TEXTS, TOKENS
from lmaas_backends.roberta.server import RobertaServer
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Registration, ScoreQuery, ScoreReply, Usage
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace


class InstantEngine:
    """Has the logits of any query ready."""

    card: ModelCard = CARD

    def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        return Registration(texts.digest, (TOKENS // TEXTS,) * len(texts))

    def upload(self, array: NDArray[np.float32]) -> str:
        raise Unsupported("arrays: this engine keeps nothing")

    def count(self, query: ScoreQuery | FeatureQuery) -> int:
        return TOKENS * (query.n_candidates if isinstance(query, ScoreQuery) else 1)

    def score(self, query: ScoreQuery, cancelled: Callable[[], bool] = lambda: False) -> ScoreReply:
        logits = np.linspace(-1, 1, query.n_candidates * TEXTS * LABELS, dtype=np.float32)
        return ScoreReply(logits.reshape(query.n_candidates, TEXTS, LABELS), Usage(self.count(query)))

    def features(self, query: FeatureQuery) -> FeatureReply:
        raise Unsupported("features: this engine has none")


def main() -> int:
    server, parser = RobertaServer(lambda _: (InstantEngine(), b"{}")), argparse.ArgumentParser(description=__doc__)
    server.add_arguments(parser)
    return server.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
