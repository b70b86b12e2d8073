"""How fast and how exactly the engine scores, beside transformers' own model.

    python -m benchmarks.engine [--json FILE] [--models roberta-large ...] [--rounds N] [--data FOLDER] [--quick]

`naive` is a padded forward of transformers a candidate, with the head at every position; `reference` gathers the mask's
state before the head, as the paper's public code does; `plain`, `packed` and `bf16` are the engine with torch's matrix
products, with oneDNN's over packed weights, and with those in bfloat16. All take their turn in every round of one
process, as do the largest matrix products of oneDNN, whose speed is the peak. With one thread the CPU's time is
measured, with all threads the wall's. A ratio is naive's time over a variant's, the median of what the rounds gave.

Texts are 32 of 30 .. 47 tokens (`table`) and, with --data FOLDER, 32 of FOLDER/SST-2/train.tsv (`sst2`), behind 50
prompt tokens. A round scores fewer candidates than a generation's 20, of the large models one for every thread: each
is computed by itself whatever the others are, so ratios are the same. The default takes about a quarter of an hour on
two cores, and ten minutes more with --data; --quick takes one round of the two small models.

Memory is that of a process which does nothing but score with roberta-large.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.utils import logging as hub_logging

from benchmarks.engine_figures import Round, Setting, figures_of, other_bars, table
from benchmarks.engine_memory import memory_of_a_child
from benchmarks.engine_models import RECIPES, Recipe, make_model, sst2_corpus, table_corpus
from benchmarks.engine_variants import D, Padded, Peak, Variant, engine_variant, engines, subspace
from benchmarks.figures import tell

QUICK = ("4x256", "roberta-tiny")
MOST_CANDIDATES = 20
_COLUMNS = (
    *("model", "lengths", "threads", "clock", "variant", "bar", "aim", "ratio", "ceiling", "of_peak"),
    *("gflop_a_second", "peak_gflop_a_second", "max_error"),
)
_MEMORY_COLUMNS = ("variant", "dtype", "threads", "imported_gb", "loaded_gb", "scoring_gb", "peak_gb")


def measure(name: str, recipe: Recipe, folder: Path, *, rounds: int, data: Path | None) -> list[dict[str, Any]]:
    """Rows of figures of one model, whose files are in `folder`: for each number of threads, texts and variant."""
    corpora = [table_corpus(folder)]
    if data is not None:
        corpora.append(sst2_corpus(folder, data))
    padded = Padded(folder, subspace(recipe.shape.hidden_size))
    rows = []
    for threads in sorted({1, torch.get_num_threads()}):
        candidates = min(MOST_CANDIDATES, threads * recipe.candidates)
        with engines(folder, threads) as loaded:
            for corpus in corpora:
                own = [engine_variant(one, engine, corpus, threads=threads) for one, engine in loaded.items()]
                variants = [*padded.variants(corpus, threads), *own]
                found = _rounds(variants, threads=threads, candidates=candidates, rounds=rounds)
                setting = Setting(name, recipe.shape, corpus, candidates, threads)
                rows += figures_of(setting, variants, found)
    return rows


def _rounds(variants: Sequence[Variant], *, threads: int, candidates: int, rounds: int) -> list[Round]:
    """Measures all variants in turn, so many times, each time on other candidates and beginning with another one."""
    draw = np.random.default_rng(0)
    peaks = [Peak(dtype, threads) for dtype in sorted({variant.dtype for variant in variants})]
    clock = time.process_time if threads == 1 else time.perf_counter
    for variant in variants:
        torch.set_num_threads(variant.threads)
        variant.warm()
    found = []
    for turn in range(rounds):
        Z = draw.standard_normal((candidates, D)).astype(np.float32)
        first = turn % len(variants)
        found.append(_round([*variants[first:], *variants[:first]], peaks, Z, clock=clock))
    return found


def _round(variants: Sequence[Variant], peaks: Sequence[Peak], Z: Any, *, clock: Callable[[], float]) -> Round:
    """Measures each variant once, and the peak after each: its best is what counts, other programs being about."""
    seconds, logits = {}, {}
    best = dict.fromkeys((peak.dtype for peak in peaks), 0.0)
    for variant in variants:
        torch.set_num_threads(variant.threads)
        began = clock()
        logits[variant.name] = variant.score(Z)
        seconds[variant.name] = clock() - began
        best |= {peak.dtype: max(best[peak.dtype], peak.measure(clock)) for peak in peaks}
    return Round(
        seconds=seconds,
        peaks=best,
        errors={name: float(np.abs(one - logits["naive"]).max()) for name, one in logits.items()},
    )


def memory(folder: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Memory of a process with nothing but the engine, by the best variant of `rows` in each dtype; Linux only."""
    if not Path("/proc/self/status").exists():
        return []
    best = {row["dtype"]: row["variant"] for row in rows if row["way"] == "engine"}
    threads = max(row["threads"] for row in rows)
    return [memory_of_a_child(folder, variant, threads=threads, candidates=threads) for variant in best.values()]


def processor() -> str:
    """What the kernel calls it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(names: Sequence[str], *, rounds: int | None, data: Path | None) -> dict[str, Any]:
    """All figures of these models; memory of roberta-large alone, which has bars for it."""
    rows: list[dict[str, Any]] = []
    used: list[dict[str, Any]] = []
    for name in names:
        recipe = RECIPES[name]
        with tempfile.TemporaryDirectory() as parent, _threads_kept():
            folder = make_model(recipe, Path(parent) / name)
            measured = measure(name, recipe, folder, rounds=rounds or recipe.rounds, data=data)
            if name == "roberta-large":
                used += memory(folder, measured)
        rows += measured
    return {
        "rows": rows,
        "memory": used,
        "other_bars": other_bars(rows, used),
        "processor": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def show(found: dict[str, Any]) -> None:
    """Prints the figures as tables."""
    print(table(found["rows"], _COLUMNS), end="\n\n")
    if found["memory"]:
        print(table(found["memory"], _MEMORY_COLUMNS), end="\n\n")
    print(table(found["other_bars"], ("what", "bar", "aim", "measured")), end="\n\n")
    print("A share of the peak is the share of the ceiling, which is the best ratio that this machine allows.\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=RECIPES, help="default: all")
    parser.add_argument("--rounds", type=int, help="default: 2 of the largest model, up to 5 of the smallest")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="that holds SST-2/train.tsv")
    parser.add_argument("--quick", action="store_true", help="one round; the two small models, unless --models says")
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    log: Any = hub_logging
    log.disable_progress_bar()
    names = args.models or (QUICK if args.quick else tuple(RECIPES))
    found = run(names, rounds=args.rounds or (1 if args.quick else None), data=args.data)
    show(found)
    tell(found, "benchmarks.engine", args.json)


if __name__ == "__main__":
    main()
