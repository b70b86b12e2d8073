"""`lmaas bench`: a plan, its slices, and what is printed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmaas_backends.mock import MockBackend
from lmaas_sdk import ModelCard
from lmaas_sdk.bench import ResultsFile, read_results
from lmaas_sdk.cli import bench_deployment, main
from lmaas_sdk.cli.bench_options import lengths_of
from lmaas_sdk.errors import BackendUnavailable, LmaasError, TaskError, UnknownTask, Unsupported

MORE = ("--methods", "manual,black-box:sep-tpa@60", "--seeds", "1,2", "--shots", "3", "--model", "mock")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the splits of SST-2 and of MRPC, in GLUE's own layout, in `data`."""
    monkeypatch.chdir(tmp_path)
    for task, head in {"SST-2": "sentence\tlabel", "MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"}.items():
        (tmp_path / "data" / task).mkdir(parents=True)
        for split in ("train", "dev"):
            words = [f"{split} text {n} is {('awful', 'lovely')[n % 2]}" for n in range(24)]
            rows = [
                f"{text}\t{n % 2}" if task == "SST-2" else f"{n % 2}\t{n}\t{n}\t{text}\t{text}"
                for n, text in enumerate(words)
            ]
            (tmp_path / "data" / task / f"{split}.tsv").write_text("\n".join([head, *rows]) + "\n")
    return tmp_path


def bench(*more: str, tasks: str | None = "sst2,mrpc") -> int:
    on = () if tasks is None else ("--tasks", tasks)
    return main(["bench", "--data", "data", *on, *MORE, *more])


def deployment(*more: str) -> int:
    return bench("--seeds", "1", "--deployment", *more, tasks=None)


def test_a_plan_is_measured_and_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a cell on stderr, the paper's layout on stdout; the second time the same, and nothing is measured."""
    assert bench("--jobs", "2") == 0
    first = capsys.readouterr()
    assert "0 of 6 cells are done, in bench.jsonl\n" in first.err
    assert first.err.count(": done ") == 6
    assert "sst2, black-box:sep-tpa@60, seed 1: done " in first.err
    assert "| method | SST-2 | MRPC (F1) | Avg. of 2 |" in first.out
    assert "60 evaluations, 2 seeds, 24 rows" in first.out
    size = (folder / "bench.jsonl").stat().st_size
    assert bench() == 0
    second = capsys.readouterr()
    assert (second.out, size) == (first.out, (folder / "bench.jsonl").stat().st_size)
    assert second.err == "6 of 6 cells are done, in bench.jsonl\n" * 2


def test_a_report_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From what there is, without data or a model; as JSON too."""
    assert bench(tasks="sst2") == 0
    printed = capsys.readouterr().out
    assert main(["bench", "--tables", "--report", "out"]) == 0
    assert capsys.readouterr().out == printed
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["bench.html", "bench.json", "bench.md"]
    assert main(["bench", "--tables", "--json", "--paper"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((folder / "out" / "bench.json").read_text())
    assert len(told["cells"]) == 3


def test_a_file_without_results_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was made, and into which nothing was measured yet."""
    with ResultsFile(folder / "bench.jsonl"):
        pass
    assert main(["bench", "--tables"]) == 0
    assert capsys.readouterr().out == "The results file has no results yet.\n\n"


def test_a_slice_without_time_measures_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends as a budget does, with tables that say what is missing."""
    assert bench("--minutes", "0") == 3
    printed = capsys.readouterr()
    assert "0 of 6 cells are done" in printed.err.splitlines()[-1]
    assert "| Manual Prompt | missing | missing | missing |" in printed.out


def test_a_budget_that_ends_leaves_the_rest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For another time, with a larger one."""
    assert bench("--budget-evaluations", "100", "--ledger", "ledger.db", tasks="sst2") == 3
    assert [record["status"] for record in read_results(folder / "bench.jsonl")] == ["done", "done", "cut"]
    assert bench(tasks="sst2") == 0


