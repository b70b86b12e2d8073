"""The evaluation engine: texts in, label logits out, the same bits whichever other candidates are in a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from lmaas_backends.roberta.answer import Answer, LabelAnswer, TopAnswer
from lmaas_backends.roberta.chunks import Cut
from lmaas_backends.roberta.device_memory import within_memory
from lmaas_backends.roberta.forward import Forward
from lmaas_backends.roberta.jobs import FeatureJob, ScoreJob, Way
from lmaas_backends.roberta.lanes import Lanes
from lmaas_backends.roberta.model import LoadedModel
from lmaas_backends.roberta.named_weights import check_names, digest_of
from lmaas_backends.roberta.soft_prompt import SoftPrompts
from lmaas_backends.roberta.text_encoder import PLAIN, EncodedText, Frame, TextEncoder
from lmaas_backends.roberta.text_store import TextStore
from lmaas_backends.roberta.training import Training, learner_of
from lmaas_backends.roberta.weights import Weights
from lmaas_backends.roberta.work import Step, Work
from lmaas_sdk.backend import (
    Capabilities,
    FeatureQuery,
    FeatureReply,
    ModelCard,
    Registration,
    ScoreQuery,
    ScoreReply,
)
from lmaas_sdk.errors import InvalidQuery, Unsupported
from lmaas_sdk.texts import MASK, Piece, TextSet
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, Subspace

__all__ = ["Engine"]

_MOST_ANSWER_BYTES = 64 << 20  # what the SDK's own client takes
_BYTES_A_WORD = 60  # of a Python string

_Reply = TypeVar("_Reply", ScoreReply, FeatureReply)
_WARM_UP = TextSet(((Piece("field", "ready?"), MASK),))


def _never() -> bool:
    return False


class Engine:
    """Computes with one model. Made, used and closed on one thread; the computing itself is done on its lanes.

    Its trainings alone may each be used on a thread of their own.

    On a CPU the bits of a candidate's logits are fixed by (text set, rows): neither the other candidates of a call nor
    earlier calls matter, nor how many lanes there are. Another choice of rows may change a text's last bits (about
    1e-6), as `chunks` explains. On an accelerator the same call has the same bits, but among other candidates one may
    have others: the card does not say `deterministic` there.

    Args:
        model: The model.
        lanes: Threads that compute side by side.
        max_candidates, max_texts: Most candidates and most texts a call may carry; the card says so.
    """

    def __init__(self, model: LoadedModel, *, lanes: int = 1, max_candidates: int = 64, max_texts: int = 1024) -> None:
        torch.set_num_threads(1)  # of this thread; bits must not depend on who shares a product
        self.model = model
        self.lanes = Lanes(lanes)
        self._way = _way(model, model.weights, model.arithmetic.dtype)
        self.card = _card(model, max_candidates, max_texts, mixes=self._way.mixes)
        self._precise = self._way if model.precise is None else _way(model, model.precise, torch.float32)
        self._texts = TextStore(TextEncoder(model.vocabulary, model.max_tokens))
        self._prompts = SoftPrompts(self._way.forward, model.vocabulary)

    def close(self) -> None:
        """Ends the lanes; nothing can be computed any more."""
        self.lanes.close()

    def warm_up(self) -> None:
        """Has every lane compute: on an accelerator the first time takes seconds, which are no call's to wait for.

        Raises:
            BackendUnavailable: The device's memory is full.
        """
        job = self.job(ScoreQuery(_WARM_UP, top_k=1))
        with torch.inference_mode():
            step = job.prepare(0)
        self.lanes.everywhere(step)

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

    def soft_prompts(self, subspace: Subspace, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        """What enters the model at a prompt's positions, for each candidate: (n_candidates, L, D) float32.

        Raises:
            InvalidQuery, UnknownDataset, Unsupported: The subspace is refused; the message says why.
        """
        self._frame(subspace)
        self._prompts.check(subspace)
        with torch.inference_mode():
            return np.stack([self._prompts.vectors(subspace, z).cpu().numpy() for z in Z])

    @overload
    def job(self, query: ScoreQuery) -> ScoreJob: ...
    @overload
    def job(self, query: FeatureQuery) -> FeatureJob: ...
    def job(self, query: ScoreQuery | FeatureQuery) -> ScoreJob | FeatureJob:
        """A query as work for the lanes; nothing is computed yet.

        Raises:
            InvalidQuery, UnknownDataset, Unsupported, VerbalizerError: The query is refused; the message says why.
                That numbers overflow float32 shows only in the job's `reply`.
        """
        return self._score_job(query) if isinstance(query, ScoreQuery) else self._feature_job(query)

    def score(self, query: ScoreQuery, cancelled: Callable[[], bool] = _never) -> ScoreReply:
        """Scores every candidate on every text; `cancelled` is asked before each unit of work.

        Raises:
            CancelledError: `cancelled` said so.
            InvalidQuery, UnknownDataset, Unsupported, VerbalizerError: As `job` and its `reply`.
        """
        return self._done(self.job(query), cancelled)

    def features(self, query: FeatureQuery, cancelled: Callable[[], bool] = _never) -> FeatureReply:
        """Hidden states of texts, without a soft prompt; `cancelled` and errors as in `score`."""
        return self._done(self.job(query), cancelled)

    def training(
        self,
        texts: TextSet,
        labels: NDArray[np.int64],
        *,
        learning_rate: float,
        subspace: Subspace | None = None,
    ) -> Training:
        """Begins to train on labelled texts.

        Args:
            texts: The texts with their label words.
            labels: (n_texts,) class indices.
            learning_rate: Of Adam.
            subspace: Learn z of a soft prompt, of projection `identity`; None: all weights.

        Raises:
            InvalidQuery, Unsupported, VerbalizerError: As `register`, or the projection is another.
            ModelLoadError: The checkpoint is no longer what it was.
        """
        self.register(texts, subspace)
        held = self._texts.find(texts)
        frame, label_ids = self._frame(subspace), self._texts.label_ids(held)
        if label_ids is None:
            raise InvalidQuery("the text set has no label words: there is nothing to learn to say")
        return Training(
            learner_of(self.model, self._prompts, subspace),
            self._texts.encoded(held, frame),
            labels,
            frame=frame,
            label_ids=label_ids,
            encode=lambda others: self._texts.encoded(others, frame),
            learning_rate=learning_rate,
        )

    def tuned_card(self, weights: Mapping[str, NDArray[np.float32]]) -> ModelCard:
        """The card of `tuned`: it differs in what names the weights.

        Raises:
            ValueError: They are none of this model's.
        """
        check_names(weights, self.model.weights)
        path = self.card.fingerprint.removesuffix(self.model.weights_digest[:16])
        return replace(self.card, fingerprint=path + digest_of(weights)[:16])

    def tuned(self, weights: Mapping[str, NDArray[np.float32]]) -> Engine:
        """An engine of the same model with other weights, on lanes of its own."""
        sizes = {"max_candidates": self.card.max_candidates, "max_texts": self.card.max_texts}
        return Engine(self.model.tuned(weights), lanes=self.lanes.count, **sizes)

    def _done(self, job: Work[_Reply], cancelled: Callable[[], bool]) -> _Reply:
        def steps() -> Iterator[Step]:
            for unit in range(len(job.units)):
                if cancelled():
                    raise CancelledError(f"cancelled after {unit} of {len(job.units)} units")
                with torch.inference_mode():
                    step = job.prepare(unit)
                yield step

        self.lanes.run(steps())
        return job.reply()

    @within_memory
    def _score_job(self, query: ScoreQuery) -> ScoreJob:
        if query.n_candidates > self.card.max_candidates:
            raise InvalidQuery(f"{query.n_candidates} candidates in a call, above {self.card.max_candidates}: split it")
        frame = self._frame(query.subspace)
        for subspace in query.subspaces:
            self._frame(subspace)
            self._prompts.check(subspace)
        texts, cut = self._cut(query.texts, query.rows, frame)
        _check_masks(cut.texts)
        way = self._precise if query.precise else self._way
        answer = self._answer(query, texts)
        words = answer.width * _BYTES_A_WORD if query.top_k is not None else 0
        _check_size(query.n_candidates * len(cut.texts) * (answer.width * 4 + words), "lower top_k")
        return ScoreJob(query, way=way, cut=cut, answer=answer, prompts=self._prompts)

    def _feature_job(self, query: FeatureQuery) -> FeatureJob:
        if query.pool not in {"first", "tokens"}:
            raise InvalidQuery(f"pool is 'first' or 'tokens', not {query.pool!r}")
        _, cut = self._cut(query.texts, query.rows, PLAIN)
        vectors = len(cut.texts) if query.pool == "first" else sum(text.positions for text in cut.texts)
        _check_size(vectors * self.card.hidden_size * 4, "take pool 'first'")
        return FeatureJob(query, way=self._way, cut=cut, name=self.card.name)

    def _cut(self, texts: TextSet | str, rows: tuple[int, ...] | None, frame: Frame) -> tuple[TextSet, Cut]:
        held = self._texts.find(texts)
        _check_rows(rows, len(held))
        encoded = self._texts.encoded(held, frame)
        chosen = encoded if rows is None else tuple(encoded[row] for row in rows)
        if len(chosen) > self.card.max_texts:
            raise InvalidQuery(f"{len(chosen)} texts in a call, above {self.card.max_texts}: split it by rows")
        return held, Cut.of((held.digest, frame, rows), chosen, frame, most=self._way.most_positions)

    def _frame(self, subspace: Subspace | None) -> Frame:
        if subspace is None:
            return PLAIN
        self._check_layers(subspace)
        if subspace.hidden_size != self.card.hidden_size:
            raise InvalidQuery(
                f"the subspace has hidden_size {subspace.hidden_size}, "
                f"but model {self.card.name!r} has {self.card.hidden_size}"
            )
        return Frame.of(subspace)

    def _check_layers(self, subspace: Subspace) -> None:
        layers, deepest = subspace.layers, max(subspace.layers)
        if layers == (0,):
            return
        if not self.card.capabilities.layers:
            raise Unsupported(f"layers: prompts enter layer 0 only in a model of one layer, not layers {layers}")
        if subspace.layout != "add":
            raise Unsupported(f"layers: prompts enter other layers than 0 in layout 'add' only, not layers {layers}")
        if deepest >= self._way.forward.shape.layers:
            count = self._way.forward.shape.layers
            raise InvalidQuery(f"layer {deepest} is not one of the {count} layers of the model, which count from 0")

    def _answer(self, query: ScoreQuery, texts: TextSet) -> Answer:
        forward = self._way.forward
        if query.top_k is not None:
            if query.top_k > self.card.vocab_size:
                raise InvalidQuery(f"top_k = {query.top_k}, but the vocabulary has {self.card.vocab_size} words")
            return TopAnswer(forward, self.model.vocabulary, query.top_k)
        label_ids = self._texts.label_ids(texts)
        if label_ids is None:
            raise InvalidQuery("the text set has no label words: register it with label words, or ask for top_k")
        return LabelAnswer(forward, label_ids)


def _way(model: LoadedModel, weights: Weights, dtype: torch.dtype) -> Way:
    return Way.on(Forward(weights, model.heads, model.epsilon, model.first_position, dtype))


def _card(model: LoadedModel, max_candidates: int, max_texts: int, *, mixes: bool) -> ModelCard:
    return ModelCard(
        name=model.name,
        hidden_size=model.weights.words.shape[1],
        vocab_size=model.vocabulary.size,
        max_tokens=model.max_tokens,
        mask=model.vocabulary.mask,
        capabilities=Capabilities(
            projections=NAMED_PROJECTIONS,
            arrays=True,
            features=True,
            top_k=True,
            deterministic=not mixes,
            layers=bool(model.weights.layers),
            precise=model.arithmetic.reduced,
        ),
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


def _check_size(nbytes: int, advice: str) -> None:
    if nbytes > _MOST_ANSWER_BYTES:
        raise InvalidQuery(
            f"the answer would take {nbytes} bytes, and at most {_MOST_ANSWER_BYTES} are held for one call: ask for "
            f"fewer texts or candidates a call, or {advice}"
        )


def _check_masks(encoded: Sequence[EncodedText]) -> None:
    for index, text in enumerate(encoded):
        if len(text.masks) != 1:
            raise InvalidQuery(f"text {index} has {len(text.masks)} masks: a text to be scored has exactly one")
