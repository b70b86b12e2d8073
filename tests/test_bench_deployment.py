"""The deployment table: a real server, a real user's process, and every byte between them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmaas_sdk import PRESETS, BackendError, LmaasError, ModelLoadError, TaskError
from lmaas_sdk.bench.configurations import CONFIGURATIONS
from lmaas_sdk.bench.deployment import DeploymentRow, Traffic, measure_deployment
from lmaas_sdk.bench.deployment_row import traffic_of
from lmaas_sdk.bench.processes import Child, Served, served, user_process
from lmaas_sdk.bench.relay import Exchange
from lmaas_sdk.bench.user_job import UserJob
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.secret import Secret
from lmaas_sdk.tasks import Dataset, get_task

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
SEARCH = "black-box:small-model@40"
PURPOSES = {"train", "dev", "test", "probe", "features", "predict"}
SETTING: dict[str, Any] = {"max_length": 20, "shots": 4, "test_rows": 20, "threads": 1}


def write_data(folder: Path) -> None:
    """The demo's reviews, as SST-2 lies on a disk."""
    splits = demo_splits()
    assert splits.dev is not None
    assert splits.test is not None
    for name, rows in (("train", (*splits.train, *splits.dev)), ("dev", splits.test.examples)):
        lines = [f"{row.fields[0]}\t{row.label}" for row in rows]
        path = folder / "SST-2" / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["text\tlabel", *lines]) + "\n", "utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def rows(data: Path) -> dict[str, DeploymentRow]:
    """A method that asks nothing to be fitted, and one that searches."""
    told: list[DeploymentRow] = []
    found = asyncio.run(measure_deployment(["manual", SEARCH], "sst2", data=data, on_row=told.append, **SETTING))
    assert found == told
    return {row.configuration: row for row in found}


def test_what_works_over_the_api_needs_no_torch(rows: dict[str, DeploymentRow]) -> None:
    """Its user has no model and no torch, and one server would do for many tasks."""
    assert ["manual", SEARCH] == list(rows)
    for row in rows.values():
        assert (True, True, False) == (row.as_a_service, row.deployment_efficient, row.user_loads_torch)


@LINUX
def test_memory_is_told_of_both_processes(rows: dict[str, DeploymentRow]) -> None:
    """Peaks only grow, and who has the model has more."""
    for row in rows.values():
        user = (row.user_memory_idle_bytes, row.user_memory_fit_bytes, row.user_memory_bytes)
        server = (row.server_memory_idle_bytes, row.server_memory_fit_bytes, row.server_memory_bytes)
        assert "user: VmHWM of /proc/PID/status; server: VmHWM of /proc/PID/status" == row.memory_source
        for peaks in (user, server):
            known = [peak for peak in peaks if peak is not None]
            assert len(known) == 3
            assert all(later >= before - (1 << 20) for before, later in itertools.pairwise(known))
        assert (user[2] or 0) < (server[0] or 0)


def test_requests_on_the_socket_are_the_attempts_of_the_ledger(rows: dict[str, DeploymentRow]) -> None:
    """Nothing was sent that was not booked, but for what is free."""
    for row in rows.values():
        booked = {name: one.requests for name, one in row.traffic.items() if name in PURPOSES}
        assert row.attempts == sum(booked.values())
        assert row.traffic.keys() - PURPOSES <= {"registration", "registration for test", "card and tokenizer"}


def test_a_query_is_an_evaluation(rows: dict[str, DeploymentRow]) -> None:
    """Bytes of the requests for training are divided by candidates; each carries z as float32 and little else."""
    row = rows[SEARCH]
    train = row.traffic["train"]
    heads = train.up_bytes - 4 * PRESETS["small-model"].d * 40
    assert (40.0, 40.0) == (row.queries, row.evaluations)
    assert (train.up_bytes / 40, train.down_bytes / 40) == (row.upload_bytes, row.download_bytes)
    assert 0 < heads < 1024 * train.requests
    assert train.down_bytes > 4 * 2 * row.train_rows * 40  # logits of two words a text, as float32


def test_texts_are_sent_once_and_apart(rows: dict[str, DeploymentRow]) -> None:
    """What a set of texts weighs is in no query."""
    texts = sum(len(row.fields[0]) for row in demo_splits().train.examples) / len(demo_splits().train)
    for row in rows.values():
        assert row.traffic["registration for test"].requests == 1
    registered = rows[SEARCH].traffic["registration"]
    assert registered.up_bytes > registered.requests * texts
    assert "registration" not in rows["manual"].traffic