def test_a_search_with_too_few_evaluations_fails_by_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot be measured as asked, whatever there is to spend; the others are."""
    methods = ("--methods", "black-box:sep-tpa@2,manual", "--seeds", "1", "--budget-evaluations", "100")
    assert bench(*methods, tasks="sst2") == 2
    assert [record["status"] for record in read_results(folder / "bench.jsonl")] == ["failed", "done"]
    assert "sst2, black-box:sep-tpa@2, seed 1: failed BudgetTooSmall: " in capsys.readouterr().err


def test_a_dry_run_lists_what_there_is_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what the searches are expected to take; nothing is measured."""
    assert bench("--dry-run", tasks="sst2") == 0
    *labels, costs = capsys.readouterr().out.splitlines()
    assert labels == ["sst2, manual", "sst2, black-box:sep-tpa@60, seed 1", "sst2, black-box:sep-tpa@60, seed 2"]
    assert costs.startswith("the searches are expected to take ")
    assert bench("--dry-run", "--json", tasks="sst2") == 0
    told = json.loads(capsys.readouterr().out)
    assert (len(told["missing"]), told["cells_without_estimate"], told["tokens"] > 0) == (3, 1, True)
    assert [path.name for path in folder.iterdir()] == ["data"]


def test_a_dry_run_tells_what_cannot_be_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too few evaluations, or no weights to train, beside what can be; it ends as the run itself would."""
    methods = ("--methods", "manual,model-tuning,black-box:sep-tpa@2", "--seeds", "1")
    assert bench("--dry-run", *methods, tasks="sst2") == 2
    printed = capsys.readouterr()
    labels = ["sst2, manual", "sst2, model-tuning, seed 1", "sst2, black-box:sep-tpa@2, seed 1"]
    assert printed.out.splitlines()[:3] == labels
    for label in labels[1:]:
        assert f"{label}: cannot be measured: " in printed.err


def test_a_dry_run_leaves_everything_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a slice that is under way, too; it makes no ledger and no cache."""
    assert bench("--methods", "manual", tasks="sst2") == 0
    content = (folder / "bench.jsonl").read_bytes()
    with ResultsFile(folder / "bench.jsonl"):
        assert bench("--dry-run", "--ledger", "ledger.db", "--cache", "cache.db", tasks="sst2") == 0
        assert "1 of 3 cells are done, in bench.jsonl\n" in capsys.readouterr().err
    assert (folder / "bench.jsonl").read_bytes() == content
    assert sorted(path.name for path in folder.iterdir()) == ["bench.jsonl", "bench.jsonl.work", "data"]


def test_a_sweep_is_measured_and_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the method given; its values have a table of their own."""
    command = ["--sweep", "d", "--values", "5,10", "--methods", "black-box:sep-tpa@40", "--report", "out"]
    assert bench(*command, tasks="sst2") == 0
    printed = capsys.readouterr().out
    assert "**Effect of the dimensions of the search, d, on black-box:sep-tpa@40**" in printed
    first = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert first == ["d", "---:", "5", "10"] * 2
    assert "bench-sweep-d-black-box-sep-tpa-40.png" in [path.name for path in (folder / "out").iterdir()]
    for more in ((), ("--sweep", "d")):
        assert main(["bench", "--tables", *more]) == 0
        assert capsys.readouterr().out == printed
    assert main(["bench", "--tables", "--sweep", "L"]) == 2
    assert "bench.jsonl has no sweep of L" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--methods", "majority"], "a configuration is one of manual, "),
        (
            ["--methods", "black-box:default@-3"],
            "whole number of evaluations, at least 1, not as in 'black-box:default@",
        ),
        (["--methods", "black-box:default@"], "whole number of evaluations, at least 1"),
        (["--methods", "black-box:default@0"], "whole number of evaluations, at least 1"),
        (["--methods", "black-box:default@2.5"], "whole number of evaluations, at least 1"),
        (["--report", "data/SST-2/dev.tsv"], "--report is a folder, and data/SST-2/dev.tsv is a file: name another"),
        (["--report", "data/SST-2/dev.tsv/out"], "--report is a folder, and data/SST-2/dev.tsv is a file"),
        (["--seeds", "1,x"], "--seeds are numbers with commas between them, not '1,x'"),
        (["--seeds", "1,1"], "--seeds has one of them twice"),
        (["--seeds", ""], "--seeds are numbers with commas between them, not ''"),
        (["--tasks", ""], "no task ''"),
        (["--tasks", "imdb"], "no task 'imdb'"),
        (["--shots", "20"], "20 shots take 40 examples of each class"),
        (["--values", "1"], "--values are of a setting: say which by --sweep"),
        (["--sweep", "d", "--methods", "manual"], "--sweep varies one black-box:PRESET, not 'manual'"),
        (["--sweep", "d", "--methods", "black-box:paper", "--values", "x"], "--values of d are whole numbers"),
        (["--jobs", "0"], "1 or more, not 0"),
        (["--minutes", "-1"], "--minutes is how long this slice may take, 0 or more, not -1"),
        (["--minutes", "nan"], "0 or more, not nan"),
        (["--minutes", "inf"], "0 or more, not inf"),
        (["--budget-usd", "-1"], "not negative, not '-1'"),
        (["--deployment", "sst2"], "so leave out --tasks"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, more: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a line that says why."""
    assert bench(*more) == 2
    printed = capsys.readouterr().err
    assert printed.splitlines()[-1].startswith("lmaas bench: ")
    assert complaint in printed


