"""Tests of lmaas_sdk.tasks.readers, and of the examples in docs/tasks.md."""

from __future__ import annotations

import doctest
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lmaas_sdk.errors import MissingExtra, TaskError
from lmaas_sdk.tasks import (
    Dataset,
    Source,
    Task,
    get_task,
    read_csv,
    read_dataset,
    read_folder,
    read_huggingface,
    read_jsonl,
    read_tsv,
)

ROOT = Path(__file__).resolve().parent.parent
MOOD = Task("mood", template="{text} <mask>", labels=["sad", "glad"], words=["bad", "great"])
PAIR = Task("pair", template="{S1} ? <mask> , {S2}", labels=["no", "yes"], words=["No", "Yes"])


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(dataset: Dataset) -> list[tuple[str, int]]:
    return [(" | ".join(example.fields), example.label) for example in dataset]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "text\tlabel\nfine\tglad\nnot fine\t0\n"),
        ("a.TSV", "label\tnote\ttext\r\nglad\tx\tfine\r\nsad\t\tnot fine\r\n"),
        ("bom.tsv", b"\xef\xbb\xbftext\tlabel\nfine\tglad\nnot fine\tsad"),
        ("a.csv", 'text,label\n"fine",glad\nnot fine,sad\n'),
        ("bom.csv", b"\xef\xbb\xbftext,label\r\nfine,1\r\nnot fine,0\r\n"),
        ("a.jsonl", '{"text": "fine", "label": 1}\n\n{"label": "sad", "text": "not fine"}\n'),
        ("float.jsonl", '{"text": "fine", "label": 1.0}\n{"text": "not fine", "label": 0.0}\n'),
        ("bool.jsonl", '\ufeff{"text": "fine", "label": true}\r\n{"text": "not fine", "label": false}\r\n'),
        ("sentence.tsv", "sentence\tlabel\nfine\tglad\nnot fine\t0\n"),
    ],
)
def test_every_format_reads_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    """Suffix, byte-order mark, line ends, column order and label form make no difference."""
    assert [("fine", 1), ("not fine", 0)] == rows(read_dataset(write(tmp_path, name, content), MOOD))


@pytest.mark.parametrize(
    "text", ['he said "no', 'a "b" c', "", " padded ", "one\u2028line", "a\x0cb", "<mask> </s> {S}", "naïve 🙂"]
)
def test_a_tsv_file_is_not_quoted(tmp_path: Path, text: str) -> None:
    """Everything between tabs is the text as it stands, quotation marks and unusual separators included."""
    assert [(text, 1)] == rows(read_tsv(write(tmp_path, "a.txt", f"text\tlabel\n{text}\t1\n"), MOOD))


@pytest.mark.parametrize(
    ("written", "text"), [('"a, b"', "a, b"), ('"a ""b"""', 'a "b"'), ('"two\nlines"', "two\nlines"), ("", "")]
)
def test_a_csv_file_is_quoted(tmp_path: Path, written: str, text: str) -> None:
    """Commas, quotation marks and line breaks are read from quoted fields."""
    assert [(text, 1)] == rows(read_csv(write(tmp_path, "a.txt", f"text,label\n{written},1\n"), MOOD))


def test_json_lines_hold_any_text(tmp_path: Path) -> None:
    """Escapes are decoded; further keys are ignored."""
    line = json.dumps({"text": "tab\t\u2028 🙂", "label": "glad", "id": 7})

    assert [("tab\t\u2028 🙂", 1)] == rows(read_jsonl(write(tmp_path, "a.txt", line), MOOD))


@pytest.mark.parametrize("header", ["S1\tS2", "sentence1\tsentence2", "premise\thypothesis"])
def test_the_usual_columns_of_pairs_are_found(tmp_path: Path, header: str) -> None:
    """The template's own names and the usual ones need no mention."""
    path = write(tmp_path, "a.tsv", f"{header}\tlabel\none\ttwo\tyes\n")

    assert [("one | two", 1)] == rows(read_dataset(path, PAIR))


def test_columns_can_be_named(tmp_path: Path) -> None:
    """text_columns are in the order of the template's fields."""
    path = write(tmp_path, "a.csv", "gold,b,a\nyes,two,one\n")

    assert [("one | two", 1)] == rows(read_dataset(path, PAIR, text_columns=["a", "b"], label_column="gold"))


def test_a_tasks_own_columns_come_first(tmp_path: Path) -> None:
    """What the task's source says goes before the usual names."""
    task = Task("m", template="{text} <mask>", labels=["a", "b"], words=["A", "B"], source=Source(columns=("body",)))
    path = write(tmp_path, "a.tsv", "text\tbody\tlabel\nheadline\tarticle\ta\n")

    assert [("article", 0)] == rows(read_dataset(path, task))


