"""The tables of `benchmarks.dev_choice`: held-out accuracy, what decides among candidates, and when to stop."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CE", "Table", "plateaus", "rules", "settings"]

_PATIENCE = (5, 10, 15, 20, 30, 50)  # generations without a better choice
_LOOK = 5  # generations between two looks at dev, in the tables
CE, METRIC = f"ce {_LOOK}", f"metric {_LOOK}"  # rules: what decides, and how often dev is looked at
PAPERS = "metric 10"  # the rule of the preset `paper`
_ACCURACY, _GENERATION = -1, 0  # in a row of what was chosen
_DRAWS = 10_000


@dataclass(frozen=True)
class Table:
    """The runs of one comparison, by setting and seed: one task, one number of shots, as they stood at one budget."""

    title: str
    evaluations: int
    cells: Mapping[tuple[str, int], Mapping[str, Any]]

    @property
    def settings(self) -> list[str]:
        return list(dict.fromkeys(setting for setting, _ in self.cells))

    def of(self, setting: str) -> dict[int, Mapping[str, Any]]:
        """The cells of a setting, by seed."""
        return {seed: cell for (name, seed), cell in self.cells.items() if name == setting}

    def accuracy(self, cell: Mapping[str, Any], rule: str) -> float:
        """In per cent, of what a rule chose at the end."""
        return 100 * float(cell["chosen"][f"{rule} at {self.evaluations}"][_ACCURACY])


def settings(table: Table) -> str:
    """A line a setting: by cross entropy and by metric on dev, against `paper` as it is, and what it cost."""
    cells = [cell for _, cell in sorted(table.cells.items())]
    heads = (
        "setting", "seeds", "by dev cross entropy", "minus `paper`, paired", "by dev metric", "best on train",
        "last mean", "found at evaluation", "thousand tokens",
    )  # fmt: skip
    lines = [
        f"### {table.title}\n",
        f"{cells[0]['rows']} held-out rows; the manual prompt has {100 * cells[0]['manual']:.1f}.\n",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    return "\n".join([*lines, *(_setting(table, name) for name in table.settings)])


def _setting(table: Table, name: str) -> str:
    cells, paper = table.of(name), table.of("paper")
    shown = {rule: [table.accuracy(cell, rule) for cell in cells.values()] for rule in (CE, METRIC, "train", "mean")}
    differences = [
        table.accuracy(cells[seed], CE) - table.accuracy(paper[seed], PAPERS)
        for seed in sorted(cells.keys() & paper.keys())
    ]
    found = [_evaluation(cell, cell["chosen"][f"{CE} at {table.evaluations}"]) for cell in cells.values()]
    spent = [_tokens(cell, table.evaluations) / 1000 for cell in cells.values()]
    by_ce, *others = map(mean_and_spread, shown.values())
    row = [name, str(len(cells)), by_ce, with_interval(differences), *others]
    return f"| {' | '.join(row)} | {statistics.mean(found):.0f} | {statistics.mean(spent):.0f} |"


def _evaluation(cell: Mapping[str, Any], row: Sequence[Any]) -> int:
    return int((row[_GENERATION] + 1) * cell["population"])


def _tokens(cell: Mapping[str, Any], evaluations: int) -> float:
    """Of a whole run with two candidates scored on dev every `_LOOK` generations."""
    looks = evaluations // cell["population"] // _LOOK
    return float(evaluations * cell["tokens_an_evaluation"] + 2 * looks * cell["tokens_a_dev_score"])


def mean_and_spread(values: Sequence[float]) -> str:
    spread = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def with_interval(differences: Sequence[float]) -> str:
    """The mean and its 95 % bootstrap interval over the seeds."""
    if not differences:
        return "-"
    drawn = np.random.default_rng(0).choice(differences, (_DRAWS, len(differences))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{statistics.mean(differences):+.1f} [{low:+.1f}, {high:+.1f}]"


def rules(cells: Iterable[Mapping[str, Any]]) -> str:
    """A line a budget: the held-out accuracy of what each rule chooses, over all runs that reach it."""
    found: dict[int, dict[str, list[float]]] = {}
    for cell in cells:
        for name, row in cell["chosen"].items():
            rule, _, mark = name.partition(" at ")
            if mark:
                found.setdefault(int(mark), {}).setdefault(rule, []).append(100 * row[_ACCURACY])
    names = sorted(found[min(found)])
    lines = [f"| at evaluation | runs | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for mark, by_rule in sorted(found.items()):
        means = [f"{statistics.mean(by_rule[name]):.1f}" for name in names]
        lines.append(f"| {mark} | {len(by_rule[names[0]])} | {' | '.join(means)} |")
    return "\n".join(lines)


def plateaus(cells: Sequence[Mapping[str, Any]], rule: str) -> str:
    """What ending a run would have changed once dev has brought no better choice for so many generations."""
    head = f"| generations without a better {rule} on dev | runs | evaluations done | accuracy lost |"
    lines = [head, "|---|---|---|---|"]
    for patience in _PATIENCE:
        done, lost = zip(*(_ended(cell, rule, patience) for cell in cells), strict=True)
        lines.append(
            f"| {patience} | {len(cells)} | {100 * statistics.mean(done):.0f} % | {statistics.mean(lost):+.1f} |"
        )
    return "\n".join(lines)


def _ended(cell: Mapping[str, Any], rule: str, patience: int) -> tuple[float, float]:
    """The part of the evaluations that were done, and the held-out accuracy lost, in per cent."""
    best = [row for name, row in cell["chosen"].items() if name.startswith(f"{rule} record ")]
    kept = next(row for row, later in zip(best, [*best[1:], None], strict=True) if _waits(row, later, patience))
    last = cell["dev"][-1][_GENERATION]
    end = min(last, kept[_GENERATION] + patience)
    return (end + 1) / (last + 1), 100 * (best[-1][_ACCURACY] - kept[_ACCURACY])


def _waits(row: Sequence[Any], later: Sequence[Any] | None, patience: int) -> bool:
    """Whether the next better choice came too late."""
    return later is None or later[_GENERATION] - row[_GENERATION] > patience
