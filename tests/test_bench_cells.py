"""Cells: what decides a result decides the key, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench_cases import CALIBRATED, DATA, MANUAL, SEARCH, TASK, cells
from tuning_cases import SMALL, TEST, examples, mock

from lmaas_sdk import PRESETS, Budget, Task
from lmaas_sdk.bench import (
    CONFIGURATIONS,
    Configuration,
    Setup,
    TaskData,
    black_box,
    folder_reader,
    get_configuration,
    read_task,
    trained,
)
from lmaas_sdk.methods import FeatureLinear

CARD = replace(mock().card, fingerprint="engine/1 threads=2 weights=abc")


def key(configuration: Configuration = SEARCH, **plan: object) -> str:
    given = {"seeds": [1], **plan}
    card = given.pop("card", CARD)
    return cells(card, [configuration], **given)[0].key  # type: ignore[arg-type]


OTHER_WORDS = Task(TASK.name, template=TASK.template, labels=TASK.labels, words=["poor", "good"])


@pytest.mark.parametrize(
    "other",
    [
        {"configuration": black_box(replace(SMALL, d=21))},
        {"configuration": black_box(replace(SMALL, population=9))},
        {"evaluations": 41},
        {"seeds": [2]},
        {"tasks": [replace(DATA, shots=3)]},
        {"tasks": [replace(DATA, test=TEST.subset(range(29)))]},
        {"tasks": [TaskData(examples(0, 40, OTHER_WORDS), examples(200, 30, OTHER_WORDS), 4)]},
        {"card": replace(CARD, fingerprint="engine/1 threads=2 weights=abd")},
        {"card": replace(CARD, tokenizer_digest="other")},
        {"card": replace(CARD, name="other")},
    ],
)
def test_what_decides_a_result_changes_the_key(other: dict[str, object]) -> None:
    """Settings, budget, seed, data, words, model."""
    assert key() == key()
    assert key(**other) != key()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"configuration": black_box(replace(SMALL, name="renamed"), name="another", title="Another")},
        {"card": replace(CARD, fingerprint="engine/2 threads=1 weights=abc", max_texts=9)},
        {"seeds": [1, 2, 3]},
    ],
)
def test_what_does_not_leaves_it(other: dict[str, object]) -> None:
    """A name decides nothing; neither does the path that computes, which is told of in another way."""
    assert key(**other) == key()  # type: ignore[arg-type]


def test_where_no_seed_matters_there_is_one_cell() -> None:
    """Neither seed, training data nor evaluations change the manual prompt; calibration depends on the data."""
    found = cells(CARD, [MANUAL, CALIBRATED, SEARCH], seeds=[1, 2])
    assert [(cell.row, cell.seed) for cell in found] == [
        ("manual", 1),
        ("manual-calibrated", 1),
        ("manual-calibrated", 2),
        ("black-box:small@40", 1),
        ("black-box:small@40", 2),
    ]
    assert key(MANUAL) == key(MANUAL, seeds=[2], evaluations=7, tasks=[replace(DATA, shots=3)])
    assert key(CALIBRATED) != key(CALIBRATED, seeds=[2])
    assert key(CALIBRATED) == key(CALIBRATED, evaluations=7)


def test_keys_stay_what_they_are() -> None:
    """What was measured once is found again by later versions."""
    found = [key(get_configuration(name)) for name in ("manual", "manual-calibrated", "in-context")]
    found += [key(get_configuration(name), evaluations=8000) for name in ("black-box:paper", "black-box:default")]
    assert [one[:16] for one in found] == GOLDEN


GOLDEN = ["4df6004dd888e6d9", "d901da5679df1848", "f6f332c1030d425a", "ecb3f9d11f3091af", "25f32ef312ff3477"]


def test_options_of_a_method_are_settings_and_are_used() -> None:
    """What is as it is by default is in no key."""
    small = trained(FeatureLinear, "small", "Small", width=3, epochs=2)
    assert small.settings(CARD) == {"width": 3, "epochs": 2}
    assert get_configuration("feature-linear").settings(CARD) == {}
    assert get_configuration("prompt-tuning").settings(CARD) == {"patience": 20}
    with pytest.raises(ValueError, match="width"):
        trained(FeatureLinear, "none", "None", width=0).make(Setup(mock(), Budget(), 1))


def test_a_task_is_read_from_a_folder(tmp_path: Path) -> None:
    """Few-shot samples of train by the seed; the test rows are the same for all."""
    for split, rows in {"train": 40, "test": 30}.items():
        lines = [f"{split} text {n}\t{TASK.labels[n % 2]}" for n in range(rows)]
        (tmp_path / f"{split}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    data = read_task(folder_reader(tmp_path), TASK, shots=4, test_rows=10)
    assert [4, 4] == [data.drawn(seed)[0].class_counts[0] for seed in (1, 2)]
    assert data.drawn(1)[0].digest != data.drawn(2)[0].digest
    assert (10, 30) == (len(data.test), len(read_task(folder_reader(tmp_path), TASK, test_rows=None).test))


def test_configurations_go_by_name() -> None:
    """`@N` gives a search evaluations of its own."""
    assert get_configuration("black-box:paper@300").evaluations == 300
    assert {f"black-box:{name}" for name in PRESETS} <= CONFIGURATIONS.keys()
    found = cells(CARD, [get_configuration("black-box:paper@300"), SEARCH], seeds=[1])
    assert [cell.evaluations for cell in found] == [300, 40]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("black-box", "a configuration is one of manual, .*not 'black-box'"),
        ("manual@20", "'manual' searches nothing, so it takes no evaluations: leave out @20"),
        ("black-box:paper@0", "evaluations, at least 1, not as in 'black-box:paper@0'"),
        ("black-box:paper@x", "a whole number of evaluations, at least 1, not as in 'black-box:paper@x'"),
        ("majority@x", "a configuration is one of manual, .*not 'majority'"),
    ],
)
def test_other_names_are_refused(name: str, complaint: str) -> None:
    """The message says what there is."""
    with pytest.raises(ValueError, match=complaint):
        get_configuration(name)