@pytest.mark.parametrize(("name", "content"), [("a.tsv", "1\tfine\n0\tnot\n"), ("a.csv", "1,fine\n0,not\n")])
def test_columns_by_position_mean_no_header(tmp_path: Path, name: str, content: str) -> None:
    """The first line is then an example."""
    path = write(tmp_path, name, content)

    assert [("fine", 1), ("not", 0)] == rows(read_dataset(path, MOOD, text_columns=[1], label_column=0))


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"text_columns": "text"}, r"write \['text'\]"),
        ({"text_columns": ["a", "b"]}, "a column for each of text"),
        ({"text_columns": {"text"}}, "a list of columns, not {'text'}"),
        ({"text_columns": 1}, "a list of columns, not 1"),
        ({"text_columns": [0]}, "all names or all positions"),
        ({"text_columns": ["text"], "label_column": 1}, "all names or all positions"),
        ({"label_column": 1}, "give text_columns by position"),
    ],
)
def test_columns_that_make_no_sense_are_refused(tmp_path: Path, columns: Any, complaint: str) -> None:
    """The message says how to write them."""
    with pytest.raises(TaskError, match=complaint):
        read_dataset(write(tmp_path, "a.tsv", "text\tlabel\nfine\t1\n"), MOOD, **columns)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.tsv", "words\tlabel\nfine\t1\n", r"a.tsv:2: no columns text or sentence: there are words, label"),
        ("a.tsv", "text\tgold\nfine\t1\n", r"a.tsv:2: no column 'label': there are text, gold"),
        ("a.tsv", "text\tlabel\nfine\t1\nworse\t7\n", r"a.tsv:3: .*no label '7': its labels are 0 'sad', 1 'glad'"),
        ("a.tsv", "text\tlabel\nfine\t1\n\none\ttwo\t1\n", r"a.tsv:4: 3 columns, where 2 are wanted: text, label"),
        ("a.tsv", "text\tlabel\tlabel\nfine\t1\t1\n", r"a.tsv:1: .* a column twice"),
        ("a.tsv", b"text\tlabel\nfine\t1\ncaf\xe9\t1\n", r"a.tsv:3: byte 0xe9 is not UTF-8"),
        ("a.tsv", "", "holds no examples"),
        ("a.tsv", "text\tlabel\n", "holds no examples"),
        ("a.csv", 'text,label\nfine,1\n"open,1\n', r"a.csv:3: not CSV"),
        ("a.csv", "text,label\nfine\n", r"a.csv:2: 1 columns"),
        ("a.jsonl", '{"text": "fine", "label": 1}\n{"text": 3, "label": 1}\n', r"a.jsonl:2: field 'text' .* not 3"),
        ("a.jsonl", '{"text": "fine", "label": 1}\n{"label": 1}\n', r"a.jsonl:2: no column 'text': there are label"),
        (
            "a.jsonl",
            '{"text": "fine", "label": 1.5}\n',
            r"a.jsonl:1: a label is a name or a class index, not 1.5 of float",
        ),
        ("a.jsonl", '{"text": "fine", "label": NaN}\n', r"a.jsonl:1: a label is .*, not nan of float"),
        ("a.jsonl", '{"text": "fine", "label": 7.0}\n', r"a.jsonl:1: .*no label 7: its labels are"),
        ("a.jsonl", '{"text": "fine", "label": null}\n', r"a.jsonl:1: a label is a name or a class index, not None"),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}\n', r"a.jsonl:1: .*half a surrogate pair"),
        ("a.jsonl", "[1]\n", r"a.jsonl:1: a line is a JSON object"),
        ("a.jsonl", "text\n", r"a.jsonl:1: not JSON"),
        ("a.jsonl", "[" * 100_000, r"a.jsonl:1: not JSON"),
        ("a.parquet", "", r"a.parquet is no .tsv, .csv, .jsonl file"),
    ],
)
def test_an_unusable_file_is_refused(tmp_path: Path, name: str, content: str | bytes, complaint: str) -> None:
    """The message gives file and line, and what was found there."""
    with pytest.raises(TaskError, match=complaint):
        read_dataset(write(tmp_path, name, content), MOOD)


