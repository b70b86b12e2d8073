"""HTTPS: a server with a certificate of a CA of its own, called, mistrusted and misconfigured."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from served import Served, served

from lmaas_backends.remote import open_backend
from lmaas_backends.roberta.server import main
from lmaas_backends.roberta.server_tls import read_tls
from lmaas_sdk.backend import ScoreQuery
from lmaas_sdk.errors import Retryable, ServerUntrusted
from lmaas_sdk.registry import load_backend

KEY = "test-key-of-ann"
LONG_AGO = (datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC))


class Pki:
    """A CA and what it signs, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.folder = trustme.CA(), folder
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))

    def issued(self, name: str, host: str = "127.0.0.1", *, expired: bool = False) -> tuple[Path, Path]:
        """The files of a certificate, with those up to its CA, and of its key."""
        begins, ends = LONG_AGO if expired else (None, None)
        issued = self.ca.issue_cert(host, not_before=begins, not_after=ends)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return cert, key

    def context(self, host: str = "127.0.0.1", *, expired: bool = False) -> ssl.SSLContext:
        context = read_tls(*self.issued("server", host, expired=expired))
        assert context is not None
        return context


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pki:
    """A CA that nobody trusts yet, on a machine that trusts none."""
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    return Pki(tmp_path)


@asynccontextmanager
async def over_tls(make_context: Callable[[], ssl.SSLContext]) -> AsyncIterator[Served]:
    async with served(site={"tls": await asyncio.to_thread(make_context)}) as server:
        yield server


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_a_ca_of_the_environment_is_trusted(pki: Pki, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call goes through to a server whose CA the variables name, though they were set after aiohttp's import."""
    named = {"SSL_CERT_FILE": pki.ca_file, "SSL_CERT_DIR": await asyncio.to_thread(hashed_folder, pki)}
    monkeypatch.setenv(variable, str(named[variable]))
    async with over_tls(pki.context) as server, open_backend(server.url, api_key=KEY) as backend:
        reply = await backend.score(ScoreQuery("a"), key="k")

    assert server.url.startswith("https://127.0.0.1:")
    assert 10 == reply.usage.input_tokens


def hashed_folder(pki: Pki) -> Path:
    """A folder as OpenSSL looks CAs up in: each file is named for the hash of its subject."""
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(pki.ca_file)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    folder = pki.folder / "trusted"
    folder.mkdir()
    (folder / f"{name}.0").write_bytes(pki.ca_file.read_bytes())
    return folder


UNTRUSTED: dict[str, tuple[Callable[[Pki], ssl.SSLContext], bool, str]] = {
    "an unknown CA": (Pki.context, False, "name its file in SSL_CERT_FILE"),
    "another name": (lambda pki: pki.context("example.org"), True, "a name or address that the certificate is for"),
    "expired": (lambda pki: pki.context(expired=True), True, "needs a new certificate"),
}


@pytest.mark.parametrize("case", UNTRUSTED.values(), ids=UNTRUSTED.keys())
async def test_a_server_that_is_not_trusted_is_sent_nothing(
    case: tuple[Callable[[Pki], ssl.SSLContext], bool, str],
    pki: Pki,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error says what is wrong and what to do, and is none to be retried; no request reaches the server."""
    caplog.set_level(logging.INFO)
    make_context, ca_is_named, told = case
    if ca_is_named:
        monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca_file))
    async with over_tls(partial(make_context, pki)) as server:
        with pytest.raises(ServerUntrusted, match="nothing was sent") as caught:
            async with open_backend(server.url, api_key=KEY):
                pass

    assert told in str(caught.value)
    assert not isinstance(caught.value, Retryable)
    assert "/v1/" not in caplog.text


async def test_the_error_names_what_the_variables_say(pki: Pki) -> None:
    """Somebody who has set a variable sees which file it was."""
    async with over_tls(pki.context) as server:
        with pytest.raises(ServerUntrusted) as caught:
            async with open_backend(server.url, api_key=KEY):
                pass

    assert f"SSL_CERT_FILE is {os.environ['SSL_CERT_FILE']!r} now" in str(caught.value)


async def test_https_to_a_server_without_tls_is_told(pki: Pki) -> None:
    """Its answer is no TLS, and the message says so."""
    async with served() as server:
        with pytest.raises(ServerUntrusted, match="speaks no TLS: give its URL with http://"):
            async with open_backend(server.url.replace("http:", "https:"), api_key=KEY):
                pass


async def test_plain_http_to_a_port_with_tls_is_dropped_unshown(
    pki: Pki, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a client sends in the clear by mistake gets no answer, and its key is in no log."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with over_tls(pki.context) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(b"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer test-key-of-ann\r\n\r\n")
        answer = await reader.read()
        writer.close()

    assert not answer.startswith(b"HTTP")
    assert "key-of" not in caplog.text + "".join(capfd.readouterr())


def test_no_tls_before_1_2_is_spoken(pki: Pki) -> None:
    """The server's context takes 1.2 and later."""
    assert ssl.TLSVersion.TLSv1_2 == pki.context().minimum_version


def test_without_both_files_the_server_speaks_plain_http() -> None:
    """No context then."""
    assert read_tls(None, None) is None


def encrypted(pki: Pki) -> list[str]:
    cert, key = pki.issued("locked")
    opened = load_pem_private_key(key.read_bytes(), None)
    locked = opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"test-key-of-a-key"))
    key.write_bytes(locked)
    return options(cert, key)


