"""The paper's tables: what is there, what is missing, and what others have published."""

from __future__ import annotations

import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from bench_cases import SEARCH, cells, done_record, measured, records
from tuning_cases import SMALL, TEST, mock

from lmaas_sdk.bench import BenchReport, sweep_of
from lmaas_sdk.bench.paper import PAPER_ACCURACY
from lmaas_sdk.bench.results import DEPLOYMENT, done_cells
from lmaas_sdk.reporting.report_png import draw_png
from lmaas_sdk.tasks import PAPER_TASKS


def right(count: int) -> list[bool]:
    return [True] * count + [False] * (10 - count)


PAPER = [
    done_record("black-box:paper", seed=seed, evaluations=8000, right=right(count)) for seed, count in ((1, 8), (2, 9))
]


def lines(report: BenchReport, caption: str) -> list[list[str]]:
    """The rows of a table of the Markdown, below its head."""
    _, _, rest = report.markdown().partition(f"**{caption}")
    rows = [line for line in rest.split("\n\n")[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_a_cell_is_mean_and_standard_deviation_in_points() -> None:
    """Of the sample, over seeds; a single value has none."""
    found = lines(BenchReport.of([*PAPER, done_record("manual", right=right(5))]), "Test metric")
    spread = 100 * statistics.stdev([0.8, 0.9])
    assert found == [
        ["method", "SST-2", "Avg. of 1"],
        ["---", "---:", "---:"],
        ["Manual", "50.00", "50.00"],
        ["Black-Box:Paper, 8,000 evaluations", f"85.00 +- {spread:.2f}", "85.00"],
    ]


def test_each_cell_says_budget_seeds_and_rows() -> None:
    """And what a search that ended early has done."""
    early = done_record("black-box:default", seed=1, evaluations=2000) | {"evaluations": 1240}
    found = lines(BenchReport.of([*PAPER, early, done_record("manual")]), "Budget")
    assert [row[1] for row in found[2:]] == [
        "no search, no seed, 10 rows",
        "8,000 evaluations, 2 seeds, 10 rows",
        "2,000 evaluations (1,240 done), 1 seed, 10 rows",
    ]


def test_what_is_missing_is_shown_as_missing() -> None:
    """A row, a column or a seed of the plan; nothing is averaged over it."""
    wanted = {("black-box:paper@8000", "sst2"): 3, ("black-box:paper@8000", "rte"): 3, ("in-context", "rte"): 3}
    report = BenchReport.of(PAPER, wanted=wanted)
    found = lines(report, "Test metric")
    assert found[0][1:] == ["SST-2", "RTE", "Avg. of 2"]
    assert found[2:] == [
        ["In-Context Learning", "missing", "missing", "missing"],
        ["Black-Box:Paper, 8,000 evaluations", "85.00 +- 7.07 (2 of 3 seeds)", "missing", "missing"],
    ]
    assert report.to_dict()["accuracy"]["rows"][0]["tasks"] == {"sst2": None, "rte": None}


def test_a_row_that_is_missing_has_its_title() -> None:
    """As it will be called once it is there; what nobody knows any more keeps its name."""
    names = {"prompt-tuning": "Prompt Tuning"}
    names |= {"black-box:default@2000": "Black-Box Tuning (default), 2,000 evaluations", "gone": "gone"}
    wanted = dict.fromkeys(((name, "sst2") for name in names), 1)
    assert [row.title for row in BenchReport.of([], wanted=wanted).accuracy.rows] == list(names.values())


def test_columns_stand_in_the_papers_order() -> None:
    """With its average over all seven, which is the mean of the columns."""
    given = [done_record("manual", task=task, right=right(n + 3)) for n, task in enumerate(sorted(PAPER_TASKS))]
    found = lines(BenchReport.of(given), "Test metric")
    assert found[0][1:] == ["SST-2", "Yelp P.", "AG's News", "DBPedia", "MRPC", "SNLI", "RTE", "Avg."]
    assert found[2][-1] == f"{statistics.mean(range(30, 100, 10)):.2f}"


def test_comparisons_have_the_columns_of_the_first_table() -> None:
    """In its order, whichever task a comparison has first, and with their metrics."""
    rows = [
        done_record(name, task=task, seed=1, evaluations=2000, metric="f1" if task == "mrpc" else "accuracy")
        for name, tasks in (("black-box:default", ("rte", "mrpc")), ("black-box:paper", ("rte", "mrpc", "yelp")))
        for task in tasks
    ]
    report = BenchReport.of(rows)
    of_paper = lines(report, "Against the paper's setting")[0]
    assert of_paper[2:5] == ["Yelp P.", "MRPC (F1)", "RTE"] == lines(report, "Test metric")[0][1:4]


def test_published_figures_are_marked_as_another_models() -> None:
    """Only where they are asked for."""
    assert "RoBERTa-large" not in BenchReport.of(PAPER).markdown()
    report = BenchReport.of(PAPER, with_paper=True)
    published = [row for row in lines(report, "Test metric") if row[0].startswith("RoBERTa-large, as published: ")]
    assert published[0][1:] == ["79.82", "n/a"]
    assert len(published) == len(PAPER_ACCURACY)
    assert "- Figures as published are of RoBERTa-large, another model." in report.markdown()


def test_published_averages_are_those_of_their_columns() -> None:
    """To the digits that were published."""
    for row in PAPER_ACCURACY.values():
        assert statistics.mean(row[task] for task in PAPER_TASKS) == pytest.approx(row["average"], abs=0.011)


def test_budgets_that_share_the_tasks_make_a_row_together() -> None:
    """Where none of them has all tasks; each has its own row too."""
    given = [
        *PAPER,
        done_record("black-box:paper", seed=1, evaluations=2000, right=right(6)),
        done_record("black-box:paper", task="rte", seed=1, evaluations=2000, right=right(7)),
    ]
    found = lines(BenchReport.of(given), "Test metric")
    assert [row[0] for row in found[2:]] == [
        "Black-Box:Paper, 2,000 evaluations",
        "Black-Box:Paper, 8,000 evaluations",
    ]
    only = [one for one in given if (one["task"], one["evaluations_limit"]) != ("sst2", 2000)]
    found = lines(BenchReport.of(only), "Test metric")
    assert found[2] == ["Black-Box:Paper, its most evaluations", "85.00 +- 7.07", "70.00", "77.50"]
    assert [row[1:] for row in found[3:]] == [["missing", "70.00", "missing"], ["85.00 +- 7.07", "missing", "missing"]]


def test_what_was_measured_otherwise_is_left_out_and_told() -> None:
    """Other test rows, another model: most cells win."""
    other = done_record("manual", right=right(1)) | {"digests": {"test": "other rows"}}
    report = BenchReport.of([*PAPER, other])
    assert [row.title for row in report.accuracy.rows] == ["Black-Box:Paper, 8,000 evaluations"]
    assert report.accuracy.notes[0].startswith("sst2: 1 cells on another model, other test rows")


def test_a_cell_measured_again_counts_once() -> None:
    """The latest; what failed or was interrupted counts not at all."""
    again = {**PAPER[0], **done_record("black-box:paper", seed=1, evaluations=8000, right=right(10))}
    failed = {**PAPER[1], "status": "failed"}
    (row,) = BenchReport.of([*PAPER, again, failed]).accuracy.rows
    assert row.scores["sst2"].values == (1.0, 0.9)


DEPLOYED = {
    "configuration": "manual",
    "method": "manual",
    "task": "sst2",
    "max_length": 47,
    "model": "roberta-tiny",
    "seed": 42,
    "train_rows": 32,
    "test_rows": 1000,
    "deployment_efficient": True,
    "as_a_service": True,
    "test_metric": 0.8,
    "training_time_s": 606.0,
    "user_memory_bytes": 30_000_000,
    "server_memory_bytes": 3_000_000_000,
    "upload_bytes": 6123,
    "download_bytes": None,
}


def test_deployment_has_the_papers_columns() -> None:
    """A table a task, in units that people read; what there is none of is said to be so."""
    record = {"kind": DEPLOYMENT, "status": "done", "key": "d", "row": DEPLOYED}
    report = BenchReport.of([record], with_paper=True)
    setting = "roberta-tiny, seed 42, 32 training rows, 1,000 test rows"
    found = lines(report, f"Deployment on SST-2, at most 47 tokens a text: {setting}**")
    expected = ["manual", "yes", "yes", "80.00", "10 min 6 s", "30 MB", "3 GB", "6.12 KB", "n/a"]
    assert found[2] == expected
    assert found[3][1:] == ["yes", "yes", "89.56", "10.1 min", "n/a", "3 GB", "6 KB", "0.25 KB"]
    assert report.to_dict()["deployment"] == [DEPLOYED]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("max_length", 20, "at most 20 tokens a text: roberta-tiny, seed 42, 32 training rows, 1,000 test rows"),
        ("model", "tiny", "at most 47 tokens a text: tiny, seed 42, 32 training rows, 1,000 test rows"),
        ("seed", 7, "at most 47 tokens a text: roberta-tiny, seed 7, 32 training rows, 1,000 test rows"),
        ("train_rows", 8, "at most 47 tokens a text: roberta-tiny, seed 42, 8 training rows, 1,000 test rows"),
        ("test_rows", 16, "at most 47 tokens a text: roberta-tiny, seed 42, 32 training rows, 16 test rows"),
    ],
)
def test_deployment_measured_otherwise_has_a_table_of_its_own(name: str, value: object, told: str) -> None:
    """Whose caption says how; what was measured alike stands together."""
    rows = [DEPLOYED, DEPLOYED | {name: value}, DEPLOYED | {"configuration": "in-context"}]
    records = [{"kind": DEPLOYMENT, "status": "done", "key": str(n), "row": row} for n, row in enumerate(rows)]
    report = BenchReport.of(records)
    assert [[row[0] for row in table.rows] for table in report.tables()] == [["manual", "in-context"], ["manual"]]
    assert f"**Deployment on SST-2, {told}**" in report.markdown()


