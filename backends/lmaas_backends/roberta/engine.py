"""The evaluation engine: texts in, label logits out, the same bits whichever other candidates are in a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lmaas_backends.roberta.answer import Answer, LabelAnswer, TopAnswer, Words
from lmaas_backends.roberta.chunks import ChunkCache
from lmaas_backends.roberta.feature_states import feature_states
from lmaas_backends.roberta.forward import Chunk, Forward
from lmaas_backends.roberta.model import LoadedModel
from lmaas_backends.roberta.soft_prompt import SoftPrompts
from lmaas_backends.roberta.text_encoder import PLAIN, EncodedText, Frame, TextEncoder
from lmaas_backends.roberta.text_store import TextStore
from lmaas_sdk.backend import (
    Capabilities,
    FeatureQuery,
    FeatureReply,
    ModelCard,
    Registration,
    ScoreQuery,
    ScoreReply,
    Usage,
)
from lmaas_sdk.errors import InvalidQuery, Unsupported
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Engine"]


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class _Work:
    """A checked query: the texts it asks for, encoded, and what names them."""

    texts: TextSet
    encoded: tuple[EncodedText, ...]
    frame: Frame
    key: object

    @property
    def positions(self) -> int:
        return sum(text.positions for text in self.encoded)


class Engine:
    """Computes with one model. Synchronous, and for one thread at a time.

    On a CPU the bits of a candidate's logits are fixed by (text set, rows): neither the other candidates of a call nor
    earlier calls matter. Another choice of rows may change a text's last bits (about 5e-6), as `chunks` explains.

    Args:
        model: The model.
        max_candidates, max_texts: Most candidates and most texts a call may carry; the card says so.
    """

    def __init__(self, model: LoadedModel, *, max_candidates: int = 64, max_texts: int = 1024) -> None:
        self.model = model
        self.card = _card(model, max_candidates, max_texts)
        self._forward = Forward(model.weights, model.heads, model.epsilon, model.first_position)
        self._texts = TextStore(TextEncoder(model.vocabulary, model.max_tokens))
        self._prompts = SoftPrompts(self._forward, model.vocabulary)
        self._chunks = ChunkCache(self._forward)

    def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Takes in a text set; counts its tokens as `subspace`'s prompt would have them billed.

        Raises:
            InvalidQuery: The set is empty, a text cannot be encoded, or one to be scored has not exactly one mask.
            VerbalizerError: A label word does not fit the model.
            Unsupported: The subspace needs what this engine lacks.
        """
        frame = self._frame(subspace)
        held = self._texts.add(texts)
        encoded = self._texts.encoded(held, frame)
        if held.label_words is not None:
            _check_masks(encoded)
        shortened = sum(text.shortened for text in encoded)
        return Registration(held.digest, tuple(text.positions for text in encoded), shortened)

    def upload(self, array: NDArray[np.float32]) -> str:
        """Keeps an array and returns its digest.

        Raises:
            InvalidQuery: It is not a finite float32 array with two axes.
        """
        return self._prompts.upload(array)

    def count(self, query: ScoreQuery | FeatureQuery) -> int:
        """Input tokens that the query will be billed, without computing it; raises what computing it would refuse."""
        if isinstance(query, FeatureQuery):
            return self._feature_work(query).positions
        work = self._score_work(query)
        self._answer(query, work)
        return work.positions * query.n_candidates

    def score(self, query: ScoreQuery, cancelled: Callable[[], bool] = _never) -> ScoreReply:
        """Scores every candidate on every text; `cancelled` is asked before each candidate.

        Raises:
            CancelledError: `cancelled` said so.
            InvalidQuery, UnknownDataset, Unsupported, VerbalizerError: The query is refused; the message says why.
                That numbers overflow float32 shows only here, not in `count`.
        """
        work = self._score_work(query)
        answer = self._answer(query, work)
        logits = np.empty((query.n_candidates, len(work.encoded), answer.width), dtype=np.float32)
        words = []
        for candidate in range(query.n_candidates):
            if cancelled():
                raise CancelledError(f"cancelled after {candidate} of {query.n_candidates} candidates")
            words.append(self._score_candidate(query, candidate, work=work, answer=answer, out=logits[candidate]))
            _check_logits(logits[candidate], query, candidate)
        usage = Usage(input_tokens=work.positions * query.n_candidates)
        return ScoreReply(logits, usage, tuple(words) if query.top_k is not None else None)

    def features(self, query: FeatureQuery) -> FeatureReply:
        """Hidden states of texts, without a soft prompt.

        Raises:
            InvalidQuery, UnknownDataset: The query is refused; the message says why.
        """
        work = self._feature_work(query)
        lengths = np.array([text.positions for text in work.encoded], dtype=np.int64)
        with torch.inference_mode():
            reply = feature_states(self._forward, self._work_chunks(work), lengths, query.pool)
        if not (np.isfinite(reply.features).all() and np.isfinite(reply.layer_mean).all()):
            raise InvalidQuery(f"hidden states of these texts overflow float32 in model {self.card.name!r}")
        return reply

    def _score_candidate(
        self, query: ScoreQuery, candidate: int, *, work: _Work, answer: Answer, out: NDArray[np.float32]
    ) -> Words:
        words: list[tuple[str, ...]] = [()] * len(work.encoded)
        with torch.inference_mode():
            prompt = None
            if query.subspace is not None and query.Z is not None:
                prompt = self._prompts.vectors(query.subspace, query.Z[candidate])
            for chunk in self._work_chunks(work):
                logits, spelled = answer.read(self._forward.states_at_mask(chunk, prompt))
                out[chunk.rows.numpy()] = logits.cpu().numpy()
                for row, row_words in zip(chunk.rows.tolist(), spelled or (), strict=False):
                    words[row] = row_words
        return tuple(words)

    def _work_chunks(self, work: _Work) -> Iterator[Chunk]:
        return self._chunks.chunks(work.key, work.encoded, work.frame)

    def _score_work(self, query: ScoreQuery) -> _Work:
        if query.n_candidates > self.card.max_candidates:
            raise InvalidQuery(f"{query.n_candidates} candidates in a call, above {self.card.max_candidates}: split it")
        frame = self._frame(query.subspace)
        if query.subspace is not None:
            self._prompts.check(query.subspace)
        work = self._work(query.texts, query.rows, frame)
        _check_masks(work.encoded)
        return work

    def _feature_work(self, query: FeatureQuery) -> _Work:
        if query.pool not in {"first", "tokens"}:
            raise InvalidQuery(f"pool is 'first' or 'tokens', not {query.pool!r}")
        return self._work(query.texts, query.rows, PLAIN)

    def _work(self, texts: TextSet | str, rows: tuple[int, ...] | None, frame: Frame) -> _Work:
        held = self._texts.find(texts)
        _check_rows(rows, len(held))
        encoded = self._texts.encoded(held, frame)
        chosen = encoded if rows is None else tuple(encoded[row] for row in rows)
        if len(chosen) > self.card.max_texts:
            raise InvalidQuery(f"{len(chosen)} texts in a call, above {self.card.max_texts}: split it by rows")
        return _Work(held, chosen, frame, (held.digest, frame, rows))

    def _frame(self, subspace: Subspace | None) -> Frame:
        if subspace is None:
            return PLAIN
        if subspace.layers != (0,):
            raise Unsupported(f"layers: prompts enter layer 0 only here, not layers {subspace.layers}")
        if subspace.hidden_size != self.card.hidden_size:
            raise InvalidQuery(
                f"the subspace has hidden_size {subspace.hidden_size}, "
                f"but model {self.card.name!r} has {self.card.hidden_size}"
            )
        return Frame.of(subspace)

    def _answer(self, query: ScoreQuery, work: _Work) -> Answer:
        if query.top_k is not None:
            if query.top_k > self.card.vocab_size:
                raise InvalidQuery(f"top_k = {query.top_k}, but the vocabulary has {self.card.vocab_size} words")
            return TopAnswer(self._forward, self.model.vocabulary, query.top_k)
        label_ids = self._texts.label_ids(work.texts)
        if label_ids is None:
            raise InvalidQuery("the text set has no label words: register it with label words, or ask for top_k")
        return LabelAnswer(self._forward, label_ids)