def test_what_a_backend_cannot_do_fails_by_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mock has no weights to train, which was asked of it all the same; the others go on."""
    assert bench("--methods", "model-tuning,manual", "--seeds", "1", tasks="sst2") == 2
    printed = capsys.readouterr()
    assert re.search(r"^sst2, model-tuning, seed 1: failed Unsupported: ", printed.err, re.MULTILINE)
    assert "| Manual Prompt | " in printed.out


@pytest.mark.parametrize(
    ("command", "without"),
    [
        ("bench", "no limit that all share; each search has its --evaluations"),
        ("tune", "8000 evaluations"),
        ("estimate", "8000 evaluations"),
    ],
)
def test_help_says_what_limits_where_nobody_does(
    command: str, without: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run has a limit by itself, a benchmark one for each search."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"budget (hard limits; none of them given: {without}):\n" in capsys.readouterr().out


def test_data_have_to_be_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """The message says how to name them."""
    assert main(["bench"]) == 2
    assert "--data FOLDER or --hub (or --tables" in capsys.readouterr().err


def test_lengths_are_by_task() -> None:
    """As in the paper, by any name of a task."""
    assert lengths_of("SST-2:47,ag_news:107") == {"sst2": 47, "agnews": 107}
    with pytest.raises(UnknownTask):
        lengths_of("imdb:9")


def test_deployment_is_measured_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row by row, into the same file; what is there is not measured again."""
    asked: list[Any] = []

    async def measure(names: list[str], task: Any, *, on_row: Any, **options: Any) -> None:
        asked.append((names, task.name, options["max_length"], options["seed"]))
        for name in names:
            on_row(FakeRow(name, task.name, options["max_length"]))

    monkeypatch.setattr(bench_deployment, "measure_deployment", measure)
    for _ in range(2):
        assert deployment("sst2:47") == 0
    assert asked == [(["manual", "black-box:sep-tpa@60"], "sst2", 47, 1)]
    assert {record["environment"]["jobs"] for record in read_results(folder / "bench.jsonl")} == {1}
    assert (
        "**Deployment on SST-2, at most 47 tokens a text: mock, seed 1, 6 training rows, 9 test rows**"
        in capsys.readouterr().out
    )