async def test_everything_is_written(tmp_path: Path) -> None:
    """Markdown, JSON without every single prediction, and a page that needs nothing else."""
    await measured(tmp_path, mock())
    report = BenchReport.of(await records(tmp_path))
    written = await asyncio.to_thread(report.write, tmp_path / "report")
    assert [path.name for path in written] == ["bench.md", "bench.json", "bench.html"]
    page = (await asyncio.to_thread(report.html)).decode()
    assert "<svg" in page
    assert "<script" not in page
    told = json.loads(json.dumps(report.to_dict()))
    assert {"labels", "predictions"} & told["cells"][0]["test"].keys() == set()
    assert len(told["cells"]) == 2


async def test_a_sweep_shows_the_effect_of_one_setting(tmp_path: Path) -> None:
    """A row a value, with a picture; a value that is the preset's own is not measured again."""
    await measured(tmp_path, mock(), [SEARCH])
    sweep = sweep_of("d", SMALL, [10, 20])
    ended = await measured(tmp_path, mock(), sweep.configurations)
    assert [one.cell.row for one in ended] == ["black-box:small[d=10]@40"] * 2
    done = done_cells(await records(tmp_path))
    result = sweep.result(cells(mock().card, sweep.configurations), done)
    report = BenchReport.of(await records(tmp_path), sweeps=[result])
    found = lines(report, "Effect of the dimensions of the search, d, on black-box:small@40**")
    assert [row[0] for row in found[2:]] == ["10", "20"]
    spent = lines(report, "Budget, seeds and test rows: the dimensions of the search, d, on black-box:small@40**")
    assert [row[1] for row in spent[2:]] == [f"40 evaluations, 2 seeds, {len(TEST)} rows"] * 2
    assert report.markdown().startswith("On mock.\n")
    assert [row.title for row in report.accuracy.rows] == ["Black-Box Tuning (small), 40 evaluations"]
    (panel,) = result.figure().panels
    assert [curve.x for curve in panel.curves] == [(10.0, 20.0)] * 3
    mean, above, below = (curve.y for curve in panel.curves)
    assert [up - middle for up, middle in zip(above, mean, strict=True)] == pytest.approx(
        [middle - down for middle, down in zip(mean, below, strict=True)]
    )
    written = await asyncio.to_thread(report.write, tmp_path / "report")
    assert written[-1].name == "bench-sweep-d-black-box-small-40.png"


