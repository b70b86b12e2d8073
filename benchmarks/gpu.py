"""All checks of the engine on a GPU, in one command that needs no network and no data.

    python -m benchmarks.gpu [--json FILE] [--evaluations 8000] [--quick]

It makes a roberta-large of random weights, which are as fast as trained ones, and texts as long as those of SST-2, and

- `parity`: compares logits in float32 with those of the processor and of transformers' own model on the same card;
- `speed`: times one generation of 20 candidates on 32 texts by each way: `naive` and `reference` as in
  `benchmarks.engine`, in float32 and float16, and the engine in float32, float16 and bfloat16;
- `run float16`, `run bfloat16`: tunes with 8000 evaluations through a server of its own over HTTP;
- `ranks`: compares how fewer bits rank candidates early and late in that run, and those that are close;
- `sameness`: sends the same call twice.

Each part is printed when it is done, and kept in the file; one that fails is told with its error, and the others go
on. It ends within 8 minutes; what there is no time left for is told. Exit codes: 0 all bars passed, 1 some did not, 2
there is no such device. `--device cpu --model tiny --quick` tries the script itself out. In a checkout that is not
installed, set PYTHONPATH=.:backends.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging as hub_logging

from benchmarks.engine_models import RECIPES, Recipe, make_model, table_corpus, table_examples
from benchmarks.figures import tell
from benchmarks.gpu_parts import Found, parity, ranks, sameness, speed
from benchmarks.gpu_run import EVALUATIONS, importable, run_through_a_server
from benchmarks.gpu_ways import CANDIDATES, Bench, load_ways
from lmaas_backends.roberta.flops import ModelShape

LIMIT_S = 480.0
NO_DEVICE, NOT_PASSED = 2, 1
MODELS = {
    "roberta-large": RECIPES["roberta-large"],
    "roberta-base": RECIPES["roberta-base"],
    "tiny": Recipe(ModelShape(2, 32, 64, 1, 13_000), candidates=20, rounds=1),
}
_QUICK_EVALUATIONS = 60
_ROUNDS, _QUICK_ROUNDS, _QUICK_CANDIDATES = 7, 1, 2
_DEV_SEED = 43
_RUN_S = (30.0, 120.0)  # least and most that a run is given
_AFTER_A_RUN_S = 45.0  # for what comes behind it
_GRACE_S = 20.0  # to end in good order, before the process is ended


@dataclass(slots=True)
class Report:
    """What was found so far, and the time that is left.

    Args:
        path: Of the JSON file that is written after every part.
        found: The figures.
    """

    path: Path | None
    found: dict[str, Any]
    began: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        return LIMIT_S - (time.monotonic() - self.began)

    def note(self, line: str) -> None:
        """Says how far it is."""
        print(f"{time.monotonic() - self.began:6.1f} s  {line}", flush=True)

    def add(self, name: str, part: Callable[[], Found], *, needs_s: float = 0.0) -> None:
        """Does a part, prints and keeps what it found or what went wrong."""
        began = time.monotonic()
        if self.left_s < needs_s:
            told: dict[str, Any] = {"error": f"left out: {self.left_s:.0f} s are left, and it needs {needs_s:.0f} s"}
        else:
            told = self._done(part)
        told["part_s"] = round(time.monotonic() - began, 1)
        self.found["parts"][name] = told
        self.note(f"{name}: {json.dumps(told)}")
        if self.path is not None:
            self.path.write_text(json.dumps(self.found, indent=2) + "\n", "utf-8")

    def _done(self, part: Callable[[], Found]) -> dict[str, Any]:
        try:
            found = part()
        except Exception as error:  # told, with where it happened; the other parts can do without this one
            where = "".join(traceback.format_exception(error)[-3:])
            return {"error": f"{type(error).__name__}: {error}", "where": where}
        self.found["bars"] += found.bars
        return {"figures": found.figures}

    @property
    def passed(self) -> bool:
        """Whether every part was done and every bar passed."""
        return all("error" not in part for part in self.found["parts"].values()) and all(
            one["passed"] for one in self.found["bars"]
        )


def measure(report: Report, *, device: str, model: str, quick: bool, evaluations: int) -> None:
    """All parts, in the order in which they need each other."""
    with tempfile.TemporaryDirectory() as parent, importable(Path(parent)):
        bench = _bench(Path(parent), device=device, model=model, quick=quick, evaluations=evaluations)
        report.note(f"made {model}")
        report.add("loading", lambda: _loaded(bench, report))
        report.add("parity", lambda: parity(bench), needs_s=30)
        report.add("speed", lambda: speed(bench), needs_s=30)
        for dtype in bench.dtypes[1:]:
            report.add(f"run {dtype}", partial(_run, bench, dtype, report), needs_s=_RUN_S[0] + _AFTER_A_RUN_S)
        report.add("ranks", lambda: ranks(bench), needs_s=15)
        report.add("sameness", lambda: sameness(bench), needs_s=5)
        for engine in bench.engines.values():
            engine.close()


def _bench(parent: Path, *, device: str, model: str, quick: bool, evaluations: int) -> Bench:
    recipe = MODELS[model]
    folder = make_model(recipe, parent / model)
    return Bench(
        device=device,
        model=model,
        folder=folder,
        shape=recipe.shape,
        corpus=table_corpus(folder),
        train=table_examples(folder),
        dev=table_examples(folder, seed=_DEV_SEED),
        rounds=_QUICK_ROUNDS if quick else _ROUNDS,
        candidates=_QUICK_CANDIDATES if quick else CANDIDATES,
        evaluations=evaluations,
    )


def _loaded(bench: Bench, report: Report) -> Found:
    load_ways(bench, note=report.note)
    if bench.left_out:
        raise RuntimeError("; ".join(f"{name}: {why}" for name, why in bench.left_out.items()))
    return Found({"ways": sorted(bench.ways), "engine": bench.engines["float32"].card.fingerprint})


def _run(bench: Bench, dtype: str, report: Report) -> Found:
    least, most = _RUN_S
    return run_through_a_server(bench, dtype, most_s=max(least, min(most, report.left_s - _AFTER_A_RUN_S)))


def environment(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    versions = (torch.__version__, transformers.__version__, torch.version.cuda)
    told: dict[str, Any] = dict(zip(("torch", "transformers", "cuda"), versions, strict=True))
    if not device.startswith("cuda"):
        return told | {"device": f"{device}: {torch.backends.cpu.get_cpu_capability()} {platform.processor()}"}
    properties = torch.cuda.get_device_properties(device)
    return told | {
        "device": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    counts = f"default: {EVALUATIONS}; --quick: {_QUICK_EVALUATIONS}"
    parser.add_argument("--evaluations", type=int, metavar="N", help=f"of each run ({counts})")
    parser.add_argument("--quick", action="store_true", help="one round of 2 candidates, and short runs")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--model", choices=MODELS, default="roberta-large", help="default: %(default)s")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"no GPU: torch {torch.__version__} finds no CUDA device, so nothing was measured", file=sys.stderr)
        return NO_DEVICE
    log: Any = hub_logging
    log.disable_progress_bar()
    faulthandler.dump_traceback_later(LIMIT_S + _GRACE_S, exit=True)
    report = Report(args.json, {"model": args.model, **environment(args.device), "parts": {}, "bars": []})
    evaluations = args.evaluations or (_QUICK_EVALUATIONS if args.quick else EVALUATIONS)
    measure(report, device=args.device, model=args.model, quick=args.quick, evaluations=evaluations)
    faulthandler.cancel_dump_traceback_later()
    report.found["passed"] = report.passed
    tell(report.found, "benchmarks.gpu", args.json)
    for one in report.found["bars"]:
        print(f"{'passed' if one['passed'] else 'FAILED'}  {one['what']}: {one['measured']} ({one['bar']})")
    return 0 if report.passed else NOT_PASSED


if __name__ == "__main__":
    sys.exit(main())
