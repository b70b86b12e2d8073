"""From a model's name to an engine that is ready to compute."""

from __future__ import annotations

import os

from lmaas_backends.roberta.model import load_model  # isort: split

from lmaas_backends.roberta.engine import Engine
from lmaas_sdk.seeding import whole_number

__all__ = ["load_engine"]

# Below this width a layer's products take microseconds, and threads that meet after each of them cost more than they
# bring: on two busy cores the bundled model took six times as long with two threads as with one.
_ONE_THREAD_BELOW_WIDTH = 512
_MOST_THREADS_PER_CORE = 4


def load_engine(
    model: str,
    *,
    device: str = "cpu",
    threads: int | None = None,
    own_process: bool = False,
    max_candidates: int = 64,
    max_texts: int = 1024,
) -> Engine:
    """The engine of a model.

    Args:
        model, device: As `load_model` takes them.
        threads: Threads that compute, for the whole process, at most four a core; they count in the card's
            fingerprint. None: as torch is set, but see `own_process`.
        own_process: The process has nothing else to compute, so a model narrower than 512 gets one thread.
        max_candidates, max_texts: As in `Engine`.

    Raises:
        MissingExtra: torch or transformers is not installed.
        ModelLoadError: The model cannot be loaded.
        ValueError: `threads` is below 1 or above four a core.
        TypeError: `threads` is no whole number.
    """
    import torch  # noqa: PLC0415  (after model.py, which says which extra to install where there is no torch)

    _check_threads(threads)
    loaded = load_model(model, device=device)
    if threads is None and own_process and loaded.weights.words.shape[1] < _ONE_THREAD_BELOW_WIDTH:
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    return Engine(loaded, max_candidates=max_candidates, max_texts=max_texts)


def _check_threads(threads: int | None) -> None:
    if threads is None:
        return
    cores = os.cpu_count() or 1
    if whole_number("threads", threads, at_least=1) > _MOST_THREADS_PER_CORE * cores:
        raise ValueError(
            f"threads is at most {_MOST_THREADS_PER_CORE * cores} on this machine of {cores} cores, not {threads}"
        )