async def test_sweeps_are_found_in_the_results_alone(tmp_path: Path) -> None:
    """As they came to, and with what was measured of the preset's own value on the same tasks with the same seeds."""
    sweep = sweep_of("d", SMALL, [10, 20])
    await measured(tmp_path, mock(), [SEARCH, *sweep.configurations])
    await measured(tmp_path, mock(), sweep_of("loss", SMALL, ["hinge"]).configurations, seeds=[1])
    found = await records(tmp_path)
    asked = sweep.result(cells(mock().card, sweep.configurations), done_cells(found))
    by_d, by_loss = BenchReport.of(found).sweeps
    assert by_d == asked
    assert (by_loss.name, by_loss.values) == ("loss", ("ce", "hinge"))
    assert [[len(score.seeds) for score in scores.values()] for scores in by_loss.scores] == [[1], [1]]


def test_a_presets_own_value_is_the_preset_wherever_it_is_measured() -> None:
    """So that it is in every table, measured for a sweep or not."""
    own, other = sweep_of("d", SMALL, [SMALL.d, 10]).configurations
    assert (own.name, own.swept) == (SEARCH.name, None)
    assert (other.name, other.swept) == ("black-box:small[d=10]", ("d", "black-box:small"))


def swept(setting: str, value: object, **more: Any) -> dict[str, Any]:
    """A record of a cell of a sweep of `black-box:paper`."""
    field = {"d": "d", "projection": "projection"}[setting]
    settings = {**more.pop("settings", {}), field: value}
    name = f"black-box:paper[{setting}={value}]"
    return done_record(name, settings=settings, sweep=[setting, "black-box:paper"], evaluations=8000, **more)


