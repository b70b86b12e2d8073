"""GLUE's own files, and where the hub has the tasks of the catalogue."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lmaas_sdk import Dataset, TaskError, get_task, read_folder
from lmaas_sdk.tasks import HUB_SETS, PAPER_TASKS, read_hub

SETS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "sst2": (["negative", "positive"], {"sentence": "fine", "idx": 0}),
    "yelp": (["1", "2"], {"text": "fine"}),
    "agnews": (["World", "Sports", "Business", "Sci/Tech"], {"text": "fine"}),
    "dbpedia": (list(get_task("dbpedia").labels), {"title": "a title", "content": "fine"}),
    "mrpc": (["not_equivalent", "equivalent"], {"sentence1": "fine", "sentence2": "well", "idx": 0}),
    "snli": (["entailment", "neutral", "contradiction"], {"premise": "fine", "hypothesis": "well"}),
    "rte": (["entailment", "not_entailment"], {"sentence1": "fine", "sentence2": "well", "idx": 0}),
}


class LoadedSet(list[dict[str, Any]]):
    """Rows with features, as the package `datasets` has them."""

    def __init__(self, rows: list[dict[str, Any]], names: list[str]) -> None:
        super().__init__(rows)
        self.features = {"label": SimpleNamespace(names=names)}


class Hub(ModuleType):
    """The package `datasets`, with a row of each class, and one without a label."""

    def __init__(self) -> None:
        super().__init__("datasets")
        self.asked: list[tuple[str, str | None, str]] = []

    def load_dataset(self, path: str, name: str | None, *, split: str) -> LoadedSet:
        self.asked.append((path, name, split))
        wanted = f"{path}:{name}" if name else path
        names, row = next(SETS[task] for task, found in HUB_SETS.items() if found.name == wanted)
        labels = [*range(len(names)), *([-1] if path.endswith("snli") else [])]
        return LoadedSet([row | {"label": label} for label in labels], names)


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_the_tasks_of_the_paper_are_read_from_the_hub(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """By the columns that the sets there have, on the split that results are reported on, every class by its name."""
    hub, task = Hub(), get_task(name)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    found = read_hub(task)
    assert found.class_counts == (1,) * len(task.labels)
    assert {len(example.fields) for example in found} == {len(task.template.fields)}
    assert {example.fields[0] for example in found} == {"fine"}
    assert hub.asked[0][2] == ("validation" if task.source.evaluation_split == "dev" else "test")
    assert read_hub(task, "train").digest == found.digest
    assert hub.asked[1][2] == "train"


def test_a_task_that_the_hub_has_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With those that it has."""
    monkeypatch.setitem(sys.modules, "datasets", Hub())
    with pytest.raises(TaskError, match=r"no data set of the hub is known for task 'trec', only for sst2, yelp"):
        read_hub(get_task("trec"))


GLUE = {
    "sst2": ("SST-2", "sentence\tlabel\nfine .\t1\n", [(("fine .",), 1)]),
    "mrpc": (
        "MRPC",
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe said "no.\tHe said no.\n',
        [(('He said "no.', "He said no."), 1)],
    ),
    "rte": (
        "RTE",
        "index\tsentence1\tsentence2\tlabel\n"
        "0\tIt rains.\tRain falls.\tentailment\n1\tIt rains.\tI slept.\tnot_entailment\n",
        [(("It rains.", "Rain falls."), 0), (("It rains.", "I slept."), 1)],
    ),
    "snli": (
        "SNLI",
        "index\tpairID\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
        "0\ta\t(x)\tIt rains.\tRain falls.\tneutral\tentailment\n1\tb\t(x)\tIt rains.\tI slept.\tneutral\t-\n",
        [(("It rains.", "Rain falls."), 0)],
    ),
}


@pytest.mark.parametrize("name", GLUE)
def test_glues_own_files_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    """By its names of folders and columns; quotation marks are part of the text, and rows without a label left out."""
    folder, content, expected = GLUE[name]
    (tmp_path / folder).mkdir()
    for split in ("train", get_task(name).source.evaluation_split):
        (tmp_path / folder / f"{split}.tsv").write_text(content, "utf-8")
        found = read_folder(tmp_path, get_task(name), split)
        assert rows(found) == expected


def rows(dataset: Dataset) -> list[tuple[tuple[str, ...], int]]:
    return [(example.fields, example.label) for example in dataset]


def test_a_label_that_was_asked_for_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    """And where there is none by any usual name, the message names the usual one."""
    (tmp_path / "train.tsv").write_text("sentence\tQuality\tmine\nfine\t0\t1\n")
    task = get_task("sst2")
    assert rows(read_folder(tmp_path, task, "train", label_column="mine")) == [(("fine",), 1)]
    (tmp_path / "train.tsv").write_text("sentence\tclass\nfine\t0\n")
    with pytest.raises(TaskError, match="no column 'label'"):
        read_folder(tmp_path, task, "train")