def test_a_missing_file_is_answered_with_what_is_there(tmp_path: Path) -> None:
    """The message lists the folder."""
    write(tmp_path, "other.tsv", "")

    with pytest.raises(TaskError, match=r"no file .*train.tsv: .* holds other.tsv"):
        read_dataset(tmp_path / "train.tsv", MOOD)
    with pytest.raises(TaskError, match="nor is there a folder"):
        read_dataset(tmp_path / "nowhere" / "train.tsv", MOOD)


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    """Asking a single file for a split is refused rather than ignored."""
    with pytest.raises(TaskError, match="is one file, it has no split 'dev'"):
        read_dataset(write(tmp_path, "a.tsv", "text\tlabel\nfine\t1\n"), MOOD, split="dev")


def test_dropped_labels_leave_rows_out(tmp_path: Path) -> None:
    """SNLI marks pairs without agreement by -1; another task refuses that label."""
    path = write(tmp_path, "a.tsv", "premise\thypothesis\tlabel\none\ttwo\t-1\nthree\tfour\t2\nfive\tsix\t-\n")

    assert [("three | four", 2)] == rows(read_dataset(path, get_task("snli")))
    with pytest.raises(TaskError, match="no label '-1'"):
        read_dataset(path, get_task("rte"))


def test_a_dropped_label_may_be_written_as_a_fraction(tmp_path: Path) -> None:
    """-1.0 is the label -1."""
    pairs = [("one", -1.0), ("two", 2.0)]
    content = "".join(json.dumps({"premise": p, "hypothesis": "h", "label": label}) + "\n" for p, label in pairs)

    assert [("two | h", 2)] == rows(read_dataset(write(tmp_path, "a.jsonl", content), get_task("snli")))


@pytest.mark.parametrize("below", ["", "Mood/", "MOOD/", "feelings-2/"])
def test_a_split_is_found_in_the_folder_or_below(tmp_path: Path, below: str) -> None:
    """A folder below it may have any of the task's names, in any spelling."""
    task = Task(
        "mood", template="{text} <mask>", labels=["sad", "glad"], words=["bad", "great"], source=Source(("Feelings 2",))
    )
    write(tmp_path, f"{below}train.csv", "text,label\nfine,1\n")
    write(tmp_path, "unrelated/train.csv", "text,label\nwrong,1\n")

    assert [("fine", 1)] == rows(read_folder(tmp_path, task, "train"))
    assert [("fine", 1)] == rows(read_dataset(tmp_path, task, split="train"))


def test_the_folder_itself_goes_before_those_below(tmp_path: Path) -> None:
    """A split that lies in the named folder is the one that is meant."""
    write(tmp_path, "train.tsv", "text\tlabel\nhere\t1\n")
    write(tmp_path, "mood/train.tsv", "text\tlabel\nbelow\t1\n")

    assert [("here", 1)] == rows(read_folder(tmp_path, MOOD, "train"))


def test_the_name_of_a_set_is_folder_and_file(tmp_path: Path) -> None:
    """People see where the rows came from."""
    path = write(tmp_path, "mood/dev.tsv", "text\tlabel\nfine\t1\n")

    assert ["mood/dev", "mood/dev"] == [read_tsv(path, MOOD).name, read_folder(tmp_path, MOOD, "dev").name]


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    """Neither is chosen in silence."""
    write(tmp_path, "train.tsv", "")
    write(tmp_path, "train.csv", "")

    with pytest.raises(TaskError, match=r"more than one 'train'.*train.tsv, .*train.csv"):
        read_folder(tmp_path, MOOD, "train")


def test_a_missing_split_is_answered_with_what_is_there(tmp_path: Path) -> None:
    """The message lists the folders that were searched."""
    write(tmp_path, "mood/train.tsv", "")

    with pytest.raises(
        TaskError, match=r"no test.tsv, .csv or .jsonl for task 'mood': .* holds mood/; .*mood holds train.tsv"
    ):
        read_folder(tmp_path, MOOD, "test")
    with pytest.raises(TaskError, match=r"no folder .*nowhere: .* holds mood/"):
        read_folder(tmp_path / "nowhere", MOOD, "test")


def test_a_crowded_folder_is_not_listed_whole(tmp_path: Path) -> None:
    """The message shows twenty entries and counts the others."""
    for number in range(25):
        write(tmp_path, f"{number:02}.txt", "")

    with pytest.raises(TaskError, match=r"holds 00.txt, .*, 19.txt and 5 more"):
        read_folder(tmp_path, MOOD, "train")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """What the system says of an unreadable path is passed on."""
    with pytest.raises(TaskError, match=r"cannot read .*: Is a directory"):
        read_tsv(tmp_path, MOOD)


class LoadedSet(list[dict[str, Any]]):
    """Rows with features, as the package `datasets` has them."""

    def __init__(self, rows: list[dict[str, Any]], names: list[str] | None = None) -> None:
        super().__init__(rows)
        self.features = {"text": SimpleNamespace(dtype="string"), "label": SimpleNamespace(names=names)}