def test_words_that_a_sweep_does_not_try_by_itself_come_last() -> None:
    """Uploaded projections, say."""
    (sweep,) = BenchReport.of([swept("projection", word, seed=1) for word in ("b1", "normal", "a1")]).sweeps
    assert sweep.values == ("normal", "a1", "b1")


def test_the_picture_of_a_sweep_is_in_points() -> None:
    """As its table is; words have marks and no line between them, numbers have both."""
    given = [
        *(swept("projection", word, seed=1, right=right(n)) for word, n in (("normal", 5), ("uniform", 7))),
        *(swept("d", d, seed=1, right=right(n)) for d, n in ((50, 5), (100, 7))),
    ]
    by_word, by_number = (sweep.figure() for sweep in BenchReport.of(given).sweeps)
    (words,), (numbers,) = by_word.panels, by_number.panels
    assert (words.names, words.curves[0].y) == (("uniform", "normal"), (70.0, 50.0))
    assert (numbers.curves[0].x, numbers.curves[0].y) == ((50.0, 100.0), (50.0, 70.0))
    assert {curve.look.width for curve in words.curves} == {0}
    assert all(curve.look.marker for curve in words.curves)
    assert all(curve.look.width > 0 for curve in numbers.curves)
    caption = "Test metric in points of black-box:paper@8000 by projection: SST-2"
    assert caption == words.caption(by_word.title)
    assert f"<figcaption>{caption}</figcaption>" in BenchReport.of(given).html().decode()


