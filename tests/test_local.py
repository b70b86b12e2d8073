"""A local model: as a child process that leaves nothing behind, and in this process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

import lmaas_backends.roberta
from lmaas_backends.local import open_backend
from lmaas_backends.server_process import started_server
from lmaas_sdk.backend import Price, ScoreQuery
from lmaas_sdk.errors import BackendUnavailable, ModelLoadError, NoLanguageModelHead
from lmaas_sdk.registry import load_backend
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet

TEXTS = TextSet(
    ((Piece("field", "A fine film"), Piece("template", " . It was"), MASK),), LabelWords((" bad", " great"))
)
WAIT_S = 60
BUNDLED = Path(lmaas_backends.roberta.__file__).parent / "tiny"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def state(pid: int) -> str:
    """A process's state as the kernel tells it: "gone", "Z" for a zombie, else a letter of its own."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def alive(pid: int) -> bool:
    return state(pid) not in {"gone", "Z"}


async def until_gone(pid: int) -> bool:
    async with asyncio.timeout(WAIT_S):
        while alive(pid):  # noqa: ASYNC110 - nothing tells of another process's child
            await asyncio.sleep(0.01)
    return True


async def test_a_child_and_this_process_compute_the_same_bits() -> None:
    """The bundled model answers alike from a child's server, which has a price and limits, and in this process."""
    options: dict[str, object] = {"price_usd_per_1k_tokens": "0.0004", "requests_per_minute": 60}
    own_options = {"in_process": True, "threads": 1}  # as the child's, by default
    async with load_backend("roberta-tiny", **options) as child, load_backend("roberta-tiny", **own_options) as own:
        served = await child.score(ScoreQuery(TEXTS), key="k")
        computed = await own.score(ScoreQuery(TEXTS), key="k")
        fingerprints = {child.card.fingerprint, own.card.fingerprint}
        terms = (child.card.price, child.card.limits.requests_per_minute)

    assert computed.logits.tobytes() == served.logits.tobytes()
    assert computed.usage == served.usage
    assert len(fingerprints) == 1
    assert (Price(400_000_000, source="the server's own price"), 60) == terms


@LINUX
async def test_the_child_ends_with_the_backend_and_keeps_its_key_to_itself() -> None:
    """Leaving ends the process and reaps it; its key is in no repr."""
    async with started_server(["--threads=1"], startup_timeout_s=WAIT_S) as server:
        running = alive(server.pid)

    assert running
    assert server.api_key not in repr(server)
    assert state(server.pid) == "gone"


async def test_a_model_that_is_not_there_is_told_in_the_servers_words() -> None:
    """The child's own message becomes the error, and the child is gone."""
    with pytest.raises(ModelLoadError, match=r"^no model at '/no/such/folder': there is no such folder"):
        async with open_backend("/no/such/folder"):
            pass


def model_without_head(folder: Path) -> Path:
    """A copy of the bundled model that has lost its language-model head."""
    copied = shutil.copytree(BUNDLED, folder / "model")
    weights = load_file(copied / "model.safetensors")
    kept = {name: array for name, array in weights.items() if not name.startswith("lm_head")}
    save_file(kept, copied / "model.safetensors", metadata={"format": "pt"})
    return copied


async def test_a_load_error_keeps_its_class(tmp_path: Path) -> None:
    """What the child's loader raised is raised here, so a caller can tell a missing head from a missing folder."""
    with pytest.raises(NoLanguageModelHead):
        async with open_backend(str(model_without_head(tmp_path))):
            pass


@LINUX
async def test_files_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that happens to have a library's name does not break the child, while PYTHONPATH still counts."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "tokenizers.py").write_text("raise SystemExit('the wrong file')")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "sitecustomize.py").write_text("import sys; sys.stderr.write('PYTHONPATH counts')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    async with started_server(["--threads=1"], startup_timeout_s=WAIT_S) as server:
        running = alive(server.pid)
    with pytest.raises(BackendUnavailable, match="PYTHONPATH counts"):
        async with started_server(["--no-such-option"], startup_timeout_s=WAIT_S):
            pass

    assert running


