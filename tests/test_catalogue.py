"""Tests of lmaas_sdk.tasks.catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmaas_sdk.errors import UnknownTask
from lmaas_sdk.tasks import PAPER_TASKS, TASKS, Task, get_task, read_folder

ROOT = Path(__file__).resolve().parent.parent
TINY_TOKENIZER = ROOT / "backends" / "lmaas_backends" / "roberta" / "tiny" / "tokenizer.json"

# Template, label words by class index, metric and evaluation split, as in Sun et al. 2022 and its code.
_ONTOLOGY = (
    "Company Education Artist Athlete Office Transportation Building Natural Village Animal Plant Album Film Written"
)
PUBLISHED = {
    "sst2": ("{S} . It was <mask> .", "bad great", "accuracy", "dev"),
    "yelp": ("{S} . It was <mask> .", "bad great", "accuracy", "test"),
    "agnews": ("<mask> News: {S}", "World Sports Business Tech", "accuracy", "test"),
    "dbpedia": (
        "[ Category: <mask> ] {S}",
        _ONTOLOGY,
        "accuracy",
        "test",
    ),
    "mrpc": ("{S1} ? <mask> , {S2}", "No Yes", "f1", "dev"),
    "snli": ("{S1} ? <mask> , {S2}", "Yes Maybe No", "accuracy", "test"),
    "rte": ("{S1} ? <mask> , {S2}", "Yes No", "accuracy", "dev"),
}

ROWS = {
    "sst2": {"train": 6920, "dev": 872, "test": 1821},
    "yelp": {"train": 192, "dev": 192, "test": 319},
    "agnews": {"train": 320, "dev": 318, "test": 7600},
    "dbpedia": {"train": 1106, "dev": 1106, "test": 4983},
    "mrpc": {"train": 3668, "dev": 408, "test": 1725},
    "rte": {"train": 2490, "dev": 277},
    "snli": {"train": 479, "dev": 480, "test": 9824},
    "mr": {"train": 8162, "dev": 500, "test": 2000},
    "trec": {"train": 4952, "dev": 500, "test": 500},
}


def test_the_seven_tasks_are_those_published() -> None:
    """Template, words, metric and split of every paper task, to the letter."""
    described = {
        name: (str(task.template), " ".join(task.words), task.metric, task.source.evaluation_split)
        for name, task in TASKS.items()
        if name in PAPER_TASKS
    }

    assert PUBLISHED == described


def test_the_catalogue_holds_nine_tasks() -> None:
    """Seven to report on and two to choose defaults on."""
    assert sorted(ROWS) == sorted(TASKS)
    assert sorted(PUBLISHED) == sorted(PAPER_TASKS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sst2", "sst2"),
        ("SST-2", "sst2"),
        ("ag_news", "agnews"),
        ("AG's News", "agnews"),
        ("agnews", "agnews"),
        ("Yelp P.", "yelp"),
        ("yelp_polarity", "yelp"),
        ("DBPedia14", "dbpedia"),
        ("dbpedia", "dbpedia"),
        ("MRPC", "mrpc"),
        ("rte", "rte"),
        ("SNLI", "snli"),
        ("mr", "mr"),
        ("TREC", "trec"),
    ],
)
def test_a_task_has_many_spellings(name: str, expected: str) -> None:
    """Case and punctuation do not matter."""
    assert TASKS[expected] is get_task(name)


def test_an_unknown_task_is_answered_with_a_guess() -> None:
    """The message lists the catalogue and the nearest name."""
    with pytest.raises(
        UnknownTask, match=r"no task 'ssst-2' in the catalogue: it has sst2, yelp.*did you mean 'sst2'\?"
    ):
        get_task("ssst-2")


@pytest.mark.parametrize("name", ["sentiment of tweets", "", "!"])
def test_a_far_off_name_gets_no_guess(name: str) -> None:
    """The message says what to do instead."""
    with pytest.raises(UnknownTask, match=r"describe one's own with Task\(\.\.\.\)"):
        get_task(name)


def test_the_catalogue_is_read_only() -> None:
    """A task of one's own is a value to pass, not an entry to add."""
    with pytest.raises(TypeError):
        TASKS["mine"] = TASKS["sst2"]  # type: ignore[index]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_reads_back_from_its_wire_form(task: Task) -> None:
    """A prompt file holds the whole task."""
    assert task == Task.from_wire(json.loads(json.dumps(task.to_wire())))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_word_is_one_token_of_the_bundled_model(task: Task) -> None:
    """With its leading space, no label word falls to pieces."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(TINY_TOKENIZER))

    split = [
        word for word in task.verbalizer.label_words.words if len(tokenizer.encode(word, add_special_tokens=False)) > 1
    ]

    assert [] == split


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_real_data_set_is_read(task: Task, real_data: Path) -> None:
    """All splits are found under the common folder, with all their rows and no class empty."""
    splits = {split: read_folder(real_data, task, split) for split in ROWS[task.name]}

    assert ROWS[task.name] == {split: len(dataset) for split, dataset in splits.items()}
    for dataset in splits.values():
        dataset.require_every_class()


def test_real_labels_mean_what_the_task_says(real_data: Path) -> None:
    """The first rows of three sets, whose classes are numbered in ways that are easy to confuse."""
    questions = read_folder(real_data, get_task("trec"), "train").examples[0]
    entailed = read_folder(real_data, get_task("rte"), "train").examples[0]
    news = read_folder(real_data, get_task("agnews"), "train").examples[0]

    assert ("How did serfdom develop in and then leave Russia ?", "description") == (
        questions.fields[0],
        get_task("trec").labels[questions.label],
    )
    assert ("Weapons of Mass Destruction Found in Iraq.", "not_entailment") == (
        entailed.fields[1],
        get_task("rte").labels[entailed.label],
    )
    assert news.fields[0].startswith("BAR sign Epson for one race")
    assert "Sports" == get_task("agnews").labels[news.label]


def test_the_default_split_is_the_one_results_are_reported_on(real_data: Path) -> None:
    """SST-2 is evaluated on its 872 development sentences, AG's News on its test set."""
    assert [872, 7600] == [len(read_folder(real_data, get_task(name))) for name in ("sst2", "agnews")]