def test_a_method_that_asks_nothing_has_no_queries(rows: dict[str, DeploymentRow]) -> None:
    """None, not 0: there is nothing to be so small."""
    row = rows["manual"]
    assert (0.0, None, None) == (row.queries, row.upload_bytes, row.download_bytes)
    assert {"test"} == row.traffic.keys() & PURPOSES


def test_rows_tell_of_their_data(rows: dict[str, DeploymentRow]) -> None:
    """How many, how many were cut, and on what they were measured."""
    row = rows["manual"]
    assert (8, 8, 20, 20, 42) == (row.train_rows, row.dev_rows, row.test_rows, row.max_length, row.seed)
    assert 0 < row.cut_test <= 20
    assert ("sst2", "roberta-tiny", "accuracy", 0) == (row.task, row.model, row.metric, row.shortened)
    assert {row.cut_train for row in rows.values()} == {row.cut_train}
    assert 0 <= row.test_metric <= 1


def test_a_row_is_kept_as_json(rows: dict[str, DeploymentRow]) -> None:
    """It comes back equal."""
    for row in rows.values():
        assert row == DeploymentRow.from_dict(json.loads(json.dumps(row.to_dict())))


@pytest.mark.parametrize("value", [{}, {"traffic": {}}, {"traffic": {"test": {"bytes": 1}}}, {"traffic": 3}])
def test_what_is_no_row_is_refused(value: dict[str, Any]) -> None:
    """The message says so."""
    with pytest.raises(ValueError, match="this is no row of a deployment table"):
        DeploymentRow.from_dict(value)


def test_traffic_is_told_apart_by_what_the_ledger_says() -> None:
    """A key has its purpose, whatever its path; what has no booked key is told by its path and its time."""
    exchanges = [
        Exchange("/v1/models", up=1, down=10),
        Exchange("/v1/datasets", up=2, down=20),
        Exchange("/v1/score", "a", up=3, down=30),
        Exchange("/v1/score", "a", up=4, down=40),
        Exchange("/v1/arrays", up=5, down=50),
        Exchange("/v1/datasets", up=6, down=60),
        Exchange("/v1/features", "b", up=7, down=70),
    ]
    assert {
        "card and tokenizer": Traffic(1, 1, 10),
        "registration": Traffic(1, 2, 20),
        "train": Traffic(2, 7, 70),
        "arrays": Traffic(1, 5, 50),
        "registration for test": Traffic(1, 6, 60),
        "test": Traffic(1, 7, 70),
    } == traffic_of(exchanges, {"a": "train", "b": "test"}, of_fit=5)


async def test_an_unknown_configuration_is_refused_before_anything_is_measured(data: Path) -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match=r"a configuration is one of manual, .*not 'black-magic'"):
        await measure_deployment(["manual", "black-magic"], "sst2", data=data / "nowhere", **SETTING)


async def test_nothing_asked_for_is_nothing_measured(data: Path) -> None:
    """No server is started, and no data are read."""
    assert [] == await measure_deployment([], "sst2", data=data / "nowhere", **SETTING)


async def test_where_it_is_over_no_other_row_is_begun(data: Path) -> None:
    """What was measured until then is there."""
    told: list[DeploymentRow] = []
    names = ["manual", "in-context"]
    options = {"on_row": told.append, "is_over": lambda: bool(told), **SETTING}
    assert ["manual"] == [row.configuration for row in await measure_deployment(names, "sst2", data=data, **options)]
    assert ["manual"] == [row.configuration for row in told]


async def test_a_row_that_fails_leaves_the_others(data: Path) -> None:
    """Who asks to be told of it gets the other rows; who does not, its error."""
    told: list[tuple[str, str]] = []
    names, few = ["black-box:small-model@2", "manual"], "BudgetTooSmall: "
    found = await measure_deployment(
        names, "sst2", data=data, on_failure=lambda name, error: told.append((name, str(error))), **SETTING
    )
    assert ["manual"] == [row.configuration for row in found]
    assert [(names[0], few)] == [(name, said[: len(few)]) for name, said in told]
    with pytest.raises(LmaasError, match=few):
        await measure_deployment(names, "sst2", data=data, **SETTING)


async def test_data_that_are_not_there_are_told(data: Path) -> None:
    """By the reader's own message."""
    with pytest.raises(TaskError, match="nowhere"):
        await measure_deployment(["manual"], "sst2", data=data / "nowhere", **SETTING)


async def test_a_server_that_cannot_load_its_model_says_why() -> None:
    """Its own error is raised."""
    with pytest.raises(ModelLoadError, match="no model at '/no/such/folder'"):
        async with served("/no/such/folder"):
            pass