def test_the_picture_of_a_sweep_has_everything_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The label beside it, the marks of every task, and the name of each task and word."""
    given = [
        swept("projection", word, task=task, seed=1, right=right(n))
        for task, n in (("sst2", 9), ("rte", 3))
        for word in ("normal", "uniform")
    ]
    (sweep,) = BenchReport.of(given).sweeps
    from matplotlib.figure import Figure as Canvas

    drawn, saved = list[Canvas](), Canvas.savefig

    def save(self: Canvas, *given: Any, **named: Any) -> None:
        drawn.append(self)
        saved(self, *given, **named)

    monkeypatch.setattr(Canvas, "savefig", save)
    draw_png(sweep.figure())
    (canvas,) = drawn
    label = canvas.axes[0].yaxis.label.get_window_extent()
    assert 0 <= label.y0 < label.y1 <= canvas.bbox.height
    for axes, value in zip(canvas.axes, (90, 30), strict=True):
        assert axes.get_ylim()[0] < value < axes.get_ylim()[1]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["uniform", "normal"]
    assert [axes.get_title() for axes in canvas.axes] == ["SST-2", "RTE"]


def test_a_name_alone_makes_no_sweep() -> None:
    """A preset may be called as its author likes."""
    report = BenchReport.of([done_record("black-box:mine[v=2]", seed=1), done_record("other[d=3]", seed=1)])
    assert (len(report.sweeps), len(report.accuracy.rows)) == (0, 2)


def test_what_is_no_part_of_a_sweep_is_not_shown_in_it() -> None:
    """The plain search with more seeds and on more tasks."""
    plain = [done_record("black-box:paper", task=task, seed=seed, evaluations=8000) for task in ("sst2", "mrpc")
             for seed in (1, 2)]  # fmt: skip
    (sweep,) = BenchReport.of([*plain, swept("d", 50, seed=1)]).sweeps
    assert (sweep.values, sweep.tasks) == ((50, 500), ("sst2",))
    assert [[score.seeds for score in scores.values()] for scores in sweep.scores] == [[(1,)], [(1,)]]


def test_each_model_has_a_sweep_of_its_own() -> None:
    """And so have presets of one name with other settings; every one has its table and its picture."""
    others: list[dict[str, Any]] = [{"model": {"name": "large"}}, {"settings": {"sigma0": 2.0}}]
    report = BenchReport.of([swept("d", 50, seed=1), *(swept("d", 50, seed=1, note=str(o), **o) for o in others)])
    assert [sweep.models for sweep in report.sweeps] == [("roberta-tiny",), ("large",), ("roberta-tiny",)]
    assert report.markdown().count("**Effect of the dimensions of the search, d") == 3
    assert 3 == len([name for name in report._with_extras() if name.endswith(".png")])


def test_tables_over_several_models_say_so() -> None:
    """Which tasks were measured on which."""
    large = done_record(task="rte", model={"name": "large"})
    assert (
        "measured on 2 models: sst2 on roberta-tiny; rte on large" in BenchReport.of([done_record(), large]).markdown()
    )


def test_a_page_names_the_model_of_what_it_has() -> None:
    """Of deployment alone, too; nothing measured is no model."""
    record = {"kind": DEPLOYMENT, "status": "done", "key": "d", "row": DEPLOYED}
    assert b"On roberta-tiny." in BenchReport.of([record]).html()
    assert BenchReport.of([]).markdown() == "The results file has no results yet.\n"


def test_words_are_swept_as_well() -> None:
    """Each has its place in the picture, with its name."""
    sweep = sweep_of("loss", SMALL)
    planned = cells(mock().card, sweep.configurations)
    result = sweep.result(planned, done_cells([]))
    assert (panel := result.figure().panels[0]).names == ("ce", "hinge", "metric")
    assert (panel.x_label, panel.curves) == ("loss", ())
    assert [row[1] for row in result.tables()[0].rows] == ["missing"] * 3
    settings = [one.settings(mock().card).get("objective", "ce") for one in sweep.configurations]
    assert settings == ["ce", "hinge", "metric"]


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("sigma", None, "a sweep is of d, L, population, projection, loss, not 'sigma'"),
        ("d", [5, 5], "values, each once"),
        ("d", [], "values, each once"),
        ("population", [3], "at least 4, not 3"),
        ("projection", ["cubic"], "cubic"),
    ],
)
def test_a_sweep_of_nonsense_is_refused(name: str, values: list[Any] | None, complaint: str) -> None:
    """Before anything is measured."""
    with pytest.raises(ValueError, match=complaint):
        sweep_of(name, SMALL, values)
