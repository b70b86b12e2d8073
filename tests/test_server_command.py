"""The command behind `lmaas serve`: its options, exit codes and the real process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.server import main, serve
from lmaas_sdk.registry import load_server


def test_another_host_without_keys_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that other machines reach needs keys: exit code 2 and a message, before any model is loaded."""
    monkeypatch.delenv("LMAAS_SERVER_API_KEYS", raising=False)

    assert main(["--host", "0.0.0.0"]) == 2  # noqa: S104
    assert "API keys are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--price-usd-per-1k-tokens", "x"],
        ["--price-usd-per-1k-tokens", "-1"],
        ["--balance-usd", "NaN"],
        ["--requests-per-minute", "0"],
        ["--port", "70000"],
        ["--time-zone", "Mars/Olympus"],
        ["--time-zone", "../etc"],
        ["--threads", "0"],
        ["--threads", "99999999"],
    ],
)
def test_an_option_out_of_range_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Bad values are refused by the parser with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_a_malformed_key_file_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad line is named by its number and not shown."""
    file = tmp_path / "api-keys"
    file.write_text("# who\nann = test-key-of-ann\ntest-key-of-bob\n")

    assert main(["--api-key-file", str(file)]) == 2
    assert "entry 2 is not of the form NAME=KEY" in (told := capsys.readouterr().err)
    assert "key-of" not in told


def test_a_model_that_is_not_there_is_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that cannot be loaded is one line on stderr and exit code 4."""
    assert main(["--model", "/no/such/folder"]) == 4
    assert "lmaas serve: no model at '/no/such/folder'" in capsys.readouterr().err


def test_the_entry_point_is_this_server() -> None:
    """`lmaas serve` finds the server without importing it by name."""
    assert serve is load_server("roberta")


def examples() -> list[tuple[str, str]]:
    """Path and body of each POST that docs/http-api.md shows."""
    document = (Path(__file__).parent.parent / "docs" / "http-api.md").read_text("utf-8")
    return re.findall(r"http://127\.0\.0\.1:8080(/v1/\w+) -d '(.*?)'", document, re.DOTALL)


async def documented_status(session: aiohttp.ClientSession, url: str, path: str, body: str) -> int:
    async with session.post(f"{url}{path}", data=body, headers={"Content-Type": JSON}) as answer:
        return answer.status


async def test_the_command_serves_the_bundled_model_until_sigterm(tmp_path: Path) -> None:
    """The real process prints its URL, answers with its price, logs no body or key, and ends with 0 on SIGTERM."""
    command = [
        sys.executable,
        "-m",
        "lmaas_backends.roberta.server",
        "--threads",
        "1",
        "--price-usd-per-1k-tokens",
        "0.0004",
    ]
    log = (tmp_path / "stderr").open("wb")
    child = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env=os.environ | {"LMAAS_SERVER_API_KEYS": "ann=test-key-of-ann"},
    )
    text = [["A fine film", {"template": " . It was"}, {"mask": True}]]
    query = {"model": "roberta-tiny", "texts": {"texts": text, "label_words": {"words": [" bad", " great"]}}}
    try:
        assert child.stdout is not None
        started = json.loads(await child.stdout.readline())
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer test-key-of-ann"}) as session:
            async with session.post(f"{started['url']}/v1/score", json=query) as answer:
                told = await answer.json()
            documented = [await documented_status(session, started["url"], *example) for example in examples()]
            child.send_signal(signal.SIGTERM)
            code = await child.wait()
    finally:
        log.close()
        if child.returncode is None:
            child.kill()
            await child.wait()
    logged = (tmp_path / "stderr").read_text()

    assert (started["model"], told["logits"]["shape"], code) == ("roberta-tiny", [1, 1, 2], 0)
    assert documented == [200] * 4
    assert "ann POST /v1/score 200" in logged
    assert not any(word in logged for word in ("key-of", "fine film", "Traceback"))