def test_deployment_on_other_data_is_measured_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of other training or test rows are no figures of these; each has a table of its own."""
    monkeypatch.setattr(bench_deployment, "measure_deployment", fake_measure)
    only, pool = ("sst2:47", "--methods", "manual"), folder / "data" / "SST-2" / "train.tsv"
    for split in ("train", "dev"):
        assert deployment(*only) == 0
        path = folder / "data" / "SST-2" / f"{split}.tsv"
        before = path.read_text()
        path.write_text(before.replace(" is ", " was "))
        capsys.readouterr()
        assert deployment(*only, "--dry-run") == 0
        assert capsys.readouterr().out == "sst2 at 47 tokens, manual, seed 1\n"
        path.write_text(before)
        assert deployment(*only, "--dry-run") == 0
        assert capsys.readouterr().out == ""
    pool.write_text(pool.read_text().replace(" is ", " was "))
    assert deployment(*only) == 0
    captions = [line for line in capsys.readouterr().out.splitlines() if line.startswith("**Deployment")]
    assert len(captions) == len(set(captions)) == 2
    assert all(re.search(r", 9 test rows, inputs [0-9a-f]{8}\*\*$", caption) for caption in captions)


def test_deployment_of_other_weights_is_measured_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one name, too, as a folder whose files were changed has."""
    monkeypatch.setattr(bench_deployment, "measure_deployment", fake_measure)
    assert deployment("sst2:47", "--methods", "manual") == 0

    async def card(model: str) -> ModelCard:
        return replace(MockBackend().card, fingerprint="mock weights=abc")

    monkeypatch.setattr(bench_deployment, "_card", card)
    capsys.readouterr()
    assert deployment("sst2:47", "--methods", "manual", "--dry-run") == 0
    assert capsys.readouterr().out == "sst2 at 47 tokens, manual, seed 1\n"


