"""The tables as text, in the paper's layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lmaas_sdk.bench.accuracy import AccuracyTable, Score, ordered_tasks
from lmaas_sdk.bench.comparisons import MARGIN, Comparison, Comparisons
from lmaas_sdk.bench.paper import MODEL_OF_PAPER, PAPER_ACCURACY, PAPER_DEPLOYMENT, TASK_TITLES
from lmaas_sdk.bench.resampling import Difference
from lmaas_sdk.reporting.report_tables import Column, Table
from lmaas_sdk.reporting.report_words import duration

__all__ = [
    "MISSING",
    "accuracy_table",
    "chance_table",
    "comparison_tables",
    "deployment_tables",
    "score_words",
    "spent_table",
    "spent_words",
    "task_title",
]

MISSING = "missing"
_NOT_APPLICABLE = "n/a"
_METRICS = {"accuracy": "", "f1": " (F1)"}
_AS_PUBLISHED = f"{MODEL_OF_PAPER}, as published"
_DEPLOYMENT_SETTING = ("task", "max_length", "model", "seed", "train_rows", "test_rows")
_DEPLOYMENT_COLUMNS = (
    "deployment-efficient",
    "as-a-service",
    "test metric",
    "training time",
    "memory of the user",
    "memory of the server",
    "upload a query",
    "download a query",
)


def task_title(task: str, metric: str = "accuracy") -> str:
    """What a table calls a task: "MRPC (F1)"."""
    return TASK_TITLES.get(task, task) + _METRICS.get(metric, f" ({metric})")


def score_words(score: Score | None) -> str:
    """`84.92 +- 1.03`, in points; how many seeds of how many where some are missing."""
    if score is None:
        return MISSING
    spread = "" if score.std is None else f" +- {100 * score.std:.2f}"
    part = "" if score.is_whole else f" ({len(score.seeds)} of {score.wanted} seeds)"
    return f"{100 * score.mean:.2f}{spread}{part}"


def spent_words(score: Score | None) -> str:
    """`8,000 evaluations (1,200 done), 5 seeds, 872 rows`."""
    if score is None:
        return MISSING
    done = "" if score.limit is None or score.evaluations == score.limit else f" ({score.evaluations:,.0f} done)"
    budget = "no search" if score.limit is None else f"{score.limit:,} evaluations{done}"
    seeds = "no seed" if not score.seeds else f"{len(score.seeds)} seed{'s' if len(score.seeds) > 1 else ''}"
    return f"{budget}, {seeds}, {score.test_rows:,} rows"


def accuracy_table(table: AccuracyTable, *, with_paper: bool = False) -> Table:
    """Mean and standard deviation over seeds, in points.

    Args:
        table: What there is.
        with_paper: Whether what others published follows, of another model.
    """
    columns = (Column("method"), *_task_columns(table), Column(_average_title(table), True))
    rows = [
        (row.title, *(score_words(row.scores.get(task)) for task in table.tasks), _points(row.average(table.tasks)))
        for row in table.rows
    ]
    return Table(
        "Test metric: mean +- standard deviation over seeds",
        columns,
        tuple(rows + (_published(table.tasks) if with_paper else [])),
    )


def _task_columns(table: AccuracyTable) -> list[Column]:
    return [Column(task_title(task, table.metrics.get(task, "accuracy")), True) for task in table.tasks]


def _average_title(table: AccuracyTable) -> str:
    return "Avg." if len(table.tasks) == len(PAPER_ACCURACY["Manual Prompt"]) - 1 else f"Avg. of {len(table.tasks)}"


def _published(tasks: Sequence[str]) -> list[tuple[str, ...]]:
    is_whole = set(PAPER_ACCURACY["Manual Prompt"]) - {"average"} <= set(tasks)
    return [
        (
            f"{_AS_PUBLISHED}: {method}",
            *(f"{row[task]:.2f}" if task in row else _NOT_APPLICABLE for task in tasks),
            f"{row['average']:.2f}" if is_whole else _NOT_APPLICABLE,
        )
        for method, row in PAPER_ACCURACY.items()
    ]


def spent_table(table: AccuracyTable) -> Table:
    """What each cell stands for: evaluations allowed (and done, where searches ended early), seeds, test rows."""
    columns = (Column("method"), *(Column(column.title, is_prose=True) for column in _task_columns(table)))
    rows = ((row.title, *(spent_words(row.scores.get(task)) for task in table.tasks)) for row in table.rows)
    return Table("Budget, seeds and test rows of each cell", columns, tuple(rows), is_compared=True)


def chance_table(found: Comparisons) -> Table:
    """Which tasks are above chance."""
    columns = (
        Column("task"),
        Column("judged by"),
        *(Column(name, True) for name in ("accuracy", "majority class", "lead in standard errors")),
        Column("above chance"),
    )
    rows = tuple(
        (
            task_title(one.task),
            one.judge,
            _points(one.accuracy),
            _points(one.majority),
            f"{one.lead:+.1f}",
            "yes" if one.is_above else "no",
        )
        for one in found.above_chance
    )
    return Table("Above chance: by accuracy, and by what is not judged itself", columns, rows)


def comparison_tables(found: Comparisons, metrics: Mapping[str, str]) -> list[Table]:
    """The comparisons, those that there are; `metrics` are those of the tasks."""
    tables = []
    if manual := found.against_manual:
        caption = "Against the manual prompt: difference in points on the tasks above chance"
        tables.append(_compared(caption, "better", manual, [one.is_better for one in manual], metrics))
    if paper := found.against_paper:
        margin = f"not inferior by {100 * MARGIN:g} point"
        caption = "Against the paper's setting: difference in points"
        tables.append(_compared(caption, margin, paper, [one.is_not_inferior for one in paper], metrics))
    return tables


def _compared(
    title: str, ask: str, found: Sequence[Comparison], is_shown: Sequence[bool], metrics: Mapping[str, str]
) -> Table:
    tasks = ordered_tasks(task for one in found for task in (*one.tasks, *one.missing))
    columns = (
        Column("method"),
        Column("against"),
        *(Column(task_title(task, metrics[task]), True) for task in tasks),
        Column("average (95 %)", True),
        Column("seeds", True),
        Column(ask),
    )
    rows = tuple(
        (
            one.first,
            one.second,
            *(_difference(one.by_task.get(task)) for task in tasks),
            _difference(one.average),
            _seeds(one),
            "yes" if shown else "not shown",
        )
        for one, shown in zip(found, is_shown, strict=True)
    )
    return Table(title, columns, rows)


def _seeds(one: Comparison) -> str:
    counts = sorted({len(seeds) for seeds in one.tasks.values()})
    return " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))


def _difference(found: Difference | None) -> str:
    if found is None:
        return MISSING
    return f"{100 * found.value:+.2f} ({100 * found.low:+.2f} .. {100 * found.high:+.2f})"


def _points(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.2f}"


def deployment_tables(rows: Sequence[Mapping[str, Any]], *, with_paper: bool = False) -> list[Table]:
    """A table for each setting: what is in one was measured with the same model, on the same data.

    Args:
        rows: What `DeploymentRow.to_dict` says of each, and a digest of data and model as "inputs" if it is known.
        with_paper: Whether what the paper says of black-box tuning follows, of another model on other hardware.
    """
    by_setting: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        setting = tuple(row[name] for name in _DEPLOYMENT_SETTING)
        by_setting.setdefault((setting, row.get("inputs", "")), []).append(row)
    captions = Counter(setting for setting, _ in by_setting)
    return [
        _deployment_table(alike, with_paper=with_paper, inputs=str(inputs) if captions[setting] > 1 else "")
        for (setting, inputs), alike in by_setting.items()
    ]


def _deployment_table(rows: Sequence[Mapping[str, Any]], *, with_paper: bool, inputs: str) -> Table:
    """Of one setting; `inputs` tells it from another whose caption would be the same, "": there is none."""
    first, shown = rows[0], [_deployment_row(row) for row in rows]
    task = first["task"]
    if with_paper and task in PAPER_DEPLOYMENT:
        shown.append(_published_deployment(task))
    return Table(
        f"Deployment on {task_title(task)}, at most {first['max_length']} tokens a text: {first['model']}, "
        f"seed {first['seed']}, {first['train_rows']:,} training rows, {first['test_rows']:,} test rows"
        + (f", inputs {inputs[:8]}" if inputs else ""),
        (Column("method"), *(Column(name, True) for name in _DEPLOYMENT_COLUMNS)),
        tuple(shown),
    )


def _deployment_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row.get("configuration") or row["method"]),
        "yes" if row["deployment_efficient"] else "no",
        "yes" if row["as_a_service"] else "no",
        _points(row["test_metric"]),
        duration(row["training_time_s"]),
        _size(row["user_memory_bytes"]),
        _size(row["server_memory_bytes"]),
        _size(row["upload_bytes"]),
        _size(row["download_bytes"]),
    )


def _published_deployment(task: str) -> tuple[str, ...]:
    paper = PAPER_DEPLOYMENT[task]
    return (
        f"{_AS_PUBLISHED}, one RTX 3090: Black-Box Tuning",
        "yes",
        "yes",
        f"{PAPER_ACCURACY['Black-Box Tuning'][task]:.2f}",
        f"{paper['minutes']:g} min",
        _NOT_APPLICABLE,
        f"{paper['server_gb']:g} GB",
        f"{paper['upload_kb']:g} KB",
        f"{paper['download_kb']:g} KB",
    )


def _size(size_bytes: float | None) -> str:
    """Bytes in the largest unit that they fill, by thousands."""
    if size_bytes is None:
        return _NOT_APPLICABLE
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {name}"
    return f"{size_bytes:.0f} B"
