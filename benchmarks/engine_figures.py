"""From measured rounds to figures: ratios, the share of the peak, and what could be reached, beside the bars.

How far ahead of naive anything can be depends on the machine, since naive runs on torch's own matrix products: the
ceiling is the ratio of the two ways' operations, times the peak over what naive reaches. The share of the peak that the
engine reaches is the share of that ceiling, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.engine_models import Corpus
from benchmarks.engine_variants import Variant
from lmaas_backends.roberta.flops import WAYS, ModelShape

__all__ = ["BARS", "Bar", "Round", "Setting", "figures_of", "other_bars", "table"]

PEAK_BAR, ERROR_BAR = (0.75, 0.88), 1e-5
_LARGE = ("roberta-large", "table", "packed")
MEMORY_BARS = {"float32": (1.9, 1.7), "bfloat16": (1.2, 1.0)}


@dataclass(frozen=True, slots=True)
class Bar:
    """What a ratio to naive must reach, and what is aimed at."""

    bar: float
    aim: float | None = None


BARS = {
    ("roberta-large", "table", "packed"): Bar(3.0, 3.5),
    ("roberta-large", "table", "bf16"): Bar(5.0, 6.5),
    ("roberta-large", "sst2", "packed"): Bar(3.8),
    ("roberta-base", "table", "packed"): Bar(3.8, 4.5),
    ("roberta-base", "table", "bf16"): Bar(6.5),
    ("4x256", "table", "packed"): Bar(15.0),
    ("roberta-tiny", "table", "packed"): Bar(6.0),
}


@dataclass(frozen=True, slots=True)
class Round:
    """One round: seconds of each variant, FLOP/s of the peak by dtype, largest error against naive's logits."""

    seconds: Mapping[str, float]
    peaks: Mapping[str, float]
    errors: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a row of figures was measured with."""

    model: str
    shape: ModelShape
    corpus: Corpus
    candidates: int
    threads: int

    def operations(self, way: str) -> int:
        return WAYS[way](self.shape, self.corpus.work(self.candidates))


def figures_of(setting: Setting, variants: Sequence[Variant], rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """A row for each variant; medians of what each round gave by itself."""
    return [_row(setting, variant, rounds) for variant in variants]


def _row(setting: Setting, variant: Variant, rounds: Sequence[Round]) -> dict[str, Any]:
    operations, naive = setting.operations(variant.way), setting.operations("naive")
    seconds = [one.seconds[variant.name] for one in rounds]
    ratios = [one.seconds["naive"] / one.seconds[variant.name] for one in rounds]
    peaks = [one.peaks[variant.dtype] for one in rounds]
    # The ratio of something that does the engine's operations at the peak.
    ceilings = [
        (naive / setting.operations("engine")) * (peak / (naive / one.seconds["naive"]))
        for peak, one in zip(peaks, rounds, strict=True)
    ]
    bar = BARS.get((setting.model, setting.corpus.name, variant.name))
    return {
        "model": setting.model,
        "lengths": setting.corpus.name,
        "threads": setting.threads,
        "clock": "CPU" if setting.threads == 1 else "wall",
        "variant": variant.name,
        "way": variant.way,
        "dtype": variant.dtype,
        "candidates": setting.candidates,
        "seconds": [round(one, 4) for one in seconds],
        "gflop": round(operations / 1e9, 3),
        "gflop_a_second": round(median(operations / one for one in seconds) / 1e9, 1),
        "peak_gflop_a_second": round(median(peaks) / 1e9, 1),
        "of_peak": round(median(operations / one / peak for one, peak in zip(seconds, peaks, strict=True)), 3),
        "bar": bar.bar if bar else None,
        "aim": bar.aim if bar else None,
        "ratio": round(median(ratios), 2),
        "ceiling": round(median(ceilings), 2) if variant.way == "engine" else None,
        "max_error": float(f"{max(one.errors[variant.name] for one in rounds):.2g}"),
    }


def other_bars(rows: Sequence[Mapping[str, Any]], memory: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The bars that are no ratios, where they were measured: share of the peak, error, memory."""
    found = []
    large = [row for row in rows if (row["model"], row["lengths"], row["variant"]) == _LARGE]
    for row in large:
        what = f"roberta-large, useful FLOP/s over the peak, {row['threads']} threads"
        found.append({"what": what, "bar": f">= {PEAK_BAR[0]}", "aim": PEAK_BAR[1], "measured": row["of_peak"]})
    errors = [row["max_error"] for row in rows if row["way"] == "engine" and row["dtype"] == "float32"]
    if errors:
        what = "largest error of a logit, float32"
        found.append({"what": what, "bar": f"<= {ERROR_BAR:g}", "aim": None, "measured": max(errors)})
    for one in memory:
        bar, aim = MEMORY_BARS[one["dtype"]]
        what = f"roberta-large, GB of memory while it scores, {one['dtype']}"
        found.append({"what": what, "bar": f"<= {bar}", "aim": aim, "measured": one["scoring_gb"]})
    return found


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as a Markdown table; what is not there is left empty."""
    lines = ["| " + " | ".join(name.replace("_", " ") for name in columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = ("" if row[name] is None else str(row[name]) for name in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