def broken(pki: Pki) -> list[str]:
    cert, key = pki.issued("broken")
    cert.write_bytes(cert.read_bytes().replace(b"MII", b"XXX"))
    return options(cert, key)


def options(cert: Path | None, key: Path | None) -> list[str]:
    named = {"--tls-cert": cert, "--tls-key": key}
    return [word for option, path in named.items() if path for word in (option, str(path))]


MISTAKES: dict[str, tuple[Callable[[Pki], list[str]], str]] = {
    "no key": (lambda pki: options(pki.issued("a")[0], None), "--tls-cert needs --tls-key too"),
    "no certificate": (lambda pki: options(None, pki.issued("a")[1]), "--tls-key needs --tls-cert too"),
    "no such file": (lambda pki: options(pki.folder / "none.pem", pki.issued("a")[1]), "none.pem"),
    "a folder": (lambda pki: options(pki.issued("a")[0], pki.folder), "Is a directory"),
    "the wrong way round": (lambda pki: options(*pki.issued("a")[::-1]), "a.key holds no certificate in PEM form"),
    "no key in the file": (lambda pki: options(pki.issued("a")[0], pki.ca_file), "ca.pem holds no private key"),
    "another key": (
        lambda pki: options(pki.issued("a")[0], pki.issued("b")[1]),
        "the key is not the one of the certificate",
    ),
    "an encrypted key": (encrypted, "is encrypted, and a server that starts by itself has nobody to ask"),
    "a broken certificate": (broken, "cannot be used"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_files_that_cannot_be_used_are_a_usage_error(
    mistake: tuple[Callable[[Pki], list[str]], str], pki: Pki, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line that says what is wrong, before any model is loaded."""
    arguments, told = mistake

    assert 2 == main(["--model", "/no/such/model", *arguments(pki)])
    out, err = capfd.readouterr()
    assert ("", 1) == (out, err.count("\n"))
    assert told in err
    assert "PRIVATE KEY" not in err.replace("holds no private key", "")


async def test_the_command_serves_https(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real process says https:// in its line, answers a backend that trusts its CA, and drains on SIGTERM."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca_file))
    command = [sys.executable, str(Path(__file__).parent / "served.py"), *options(*pki.issued("server"))]
    child = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"LMAAS_SERVER_API_KEYS": f"ann={KEY}"},
    )
    try:
        assert child.stdout is not None
        url = json.loads(await child.stdout.readline())["url"]
        async with load_backend(url, api_key=KEY) as backend:
            reply = await backend.score(ScoreQuery("a"), key="k")
        child.send_signal(signal.SIGTERM)
        code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()

    assert ("https://127.0.0.1", 10, 0) == (url.rpartition(":")[0], reply.usage.input_tokens, code)


def test_a_certificate_stands_in_for_no_api_key(
    pki: Pki, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Other machines may not call without a key, over TLS either."""
    monkeypatch.delenv("LMAAS_SERVER_API_KEYS", raising=False)

    assert 2 == main(["--host", "0.0.0.0", *options(*pki.issued("server"))])  # noqa: S104
    assert "API keys are needed" in capfd.readouterr().err


def test_a_local_server_takes_no_certificate() -> None:
    """It is on loopback and asked by its own parent."""
    with pytest.raises(TypeError, match="no option tls_cert"):
        load_backend("roberta-tiny", tls_cert="a.pem", tls_key="a.key")