async def test_a_server_that_ends_at_once_shows_its_last_words() -> None:
    """The exit code and the end of stderr."""
    with pytest.raises(LmaasError, match=r"(?s)exit code 2; its last words: .*--no-such-option"):
        async with served("roberta-tiny", ["--no-such-option"]):
            pass


def test_the_key_of_a_server_is_in_no_repr() -> None:
    """It was made up for this measurement, and still is a key."""
    assert "test-key-of-ann" not in repr(Served(1, "http://127.0.0.1:80", Secret("test-key-of-ann")))


def job(configuration: str) -> UserJob:
    """A method on some of the demo's reviews, with the mock in the user's process."""
    splits, task = demo_splits(), get_task("sst2")
    given = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    sets = {name: Dataset(task, rows.examples[:8], name) for name, rows in given.items() if rows is not None}
    return UserJob(configuration, "mock", False, None, 40, 42, **sets)


def test_a_users_process_begins_with_little() -> None:
    """What would be in its memory and is no user's: reports, pictures, servers, torch."""
    program = "import sys, lmaas_sdk.bench.user_process; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "matplotlib", "jinja2", "rich", "scipy", "lmaas_backends"}
    assert set() == heavy & set(done.stdout.split())


async def test_a_users_error_comes_through() -> None:
    """What went wrong in the user's process is raised here, by its name."""
    async with user_process(None) as user:
        await user.tell(job("black-magic").to_wire())
        with pytest.raises(LmaasError, match="ValueError: a configuration is one of"):
            await user.told("fitted")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("CircuitOpen", BackendError), ("BudgetTooSmall", LmaasError), ("KeyError", LmaasError), ("TaskError", TaskError)],
)
async def test_a_backends_error_is_one_here_too(name: str, kind: type[LmaasError]) -> None:
    """Whose own class takes more than a message, as well."""
    told = {"error": {"type": name, "message": "no more"}}
    process = await asyncio.create_subprocess_exec("echo", json.dumps(told), stdout=subprocess.PIPE)
    child = Child(process, "echo")
    with pytest.raises(LmaasError, match="no more") as failure:
        await child.told("report")
    await child.end()
    assert kind is type(failure.value)


async def test_a_job_comes_through_unchanged() -> None:
    """Texts with line breaks and signs of all kinds, too."""
    asked = job("manual")
    assert asked == UserJob.from_wire(json.loads(json.dumps(asked.to_wire())))


@LINUX
async def test_a_user_does_not_outlive_its_measurement() -> None:
    """Leaving in the middle of a job ends the process."""
    async with user_process(None) as user:
        await user.tell(job("manual").to_wire())
        await user.told("fitted")
        running = await asyncio.to_thread(Path(f"/proc/{user.pid}").exists)
    assert (True, False) == (running, await asyncio.to_thread(Path(f"/proc/{user.pid}").exists))


LOCAL_ONLY = """
from lmaas_sdk import Unsupported
from lmaas_sdk.bench.configurations import CONFIGURATIONS, Configuration
from lmaas_sdk.methods import ManualPrompt


class LocalOnly(ManualPrompt):
    name = "model-tuning"

    def __init__(self, backend, **options):
        if type(backend).__name__ != "InProcessBackend":
            raise Unsupported("this needs weights")
        super().__init__(backend, **options)


CONFIGURATIONS["local-only"] = Configuration(
    "local-only", "Local Only", "model-tuning", lambda setup: LocalOnly(setup.backend, **setup.connection)
)
"""


@LINUX
def test_what_refuses_the_api_is_measured_in_the_users_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no service: there is no server, nothing is sent, and the user has model and torch."""
    (tmp_path / "sitecustomize.py").write_text(LOCAL_ONLY)  # so that the user's process knows it, too
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setitem(CONFIGURATIONS, "local-only", CONFIGURATIONS["manual"])
    (row,) = asyncio.run(measure_deployment(["local-only"], "sst2", data=data, **SETTING))

    assert ("local-only", "model-tuning") == (row.configuration, row.method)
    assert (False, False, True) == (row.as_a_service, row.deployment_efficient, row.user_loads_torch)
    assert (None, None, None, None) == (
        row.server_memory_bytes,
        row.server_memory_idle_bytes,
        row.upload_bytes,
        row.download_bytes,
    )
    assert ({}, 0) == (row.traffic, row.attempts)
    assert "user: VmHWM of /proc/PID/status; server: there is no server" == row.memory_source
