"""From a model's name to an engine that is ready to compute."""

from __future__ import annotations

import os

from lmaas_backends.roberta.model import load_model  # isort: split

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.linears import Dtype, LinearsName
from lmaas_backends.roberta.memory import give_memory_back, kept_apart
from lmaas_sdk.seeding import whole_number

__all__ = ["load_engine"]

_MOST_THREADS_PER_CORE = 4
_ACCELERATOR_LANES = 2


def load_engine(
    model: str,
    *,
    device: str = "cpu",
    threads: int | None = None,
    linears: LinearsName = "auto",
    dtype: Dtype = "float32",
    max_candidates: int = 64,
    max_texts: int = 1024,
) -> Engine:
    """The engine of a model, to be made and used on one thread.

    Args:
        model, device, linears, dtype: As `load_model` takes them.
        threads: Threads that compute side by side, at most four a core; they change no bit. None: one a core, and on
            an accelerator two, so that one unit is launched while another computes.
        max_candidates, max_texts: As in `Engine`.

    Raises:
        MissingExtra: torch or transformers is not installed.
        ModelLoadError: The model cannot be loaded, or not computed as asked for.
        BackendUnavailable: The device's memory is full.
        ValueError: `threads` is below 1 or above four a core.
        TypeError: `threads` is no whole number.
    """
    _check_threads(threads)
    with kept_apart():
        loaded = load_model(model, device=device, linears=linears, dtype=dtype)
    give_memory_back()
    accelerated = loaded.arithmetic.device.type != "cpu"
    lanes = threads or (_ACCELERATOR_LANES if accelerated else _usable_cores())
    engine = Engine(loaded, lanes=lanes, max_candidates=max_candidates, max_texts=max_texts)
    if accelerated:
        engine.warm_up()
    return engine


def _usable_cores() -> int:
    """Cores that this process may use, where the system tells."""
    allowed = getattr(os, "sched_getaffinity", None)
    return (os.cpu_count() or 1) if allowed is None else len(allowed(0))


def _check_threads(threads: int | None) -> None:
    if threads is None:
        return
    cores = os.cpu_count() or 1
    if whole_number("threads", threads, at_least=1) > _MOST_THREADS_PER_CORE * cores:
        raise ValueError(
            f"threads is at most {_MOST_THREADS_PER_CORE * cores} on this machine of {cores} cores, not {threads}"
        )
