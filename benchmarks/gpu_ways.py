"""The ways of scoring that are measured on a device, all loaded at once, so that they take turns in one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engine_models import Corpus
from benchmarks.engine_variants import D, Padded, Variant, subspace
from lmaas_backends.roberta.flops import ModelShape
from lmaas_backends.roberta.loading import load_engine
from lmaas_sdk import Dataset, ScoreQuery

__all__ = ["CANDIDATES", "Bench", "Memory", "Taken", "draw", "engine_scores", "gb", "load_ways", "take_turn"]

CANDIDATES = 20
_SMI_S = 10.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and on what.

    Args:
        device: Of the engine.
        model: Its name in the figures.
        folder: Its files.
        shape: Its sizes.
        corpus: The texts, as `naive` reads them.
        train, dev: The same texts as labelled examples, and others.
        rounds: How often each way is timed.
        candidates: That it is timed with.
        evaluations: Of the run through a server.
        engines: The engine by dtype.
        ways: Every way by name, `engine float16` for one.
        weights: Bytes of memory on the device that loading each way took.
        left_out: What could not be loaded, and why.
        last_generation: Candidates that the run's search asked for last, once it was made.
    """

    device: str
    model: str
    folder: Path
    shape: ModelShape
    corpus: Corpus
    train: Dataset
    dev: Dataset
    rounds: int
    candidates: int
    evaluations: int
    engines: dict[str, Any] = field(default_factory=dict)
    ways: dict[str, Variant] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    last_generation: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU that is measured."""
        return self.device.startswith("cuda")

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Of the engine there, float32 first."""
        return ("float32", "float16", "bfloat16") if self.is_cuda else ("float32", "bfloat16")

    @property
    def naive_dtypes(self) -> tuple[str, str]:
        """Of `naive`: float32, and the fewer bits that the engine's fewer bits are compared with."""
        return self.dtypes[0], self.dtypes[1]


@dataclass(frozen=True, slots=True)
class Taken:
    """One scoring: seconds, bytes on the device at most beyond the weights of all ways, logits."""

    seconds: float
    peak: int
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a device; a processor's is not looked at, and told as 0."""

    device: str

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def wait(self) -> None:
        """Until all that was begun there is done."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def held(self) -> int:
        """Bytes that tensors take now."""
        return torch.cuda.memory_allocated(self.device) if self.is_cuda else 0

    def used(self) -> int:
        """Bytes of the whole card that are taken, whoever took them; what this process does not need is given back."""
        if not self.is_cuda:
            return 0
        try:
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info(self.device)
        except RuntimeError:  # after an illegal access, say, this process learns no more; a server's still computes
            return 0
        return total - free

    def forget_peak(self) -> None:
        """From now on, `peak` is of what comes."""
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Most bytes that tensors took at a time."""
        return torch.cuda.max_memory_allocated(self.device) if self.is_cuda else 0

    def of_the_process(self) -> dict[str, float | None]:
        """Gigabytes: what torch keeps, what nvidia-smi says this process has, and what is used of the whole card."""
        if not self.is_cuda:
            return {}
        kept, told = torch.cuda.memory_reserved(self.device), _by_driver(os.getpid())
        return {"kept_by_torch_gb": gb(kept), "of_this_process_gb": told, "of_the_card_gb": gb(self.used())}


def load_ways(bench: Bench, *, note: Callable[[str], object]) -> None:
    """Loads the engine and `naive` in every dtype, and tries each out; what fails is in `left_out` alone."""
    for dtype in bench.naive_dtypes:
        _attempt(bench, f"naive {dtype}", lambda dtype=dtype: _load_padded(bench, dtype), note)  # type: ignore[misc]
    for dtype in bench.dtypes:
        _attempt(bench, f"engine {dtype}", lambda dtype=dtype: _load_engine(bench, dtype), note)  # type: ignore[misc]


def _attempt(bench: Bench, name: str, load: Callable[[], object], note: Callable[[str], object]) -> None:
    memory, began = Memory(bench.device), time.perf_counter()
    before = memory.held()
    try:
        load()
    except Exception as error:  # whatever it is, the other ways are measured, and this one is told
        bench.left_out[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    bench.weights[name] = memory.held() - before
    note(f"loaded {name} in {time.perf_counter() - began:.1f} s" if name not in bench.left_out else f"no {name}")


def _load_padded(bench: Bench, dtype: str) -> None:
    padded = Padded(bench.folder, subspace(bench.shape.hidden_size), device=bench.device, dtype=dtype)
    variants = padded.variants(bench.corpus, 1)
    for variant in variants:
        variant.score(draw(1, seed=0))
    for variant in variants:
        bench.ways[f"{variant.name} {dtype}"] = variant


def _load_engine(bench: Bench, dtype: str) -> None:
    options: dict[str, Any] = {"device": bench.device, "dtype": dtype}
    if not bench.is_cuda and dtype == "float32":
        options["linears"] = "plain"  # which is what a GPU has, and what `precise` queries are computed with
    engine = load_engine(str(bench.folder), **options)
    score = engine_scores(engine, bench.corpus)
    score(draw(1, seed=0))
    bench.engines[dtype] = engine
    bench.ways[f"engine {dtype}"] = Variant(
        name="engine", way="engine", dtype=dtype, threads=1, score=score, warm=lambda: score(draw(1, seed=0))
    )


def engine_scores(engine: Any, corpus: Corpus, *, precise: bool = False) -> Callable[[Any], NDArray[np.float32]]:
    """How an engine scores candidates on the texts; refused where it would read other tokens than `naive` does."""
    space = subspace(engine.card.hidden_size)
    counts = engine.register(corpus.texts, space).token_counts
    if counts != corpus.lengths:
        raise ValueError(f"the engine encodes these texts otherwise: {counts}, not {corpus.lengths}")

    def score(Z: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = engine.score(
            ScoreQuery(corpus.texts, subspace=space, Z=Z, precise=precise)
        ).logits
        return logits

    return score


def draw(candidates: int, *, seed: int) -> NDArray[np.float32]:
    """Candidates as a search begins with: z ~ N(0, I)."""
    return np.random.default_rng(seed).standard_normal((candidates, D)).astype(np.float32)


def take_turn(bench: Bench, variant: Variant, Z: NDArray[np.float32]) -> Taken:
    """Scores once, from when the device is idle until it is again."""
    memory = Memory(bench.device)
    memory.wait()
    held = memory.held()
    memory.forget_peak()
    began = time.perf_counter()
    logits = variant.score(Z)
    memory.wait()
    return Taken(time.perf_counter() - began, memory.peak() - held, logits)


def _by_driver(pid: int) -> float | None:
    """Gigabytes that nvidia-smi tells of a process; None: it is not there, or sees other process ids than we do."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(",") for line in told.splitlines()]
    mib = [int(row[1]) for row in rows if len(row) == 2 and row[0].strip() == str(pid) and row[1].strip().isdigit()]
    return gb(sum(mib) << 20) if mib else None


def gb(nbytes: float) -> float:
    """Gigabytes of 10^9, to 10 MB."""
    return round(nbytes / 1e9, 2)