def _card(model: LoadedModel, max_candidates: int, max_texts: int) -> ModelCard:
    return ModelCard(
        name=model.name,
        hidden_size=model.weights.words.shape[1],
        vocab_size=model.vocabulary.size,
        max_tokens=model.max_tokens,
        mask=model.vocabulary.mask,
        capabilities=Capabilities(arrays=True, features=True, top_k=True, deterministic=True),
        max_candidates=max_candidates,
        max_texts=max_texts,
        tokenizer_digest=model.tokenizer_digest,
        fingerprint=model.fingerprint,
        embedding_std=model.embedding_std,
    )


def _check_rows(rows: tuple[int, ...] | None, n_texts: int) -> None:
    if rows is None:
        return
    if not rows:
        raise InvalidQuery("rows is empty: name at least one row, or leave it out for all")
    wrong = [row for row in rows if not 0 <= row < n_texts]
    if wrong:
        raise InvalidQuery(f"rows are whole numbers from 0 to {n_texts - 1}, not {wrong[:5]}")
    twice = [row for row, count in Counter(rows).items() if count > 1]
    if twice:
        raise InvalidQuery(f"rows name a text twice: {twice[:5]}")


def _check_masks(encoded: Sequence[EncodedText]) -> None:
    for index, text in enumerate(encoded):
        if len(text.masks) != 1:
            raise InvalidQuery(f"text {index} has {len(text.masks)} masks: a text to be scored has exactly one")


def _check_logits(logits: NDArray[np.float32], query: ScoreQuery, candidate: int) -> None:
    if np.isfinite(logits).all():
        return
    if query.subspace is None or query.Z is None:
        raise InvalidQuery("the logits of these texts overflow float32: this model cannot answer for them")
    raise InvalidQuery(
        f"the prompt of candidate {candidate} overflows float32: with entries of z up to "
        f"{np.abs(query.Z[candidate]).max():g} and scale = {query.subspace.scale:g} its logits are not finite; lower "
        "z, the scale or the uploaded arrays"
    )
