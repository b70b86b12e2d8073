"""The run file: what it holds, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import ESTIMATE, WAITS, saved, tuned

from lmaas_sdk import Price, RunFileError, RunRecord, read_run
from lmaas_sdk.tuning.events import DevScored, GenerationDone
from lmaas_sdk.tuning.run_file import load_fields, save_record
from lmaas_sdk.tuning.run_record import EstimatedQuantity

PRICE = Price(400_000_000)


async def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every generation, every dev score, the spend and the scores on the test set are the result's own."""
    result = await tuned(price=PRICE)
    run = read_run(saved(result, tmp_path / "a.run.json"))
    assert [
        (e.generation, e.evaluations, e.best_loss, e.median_loss, e.lowest_loss, e.sigma, e.spent, e.elapsed_s)
        for e in result.generations
    ] == [
        (r.generation, r.evaluations, r.best_loss, r.median_loss, r.lowest_loss, r.sigma, r.spent, r.elapsed_s)
        for r in run.generations
    ]
    looks = [event for event in result.history if isinstance(event, DevScored)]
    assert [
        (e.choice.generation, e.choice.kind, e.choice.dev and e.choice.dev.value, e.spent, e.elapsed_s) for e in looks
    ] == [(r.generation, r.candidate, r.metric, r.spent, r.elapsed_s) for r in run.dev]
    assert len(looks) >= 2
    assert (result.spend.by_purpose, result.spent) == (run.spend, run.spent)
    assert result.test is not None
    assert run.tuned is not None
    assert (result.test.value, result.test.interval) == (run.tuned.value, run.tuned.interval)
    assert ("things", "accuracy", "small", 7, "budget") == (run.task, run.metric, run.preset, run.seed, run.stopped)


async def test_a_dev_row_knows_how_many_candidates_were_scored_by_then(tmp_path: Path) -> None:
    """Its evaluations are those of the generation before it in the history."""
    result = await tuned()
    run, expected, by_then = read_run(saved(result, tmp_path / "a.run.json")), [], 0.0
    for event in result.history:
        if isinstance(event, GenerationDone):
            by_then = event.evaluations
        else:
            expected.append(by_then)
    assert expected == [row.evaluations for row in run.dev]


async def test_the_record_is_the_result_with_its_core_and_history() -> None:
    """`to_record` has every key of `to_dict` with the same value, and the core as it is hashed."""
    result = await tuned(24)
    record = result.to_record()
    told = json.loads(json.dumps(result.to_dict()))
    assert told == {name: record[name] for name in told}
    assert json.loads(result.core.to_bytes()) == record["core"]
    assert 3 == sum(row["kind"] == "generation" for row in record["history"])


async def test_waits_and_estimates_are_read(tmp_path: Path) -> None:
    """Seconds by cause; a quantity that could not be estimated is None."""
    run = read_run(saved(await tuned(16), tmp_path / "a.run.json", waits=WAITS, estimate=ESTIMATE))
    assert WAITS == run.waits
    assert run.estimate is not None
    assert EstimatedQuantity(100, 120, 130, 140, is_within=False) == run.estimate["tokens"]
    assert run.estimate["wall_s"] is None


async def test_the_same_record_is_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the time of writing is in it, and what was read may be written again."""
    first = saved(await tuned(16), tmp_path / "a.run.json")
    again = save_record(load_fields(first), tmp_path / "b.run.json")
    assert first.read_bytes() == again.read_bytes()


async def test_what_is_not_finite_is_written_as_none(tmp_path: Path) -> None:
    """A metric of one's own may have no value; the file is still JSON, and is read."""
    result = await tuned(16)
    (row, *_) = [event.choice.dev for event in result.history if isinstance(event, DevScored)]
    object.__setattr__(row, "value", math.nan)
    run = read_run(saved(result, tmp_path / "a.run.json"))
    assert run.dev[0].metric is None


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        for name in names:
            del record[name]

    return change


def putting(value: object, *place: str | int) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        inside: Any = record
        for step in place[:-1]:
            inside = inside[step]
        inside[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("history"), "it has no history"),
        (without("spend"), "it has no spend"),
        (putting("ten", "evaluations"), "evaluations is a number, not 'ten'"),
        (putting(-1, "wall_s"), "wall_s is not negative, not -1"),
        (putting(True, "wall_s"), "wall_s is a number, not True"),
        (putting(10**30, "evaluations"), "evaluations is a number, not 1000"),
        (putting(1e300, "history", 0, "best_loss"), "history[0].best_loss is a number, not 1e+300"),
        (putting(None, "history", 0, "median_loss"), "history[0].median_loss is a number, not None"),
        (putting(1.5, "spend", "train", "tokens"), "spend.train.tokens is a whole number, not 1.5"),
        (putting(["x"], "spend", "train"), "spend.train is an object, not ['x']"),
        (putting([1], "tuned_interval"), "tuned_interval is two numbers, not [1]"),
        (putting("none", "warnings"), "warnings is a list, not 'none'"),
        (putting([3], "warnings"), "warnings.0 is a text, not 3"),
        (putting({"calls": {"low": 1}}, "estimate"), "it has no estimate.calls.expected"),
        (putting({"quota": "long"}, "waits"), "waits.quota is a number, not 'long'"),
        (putting("lmaas-run/9", "format"), "its format is 'lmaas-run/9', and this version reads 'lmaas-run/1'"),
    ],
)
async def test_what_makes_no_sense_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    """A file with a right digest and a wrong value: the message names the file, the place and the value."""
    record = (await tuned(16)).to_record()
    change(record)
    path = save_record(record, tmp_path / "wrong.run.json")
    with pytest.raises(RunFileError) as refused:
        read_run(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


async def test_a_changed_or_shortened_file_is_refused(tmp_path: Path) -> None:
    """One digit is other, or the end is missing."""
    path = saved(await tuned(16), tmp_path / "a.run.json")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"evaluations":16', b'"evaluations":17', 1))
    with pytest.raises(RunFileError, match="does not match its digest"):
        read_run(path)
    path.write_bytes(content[:-40])
    with pytest.raises(RunFileError, match="damaged one"):
        read_run(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged one"),
        (b"[]", "its format is 'list'"),
        (b'{"format": "lmaas-prompt/1"}', "its format is 'lmaas-prompt/1'"),
        (b"[" * 100_000, "damaged one"),
        (b'{"format": "lmaas-run/1", "wall_s": NaN}', "NaN is no number of JSON's"),
        (b'{"format": "lmaas-run/1", "wall_s": 1e999}', "damaged one"),
        (b"\xff\xfe", "damaged one"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Whatever is in it, the error is the one that callers handle."""
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match="no run file") as refused:
        read_run(path)
    assert said in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """So is a folder, and a folder that is missing when a file is written."""
    for path in (tmp_path / "none.run.json", tmp_path):
        with pytest.raises(RunFileError, match="cannot read the run"):
            read_run(path)
    with pytest.raises(RunFileError, match="cannot write the run file"):
        save_record({"format": "lmaas-run/1"}, tmp_path / "no" / "a.run.json")


async def test_a_record_holds_no_prompt(tmp_path: Path) -> None:
    """The run file can be handed on: what was found is in the prompt file alone."""
    result = await tuned(16)
    assert "float32" not in saved(result, tmp_path / "a.run.json").read_text("utf-8")
    assert isinstance(read_run(tmp_path / "a.run.json"), RunRecord)
