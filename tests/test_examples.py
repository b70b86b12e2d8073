"""The examples run as their own text says, and show what they promise."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lmaas_backends.roberta.server_options import KEYS_VARIABLE

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
MOST_LINES = 60
SERVER = "connect_to_a_server.py"
KEY = "test-key-of-the-examples"
PUBLIC = {"lmaas_sdk", "lmaas_sdk.testing"}


def run_example(
    name: str, *arguments: str, folder: Path, api_key: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs an example from another folder than its own, as a user might."""
    environment = {name: value for name, value in os.environ.items() if name != "LMAAS_API_KEY"}
    if api_key is not None:
        environment["LMAAS_API_KEY"] = api_key
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def printed(run: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of an example that succeeded."""
    assert (0, "") == (run.returncode, run.stderr)
    return run.stdout.splitlines()


@contextmanager
def served_model() -> Iterator[str]:
    """The bundled model served by `lmaas serve`, which takes one key; yields the URL."""
    command = [sys.executable, "-m", "lmaas_sdk.cli", "serve", "--model", "roberta-tiny", "--port", "0"]
    server = subprocess.Popen(
        command, env=os.environ | {KEYS_VARIABLE: f"test={KEY}"}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["url"]
        finally:
            server.terminate()


def test_every_example_is_run_here() -> None:
    """Nobody adds an example that no test runs."""
    assert [
        "connect_to_a_server.py",
        "fit_in_an_application.py",
        "mock_with_quotas.py",
        "resume_a_run.py",
        "watch_a_run.py",
        "your_own_task.py",
    ] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short(name: str) -> None:
    """An example is read in one go."""
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_uses_the_public_face(name: str) -> None:
    """What an example imports of the package, a user may import."""
    tree = ast.parse((EXAMPLES / name).read_text("utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {module for module in modules if module.startswith("lmaas_")} <= PUBLIC


def test_fit_in_an_application(tmp_path: Path) -> None:
    """The budget ends the run, and the prompt file answers in another session."""
    lines = printed(run_example("fit_in_an_application.py", folder=tmp_path))
    assert lines[0].startswith("stopped='budget' after ")
    assert float(lines[1].split(" tokens, ")[1].split(" of ")[0]) <= 0.02
    assert 2 == len(lines[2:])
    assert {"complaint", "praise"} >= {line.split()[0] for line in lines[2:]}
    assert [] == list(tmp_path.iterdir())


def test_connect_to_a_server(tmp_path: Path) -> None:
    """It tunes over HTTP with the key of the environment, and says what is wrong with another or without a server."""
    with served_model() as url:
        lines = printed(run_example(SERVER, url, folder=tmp_path, api_key=KEY))
        refused = run_example(SERVER, url, folder=tmp_path, api_key="test-key-of-mallory")
    gone = run_example(SERVER, url, folder=tmp_path, api_key=KEY)
    assert lines[0].startswith("roberta-tiny: width 128, ")
    assert "stopped='budget'; calls by purpose: {'train': 10, 'predict': 1}" == lines[-1]
    for failed in (refused, gone):
        assert (1, "") == (failed.returncode, failed.stdout)
        assert failed.stderr.startswith(f"cannot use {url}: ")
        assert KEY not in failed.stderr


def test_connecting_needs_a_url(tmp_path: Path) -> None:
    """Without an argument it says what to write."""
    run = run_example(SERVER, folder=tmp_path)
    assert 1 == run.returncode
    assert run.stderr.startswith("say which server: ")


def test_mock_with_quotas(tmp_path: Path) -> None:
    """A quota ends one run, dollars another, and patience is measured in virtual days."""
    lines = printed(run_example("mock_with_quotas.py", folder=tmp_path))
    assert "impatient: stopped='quota' after 600 evaluations" == lines[0]
    dollars = next(index for index, line in enumerate(lines) if line.startswith("five cents: stopped='budget'"))
    spent = [line.split() for line in lines[dollars + 1 : dollars + 4]]
    assert ["dev", "train", "total"] == [row[0] for row in spent]
    assert 0.04 < float(spent[2][5]) <= 0.05
    assert "  it took 9.0 days" == lines[-1]


def test_resume_a_run(tmp_path: Path) -> None:
    """The run that was killed ends where the one that was left alone does, and does no generation again."""
    lines = printed(run_example("resume_a_run.py", folder=tmp_path))
    killed, resumed, ended, same = lines
    assert int(killed.split()[2]) >= 5
    assert int(resumed.removeprefix("Resumed(generations=").split(",")[0]) >= int(killed.split()[2])
    assert "30 generations, 600 evaluations, stopped='budget'" == ended
    assert "the same bytes as a run that was left alone: True" == same


def test_watch_a_run(tmp_path: Path) -> None:
    """The loop sees the waits and stops the run with a result; the slow callback misses no generation."""
    lines = printed(run_example("watch_a_run.py", folder=tmp_path))
    assert {"waiting 60 s: quota"} == {line for line in lines if line.startswith("waiting")}
    assert any(line.startswith("stopped: interrupted, after ") for line in lines)
    assert ["20 generations in 181 s, all shown: True", "waited for the quota: 181 s"] == lines[-2:]


def test_your_own_task(tmp_path: Path) -> None:
    """The tuned prompt beats the manual one on the questions that were held out."""
    lines = printed(run_example("your_own_task.py", folder=tmp_path))
    figures = lines[0].removeprefix("accuracy on 12 questions that were not used: manual prompt ").split(", tuned ")
    manual, tuned = map(float, figures)
    assert tuned > manual
    assert 3 == len(lines[1:])