HUB_ROWS = [{"text": "fine", "label": 0}, {"text": "not fine", "label": 1}]


@pytest.mark.parametrize(
    "source",
    [
        LoadedSet(HUB_ROWS, ["glad", "sad"]),
        {"train": LoadedSet(HUB_ROWS, ["glad", "sad"]), "test": LoadedSet([])},
        LoadedSet([{"text": "fine", "label": "glad"}, {"text": "not fine", "label": "sad"}]),
        [{"text": "fine", "label": 1}, {"text": "not fine", "label": 0}],
        LoadedSet([{"text": "fine", "label": 1}, {"text": "not fine", "label": 0}], ["1", "2"]),
    ],
)
def test_loaded_rows_are_matched_by_class_name(source: Any) -> None:
    """A set that numbers its classes in another order than the task is still read right."""
    assert [("fine", 1), ("not fine", 0)] == rows(read_huggingface(source, MOOD, split="train"))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (LoadedSet(HUB_ROWS, ["POS", "NEG"]), r"set's classes are POS, NEG, .*'mood' sad, glad: .*pass list\(rows\)"),
        (
            LoadedSet([{"text": "hidden", "label": -1}], ["glad", "sad"]),
            "label -1 is none of the set's own classes 0 .. 1",
        ),
        ({"train": LoadedSet(HUB_ROWS)}, "no split 'test': it has train"),
        ([{"text": None, "label": 1}], r"list\[0\]: field 'text' .* not None"),
        ([{"words": "x", "label": 1}], r"list\[0\]: no columns text or sentence: there are words, label"),
        (["text"], "a row is a mapping"),
        ([], "holds no examples"),
    ],
)
def test_unusable_loaded_rows_are_refused(source: Any, complaint: str) -> None:
    """Unknown class names, hidden labels, missing splits and columns are errors, not guesses."""
    with pytest.raises(TaskError, match=complaint):
        read_huggingface(source, MOOD)


class FakeDatasets(ModuleType):
    """Stands for the package `datasets`: remembers what was asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("datasets")
        self.asked: list[tuple[str, str | None, str]] = []
        self.error = error

    def load_dataset(self, path: str, name: str | None, *, split: str) -> LoadedSet:
        self.asked.append((path, name, split))
        if self.error:
            raise self.error
        return LoadedSet(
            [{"sentence": "fine", "label": 1}, {"sentence": "unsure", "label": 1}], ["negative", "positive"]
        )


@pytest.mark.parametrize(
    ("name", "split", "asked"),
    [
        ("nyu-mll/glue:sst2", None, ("nyu-mll/glue", "sst2", "validation")),
        ("imdb", "train", ("imdb", None, "train")),
    ],
)
def test_a_hub_name_is_loaded(monkeypatch: pytest.MonkeyPatch, name: str, split: str | None, asked: Any) -> None:
    """Name, configuration and split reach the package; a task evaluated on dev means the hub's validation."""
    fake = FakeDatasets()
    monkeypatch.setitem(sys.modules, "datasets", fake)

    dataset = read_huggingface(name, get_task("sst2"), split=split)

    assert [asked] == fake.asked
    assert [("fine", 1), ("unsure", 1)] == rows(dataset)
    assert f"{name}/{asked[2]}" == dataset.name


@pytest.mark.parametrize(
    "error", [FileNotFoundError("no such set"), ValueError("Unknown split"), ConnectionError("offline")]
)
def test_a_hub_set_that_cannot_be_loaded_is_a_task_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The message keeps the package's own words."""
    monkeypatch.setitem(sys.modules, "datasets", FakeDatasets(error))

    with pytest.raises(TaskError, match=f"cannot load split 'train' of 'imdb': {error}") as raised:
        read_huggingface("imdb", MOOD, split="train")

    assert raised.value.__cause__ is error


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `datasets`, a hub name says what to install, and loaded rows still work."""
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(MissingExtra, match=r"pip install 'lmaas-sdk\[datasets\]'"):
        read_huggingface("imdb", MOOD)
    assert [("fine", 1)] == rows(read_huggingface([{"text": "fine", "label": 1}], MOOD))


def test_the_examples_of_the_page_on_tasks_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example in docs/tasks.md prints what the page says."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", page, flags=re.DOTALL)
    example = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/tasks.md", "docs/tasks.md", 0)
    report: list[str] = []

    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(
        example, out=report.append
    )

    assert ("", 0) == ("".join(report), result.failed)
    assert result.attempted > 15