def test_deployment_is_measured_with_every_seed_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And with one where none is."""
    assert deployment("sst2:47", "--seeds", "1,2", "--methods", "manual", "--dry-run") == 0
    rows = [f"sst2 at 47 tokens, manual, seed {seed}" for seed in (1, 2)]
    assert capsys.readouterr().out.splitlines() == rows
    more = ("--data", "data", "--methods", "manual", "--model", "mock", "--shots", "3", "--dry-run")
    assert main(["bench", "--deployment", "sst2:47", *more]) == 0
    assert capsys.readouterr().out.splitlines() == ["sst2 at 47 tokens, manual, seed 13"]


def test_a_dry_run_of_deployment_lists_its_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured, and nothing is written."""

    async def measure(*given: Any, **options: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(bench_deployment, "measure_deployment", measure)
    assert deployment("sst2:47,mrpc:20", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "sst2 at 47 tokens, manual, seed 1",
        "sst2 at 47 tokens, black-box:sep-tpa@60, seed 1",
        "mrpc at 20 tokens, manual, seed 1",
        "mrpc at 20 tokens, black-box:sep-tpa@60, seed 1",
    ]
    assert deployment("sst2:47", "--dry-run", "--json") == 0
    assert [row["label"] for row in json.loads(capsys.readouterr().out)["missing"]] == [
        "sst2 at 47 tokens, manual, seed 1",
        "sst2 at 47 tokens, black-box:sep-tpa@60, seed 1",
    ]
    assert [path.name for path in folder.iterdir()] == ["data"]


def test_a_slice_of_deployment_ends_between_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row takes 40 seconds here, so two begin in a minute, and the last one in another slice."""
    now_s = 0.0

    async def measure(names: list[str], task: Any, *, on_row: Any, is_over: Any, **options: Any) -> None:
        nonlocal now_s
        for name in names:
            if is_over():
                break
            now_s += 40
            on_row(FakeRow(name, task.name, options["max_length"]))

    monkeypatch.setattr(bench_deployment, "measure_deployment", measure)
    monkeypatch.setattr(bench_deployment, "monotonic", lambda: now_s)
    command = ("sst2:47,mrpc:20", "--methods", "manual,in-context", "--minutes")
    for minutes, code, measured in (("0", 3, 0), ("1", 3, 2), ("1", 0, 4)):
        assert deployment(*command, minutes) == code
        assert f"{measured} of 4 rows are measured, in bench.jsonl\n" in capsys.readouterr().err
        assert len(read_results(folder / "bench.jsonl")) == measured


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (LmaasError("BudgetTooSmall: 5 are no generation"), "BudgetTooSmall: 5 are no generation", 2),
        (Unsupported("no weights"), "Unsupported: no weights", 2),
        (BackendUnavailable("gone"), "BackendUnavailable: gone", 4),
    ],
)
def test_a_row_of_deployment_that_fails_leaves_the_others(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: LmaasError,
    said: str,
    code: int,
) -> None:
    """It is named, the table has the others, and the next command tries it again."""

    async def measure(names: list[str], task: Any, *, on_row: Any, on_failure: Any, **options: Any) -> None:
        await fake_measure([name for name in names if name != "in-context"], task, on_row=on_row, **options)
        on_failure("in-context", error)

    monkeypatch.setattr(bench_deployment, "measure_deployment", measure)
    assert deployment("sst2:47,mrpc:20", "--methods", "in-context,manual") == code
    printed = capsys.readouterr()
    assert f"sst2 at 47 tokens, in-context, seed 1: failed {said}\n" in printed.err
    assert f"mrpc at 20 tokens, in-context, seed 1: failed {said}\n" in printed.err
    assert "2 of 4 rows are measured, in bench.jsonl\n2 failed: " in printed.err
    assert printed.out.count("| manual | yes |") == 2
    monkeypatch.setattr(bench_deployment, "measure_deployment", fake_measure)
    assert deployment("sst2:47,mrpc:20", "--methods", "in-context,manual") == 0


def test_texts_that_cannot_be_cut_so_short_leave_other_tasks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All rows of that length fail by it."""

    async def measure(names: list[str], task: Any, **options: Any) -> None:
        if options["max_length"] < 5:
            raise TaskError("the template alone takes 5 tokens")
        await fake_measure(names, task, **options)

    monkeypatch.setattr(bench_deployment, "measure_deployment", measure)
    assert deployment("sst2:3,mrpc:20", "--methods", "manual") == 2
    printed = capsys.readouterr()
    assert "sst2 at 3 tokens, manual, seed 1: failed TaskError: the template alone takes 5 tokens\n" in printed.err
    assert printed.out.count("| manual | yes |") == 1


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--jobs", "2"], "so leave out --jobs"),
        (["--budget-evaluations", "9", "--budget-wall-s", "0"], "so leave out --budget-evaluations, --budget-wall-s"),
        (["--ledger", "l.db", "--budget-name", "mine"], "so leave out --ledger, --budget-name"),
        (["--no-cache", "--quotas", "wudao-2021"], "so leave out --quotas, --no-cache"),
        (["--despite-changes"], "so leave out --despite-changes"),
        (["--sweep", "d"], "so leave out --sweep"),
        (["--tasks", "sst2"], "so leave out --tasks"),
        (["--deployment", "sst2"], "--deployment takes TASK:TOKENS"),
        (["--deployment", "sst2:0"], "--deployment takes TASK:TOKENS"),
        (["--deployment", "sst2:9,SST-2:8"], "takes one length of a task at a time"),
        (["--model", "http://127.0.0.1:8000"], "starts servers of its own, so --model is the name or the folder"),
        (["--minutes", "nan"], "--minutes is how long this slice may take, 0 or more, not nan"),
    ],
)
def test_what_deployment_has_no_use_for_is_refused(
    folder: Path, more: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rather than passed over in silence; nothing is begun."""
    assert deployment("sst2:47", *more) == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in folder.iterdir()] == ["data"]


async def fake_measure(names: list[str], task: Any, *, on_row: Any, **options: Any) -> None:
    """Measures nothing."""
    for name in names:
        on_row(FakeRow(name, task.name, options["max_length"]))


class FakeRow:
    """A row of a deployment table."""

    def __init__(self, configuration: str, task: str, max_length: int) -> None:
        self.configuration = configuration
        self._row = {"configuration": configuration, "method": "m", "task": task, "max_length": max_length}
        self._row |= {"model": "mock", "seed": 1, "train_rows": 6, "test_rows": 9}

    def to_dict(self) -> dict[str, Any]:
        sizes = ("user_memory_bytes", "server_memory_bytes", "upload_bytes", "download_bytes")
        figures = {"test_metric": 0.5, "training_time_s": 1.0, **dict.fromkeys(sizes, 1000)}
        return self._row | figures | {"deployment_efficient": True, "as_a_service": True}
