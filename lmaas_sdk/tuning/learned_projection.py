"""Axes of a search, learned from prompts that were tuned before: the principal subspace of how they moved.

A random projection spends most of its dimensions on directions that no task cares for. Those in which tuning went on
other tasks are fewer. What is looked at is how far a prompt is from where its own search began, A z: in `cat` the p0 of
two seeds are different words' embeddings, and their difference is no work of tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Spend
from lmaas_sdk.backend import Backend
from lmaas_sdk.client import Client
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tuning.blas import one_blas_thread
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.uploads import at_layer_0, upload, written_out

__all__ = ["LearnedProjection", "learn_projection", "moves_of", "principal_projection", "spent_so_far"]

_Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LearnedProjection:
    """Axes that were learned from tuned prompts, for `Tuner(projection=...)`.

    Args:
        matrix: (L * D, d) float32: orthogonal columns of one length.
        prompts: How many it was learned from.
        explained: The part of their squared length that lies in these d dimensions.
        spend: What the runs have cost that found them; None: nobody knows.
    """

    matrix: _Array
    prompts: int
    explained: float
    spend: Spend | None = None


def principal_projection(prompts: Sequence[_Array] | _Array, d: int) -> _Array:
    """The d directions in which prompts differ most from 0, as a projection: (L * D, d) float32.

    Right singular vectors, without centring, as a direction that all prompts share is worth most; each points to where
    its largest entry is above 0. They are scaled alike, so that z from N(0, I) makes prompts that are as long, in root
    mean square, as those given.

    Args:
        prompts: (n, L, D), or n of (L, D): how far each is from where its search began.
        d: Of the new search.

    Raises:
        ValueError: They span fewer than d dimensions, are of different shapes, or not finite.
        TypeError: d is no whole number.
    """
    return _principal(_flat(prompts), whole_number("d", d, at_least=1))[0]


async def learn_projection(
    backend: Backend, sources: Sequence[TuningResult | TunedPrompt], d: int
) -> LearnedProjection:
    """The principal subspace of what runs on other tasks have found; free, as the runs were paid for.

    Of a result it takes every candidate that was looked at on dev, the best of a generation and the mean of the search,
    and the one that was chosen: a single prompt a run would span no more dimensions than there are runs.

    Args:
        backend: Of the model that they were tuned for; it writes them out.
        sources: Runs on other tasks or seeds, or prompts; all of one length L.
        d: Dimensions of the new search.

    Raises:
        ValueError: There are none, their L differ, or they span fewer than d dimensions.
        PromptFileError: One is of another model.
        Unsupported: The backend writes no prompts out.
    """
    whole_number("d", d, at_least=1)
    client = Client(backend, Budget())
    moved = [await moves_of(client, source) for source in sources]
    flat = _flat([one for found in moved for one in found])
    matrix, explained = _principal(flat, d)
    results = [source for source in sources if isinstance(source, TuningResult)]
    return LearnedProjection(matrix, len(flat), explained, spent_so_far(results) if results else None)


def spent_so_far(results: Sequence[TuningResult]) -> Spend:
    """What runs have cost together, as it is now: predictions made from them later are not in it."""
    spend = Spend()
    for result in results:
        spend.add_all(result.spend)
    return spend


async def moves_of(client: Client, source: TuningResult | TunedPrompt) -> _Array:
    """How far candidates of a run are from where it began: (n, L, D)."""
    prompt = source.prompt if isinstance(source, TuningResult) else source
    seen = [choice.z for choice in source.dev_scored] if isinstance(source, TuningResult) else []
    prompt.check_fits(client.backend.card)
    await upload(client, prompt.arrays)
    Z = np.stack([np.zeros_like(prompt.z), prompt.z, *seen])
    written = await written_out(client, at_layer_0(prompt.subspace), Z)
    moved: _Array = written[1:] - written[0]
    return moved


def _flat(prompts: Sequence[_Array] | _Array) -> NDArray[np.float64]:
    """(n, L * D) float64."""
    shapes = sorted({np.shape(prompt) for prompt in prompts})
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"prompts are arrays (L, D) of one shape, and at least one; these have the shapes {shapes}")
    flat = np.stack([np.asarray(prompt, np.float64).reshape(-1) for prompt in prompts])
    if not np.isfinite(flat).all():
        raise ValueError("the prompts hold NaN or infinity")
    return flat


def _principal(flat: NDArray[np.float64], d: int) -> tuple[_Array, float]:
    with one_blas_thread():
        _, lengths, axes = np.linalg.svd(flat, full_matrices=False)
    rank = int((lengths > lengths[0] * max(flat.shape) * np.finfo(np.float32).eps).sum())
    if rank < d:
        raise ValueError(
            f"{len(flat)} prompts span {rank} dimensions, fewer than d = {d}: lower d, or give more runs, of other "
            "seeds or tasks"
        )
    first = axes[:d]
    signs = np.sign(first[np.arange(d), np.abs(first).argmax(axis=1)])
    squares = lengths**2
    scale = np.sqrt(squares.sum() / len(flat) / d)
    return (first * signs[:, None] * scale).T.astype(np.float32), float(squares[:d].sum() / squares.sum())
