"""Choosing label words: what the model itself would say of the training texts, as far as it tells classes apart."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits, ScoreQuery
from lmaas_sdk.canonical import digest
from lmaas_sdk.client import Call, Client
from lmaas_sdk.errors import (
    BudgetExceeded,
    InvalidQuery,
    ProtocolError,
    QuotaExceeded,
    TaskError,
    Unsupported,
    VerbalizerError,
)
from lmaas_sdk.methods.connection import Connection, spending
from lmaas_sdk.methods.method import task_of
from lmaas_sdk.methods.prompt_choice import (
    Ended,
    PromptChoice,
    Scores,
    TriedPrompt,
    asked_otherwise,
    ended_by,
    labelled_sets,
    ranked,
    scored,
    worst_of,
)
from lmaas_sdk.methods.word_pool import Combination, best_together, distinguishing, margins, usable_words
from lmaas_sdk.outside import outside
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset, Task
from lmaas_sdk.texts import LabelWords, Text, TextSet
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.parts import Scorable, places_of_calls
from lmaas_sdk.tuning.predictor import evaluation
from lmaas_sdk.tuning.scheduler import Scheduler

__all__ = ["choose_words"]

_POOL, _CANDIDATES = 50, 20  # words of a class whose logits are asked for, and those that are combined
_KEPT = 20  # combinations that are told
_MOST_WORDS = 1 << 20  # of one answer: at 64 bytes each what servers and clients hold of it, 64 MiB
_Logits = NDArray[np.float32]


async def choose_words(  # noqa: PLR0913  (all but three by name)
    backend: Backend,
    train: Dataset,
    dev: Dataset | None = None,
    *,
    top_k: int = 200,
    budget: Budget | None = None,
    retry: RetryPolicy | None = None,
    quotas: str | Limits | Mapping[str, Limits] | None = None,
    cache: ReplyCache | bool = True,
) -> PromptChoice:
    """The label words by which the manual prompt answers the labelled examples best, by cross entropy.

    The model is asked for its likeliest words at the mask of each training text, then for the logits of those that
    tell classes apart, the task's own words among them: two evaluations, however many combinations are compared, since
    each is a few columns of the same logits. With `dev` its texts are scored once, and count like those of `train`; a
    budget that ends before leaves the best by `train`.

    Args:
        backend: The model; it answers with words at the mask (`top_k` in its capabilities).
        train, dev: What to judge by.
        top_k: How many words to ask for; more than the vocabulary has: all. An answer holds a million words: more go
            out in several calls, of which all together are one evaluation.
        budget: What calls are paid from; None: no limit.
        retry, quotas, cache: As of `Client`.

    Raises:
        Unsupported: The backend does not answer with words; nothing was sent.
        BudgetTooSmall: The budget cannot pay for the two evaluations; nothing was sent.
        TaskError: The data are unusable, and nothing was sent; or too few words at the mask can be label words.
        BudgetExceeded, QuotaExceeded, BackendError: It ended between the two.
    """
    connection = Connection(backend, budget, retry, quotas, cache)
    task_of(train, dev)
    sets = labelled_sets(train, dev)
    wanted = min(whole_number("top_k", top_k, at_least=2), backend.card.vocab_size)
    if not backend.card.capabilities.top_k:
        raise Unsupported(f"{backend.card.name} does not answer with words at the mask (top_k): give words yourself")
    client = connection.client()
    async with spending(client):
        pool = await _pool(client, train, wanted)
        return await _chosen(client, pool, sets)


async def _pool(client: Client, train: Dataset, top_k: int) -> list[str]:
    """Words to combine, as the backend is asked for them; nothing is sent unless they can be scored as well."""
    scheduler = Scheduler(client, outside().new_id())
    scorable = await scheduler.prepare(TextSet(train.text_set.texts), None, precise=True)
    calls = _calls_at_the_mask(client, scorable, top_k)
    client.budget.check(worst_of([*(call.worst for call in calls), scheduler.worst(scorable, 1, "train")]))
    words, logits = await _words_at_the_mask(client, calls)
    own = train.task.verbalizer.label_words.words
    usable = await asyncio.to_thread(usable_words, itertools.chain.from_iterable(words), own[0])
    told = await asyncio.to_thread(distinguishing, words, logits, train.labels, usable, _POOL)
    space = " " if own[0].startswith(" ") else ""
    asked = dict.fromkeys([*own, *(space + word.removeprefix(" ") for word in told)])  # as the task asks for its own
    sound = await _sound(client, train.text_set.texts[0], list(asked))
    if len(sound) < len(own):
        raise TaskError(
            f"of the {top_k} likeliest words at the mask {len(sound)} can be label words, for {len(own)} labels: ask "
            "for more by top_k, or choose another template"
        )
    return sound


def _calls_at_the_mask(client: Client, scorable: Scorable, top_k: int) -> list[Call]:
    """The calls that ask for words, in the order of the texts; as few as card, quota and an answer's room allow."""
    run, counts = outside().new_id(), scorable.token_counts
    most = max(1, _MOST_WORDS // top_k)
    calls: list[Call] = []
    for _, rows in places_of_calls(client, 1, counts):
        for start in range(rows.start, rows.stop, most):
            texts = range(start, min(start + most, rows.stop))
            some = None if len(texts) == len(counts) else tuple(texts)
            query = ScoreQuery(scorable.texts, rows=some, top_k=top_k, precise=scorable.precise)
            key = digest([run, "top_k", texts.start, texts.stop])[:32]
            own = counts[texts.start : texts.stop]
            calls.append(client.call(query, key, purpose="train", token_counts=own, of_texts=len(counts)))
    return calls


async def _words_at_the_mask(client: Client, calls: Sequence[Call]) -> tuple[list[tuple[str, ...]], _Logits]:
    words: list[tuple[str, ...]] = []
    logits: list[_Logits] = []
    for call in calls:
        reply = await client.score(call)
        if reply.words is None:
            raise ProtocolError(f"{client.backend.card.name} was asked for words at the mask, and answered none")
        words += reply.words[0]
        logits.append(reply.logits[0])
    return words, np.concatenate(logits)


async def _sound(client: Client, text: Text, words: list[str]) -> list[str]:
    """Those of the words that are one token each, of which no two are the same; to ask is free."""
    if await _is_sound(client, text, words):
        return words
    if len(words) == 1:
        return []
    half = len(words) // 2
    first, second = await _sound(client, text, words[:half]), await _sound(client, text, words[half:])
    if await _is_sound(client, text, first + second):
        return first + second
    for word in second:  # one of them is a word of the first half in other letters
        if await _is_sound(client, text, [*first, word]):
            first.append(word)
    return first


async def _is_sound(client: Client, text: Text, words: Sequence[str]) -> bool:
    if not words:
        return False
    try:
        await client.register(TextSet((text,), LabelWords(tuple(words))))
    except (VerbalizerError, InvalidQuery):
        return False
    return True


async def _chosen(client: Client, pool: Sequence[str], sets: Mapping[Purpose, Dataset]) -> PromptChoice:
    """The best combinations of words from the pool."""
    scheduler, words = Scheduler(client, outside().new_id()), LabelWords(tuple(pool))
    found: dict[Purpose, Scores] = {}
    stopped: Ended = "done"
    for purpose, dataset in sets.items():
        try:
            found |= await scored(scheduler, {purpose: TextSet(dataset.text_set.texts, words)}, label="pool")
        except (BudgetExceeded, QuotaExceeded) as end:
            if not found:
                raise
            stopped = ended_by(end)
    judged = {purpose: sets[purpose] for purpose in found}
    tried = await asyncio.to_thread(_combined, pool, found, judged)
    return PromptChoice(tried, client.spend, stopped)


def _combined(
    pool: Sequence[str], scores: Mapping[Purpose, Scores], sets: Mapping[Purpose, Dataset]
) -> tuple[TriedPrompt, ...]:
    """The best combinations, and the task's own where all of its words are in the pool."""
    task, labels = sets["train"].task, np.concatenate([dataset.labels for dataset in sets.values()])
    own = [pool.index(word) if word in pool else None for word in task.verbalizer.label_words.words]
    best = np.argsort(-margins(scores["train"].logits, sets["train"].labels), axis=1, kind="stable")
    best = best[:, : max(_CANDIDATES, len(own))]  # with as many as there are classes, each can have a word of its own
    candidates = [
        list(dict.fromkeys([*([] if word is None else [word]), *words]))
        for word, words in zip(own, best.tolist(), strict=True)
    ]
    found = [
        words
        for words, _ in best_together(
            np.concatenate([one.logits for one in scores.values()]), labels, candidates, _KEPT
        )
    ]
    as_it_was = [tuple(word for word in own if word is not None)]
    shown = dict.fromkeys(found + [words for words in as_it_was if len(words) == len(own)])
    return ranked(_tried(task, pool, words, scores, sets) for words in shown)


def _tried(
    task: Task,
    pool: Sequence[str],
    words: Combination,
    scores: Mapping[Purpose, Scores],
    sets: Mapping[Purpose, Dataset],
) -> TriedPrompt:
    spelled = [pool[word].removeprefix(" ") if task.verbalizer.leading_space else pool[word] for word in words]
    found = {
        purpose: evaluation(scores[purpose].logits[:, list(words)], dataset, shortened=scores[purpose].shortened)
        for purpose, dataset in sets.items()
    }
    return TriedPrompt(asked_otherwise(task, words=spelled), found["train"], found.get("dev"))
