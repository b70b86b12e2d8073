"""`lmaas serve` with an engine that answers at once: what is left is what HTTP and the books cost.

    python -m benchmarks.instant_server

It takes the options of `lmaas serve`; its URL is in the first line it prints.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from benchmarks.stub_server import CARD, LABELS, TEXTS, TOKENS
from lmaas_backends.roberta.server import RobertaServer
from lmaas_backends.roberta.work import Step
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Registration, ScoreQuery, ScoreReply, Usage
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

_STATES, _LENGTHS = np.zeros(1, np.float32), np.ones(1, np.int64)


class InstantLanes:
    """Computes on the spot."""

    count = places = 1

    def submit(self, step: Step) -> Future[None]:
        done: Future[None] = Future()
        step()
        done.set_result(None)
        return done


class InstantWork:
    """A query whose answer is ready, as one unit for each candidate."""

    def __init__(self, query: ScoreQuery | FeatureQuery) -> None:
        self._candidates = query.n_candidates if isinstance(query, ScoreQuery) else 0
        self.units = (TOKENS,) * max(1, self._candidates)

    def flops(self, unit: int) -> int:
        return 0

    def prepare(self, unit: int) -> Step:
        return lambda: None

    def reply(self) -> ScoreReply | FeatureReply:
        if not self._candidates:  # what a server asks by itself, to see whether its engine answers
            return FeatureReply(_STATES[:, None], _LENGTHS, _STATES, _STATES, Usage(TOKENS))
        logits = np.linspace(-1, 1, self._candidates * TEXTS * LABELS, dtype=np.float32)
        return ScoreReply(logits.reshape(self._candidates, TEXTS, LABELS), Usage(sum(self.units)))


class InstantEngine:
    """Has the logits of any query ready."""

    card: ModelCard = CARD
    lanes = InstantLanes()

    def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        return Registration(texts.digest, (TOKENS // TEXTS,) * len(texts))

    def upload(self, array: NDArray[np.float32]) -> str:
        raise Unsupported("arrays: this engine keeps nothing")

    def soft_prompts(self, subspace: Subspace, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        raise Unsupported("soft prompts: this engine has no model")

    def job(self, query: ScoreQuery | FeatureQuery) -> InstantWork:
        return InstantWork(query)


def main() -> int:
    server, parser = RobertaServer(lambda _: (InstantEngine(), b"{}")), argparse.ArgumentParser(description=__doc__)
    server.add_arguments(parser)
    return server.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