async def test_a_child_that_babbles_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first line that is not the server's own is an error of the tree that shows it."""
    (tmp_path / "sitecustomize.py").write_text("print('welcome', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="began with b'welcome'"):
        async with started_server(["--threads=1"], startup_timeout_s=WAIT_S):
            pass


async def test_a_server_that_is_too_slow_is_given_up() -> None:
    """A child that is not ready in time is ended, and the option to wait longer is named."""
    with pytest.raises(BackendUnavailable, match=r"not ready within 0\.01 s \(startup_timeout_s=\)"):
        async with open_backend("roberta-tiny", startup_timeout_s=0.01):
            pass


async def test_a_server_that_ends_early_shows_its_last_words() -> None:
    """Any other end of the child is BackendUnavailable with its exit code and the tail of its stderr."""
    with pytest.raises(BackendUnavailable, match=r"(?s)exit code 2; its last words: .*arguments: --no-such-option"):
        async with started_server(["--no-such-option"], startup_timeout_s=WAIT_S):
            pass


PARENT = """
import asyncio, json, sys
from lmaas_backends.server_process import started_server

async def main():
    async with started_server(["--threads=1"], startup_timeout_s=60) as server:
        print(json.dumps(server.pid), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@LINUX
async def test_the_child_dies_with_a_parent_that_is_killed() -> None:
    """SIGKILL of the parent, which leaves it no time for anything, ends the server too."""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = json.loads(await parent.stdout.readline())
    running = alive(child)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()

    assert (running, await until_gone(child)) == (True, True)


INTERRUPTED = """
import asyncio, json, signal
from lmaas_backends.remote import open_backend
from lmaas_backends.server_process import started_server

async def main():
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    async with started_server(["--threads=1"], startup_timeout_s=60) as server:
        print(json.dumps(server.pid), flush=True)
        await interrupted.wait()
        for _ in range(20):  # a child that was interrupted too would refuse one of these
            async with open_backend(server.url, api_key=server.api_key):
                pass
    print("answered to the end", flush=True)

asyncio.run(main())
"""


@LINUX
async def test_a_terminals_interrupt_reaches_the_parent_only() -> None:
    """Ctrl-C goes to the whole foreground group; the child is not in it, and ends when its parent says so."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", INTERRUPTED, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    child = json.loads(await parent.stdout.readline())
    groups = {os.getpgid(child), os.getpgid(parent.pid)}
    os.killpg(parent.pid, signal.SIGINT)
    last_words = await parent.stdout.read()

    assert (await parent.wait(), last_words, len(groups)) == (0, b"answered to the end\n", 2)
    assert await until_gone(child)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"colour": "red"}, TypeError, r"no option colour; it has api_key_file, balance_usd"),
        ({"port": 80}, TypeError, r"no option port"),
        ({"requests_per_minute": 0}, ValueError, r"--requests-per-minute.*of at least 1, not '0'"),
        ({"threads": 0}, ValueError, r"--threads"),
        ({"threads": 99_999_999}, ValueError, r"--threads.*a whole number from 1 to \d+, not '99999999'"),
        ({"in_process": True, "threads": 99_999_999}, ValueError, r"--threads"),
        ({"in_process": True, "balance_usd": "1"}, TypeError, r"no server to take balance_usd"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(
    options: dict[str, object], error: type[Exception], told: str
) -> None:
    """Unknown options are TypeError and bad values ValueError, both at once."""
    with pytest.raises(error, match=told):
        load_backend("roberta-tiny", **options)


def test_importing_the_backends_pulls_no_torch() -> None:
    """Neither the remote nor the local backend imports torch or transformers."""
    code = (
        "import sys, lmaas_backends.local, lmaas_backends.remote; print({'torch', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == "set()\n"
