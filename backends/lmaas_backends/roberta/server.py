"""`lmaas serve`: one masked language model behind the HTTP API, as one process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from lmaas_backends.roberta.accounts import Accounts
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.http_app import application
from lmaas_backends.roberta.http_connection import SILENCE_S, ApiRunner
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.server_options import add_arguments, read_accounts
from lmaas_backends.roberta.server_tls import read_tls
from lmaas_backends.roberta.state_schema import StateFileError
from lmaas_backends.roberta.usage_store import UsageStore
from lmaas_backends.roberta.work import SynchronousEngine
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import LmaasError

__all__ = ["EXIT_UNAVAILABLE", "EXIT_USAGE", "RobertaServer", "main", "serve", "serving"]

EXIT_USAGE = 2
EXIT_UNAVAILABLE = 4
_LAST_ANSWERS_S = 5.0
_CONNECTIONS = 65_536
_log = logging.getLogger("lmaas_backends.server")

Load = Callable[[argparse.Namespace], tuple[SynchronousEngine, bytes]]


class RobertaServer:
    """The server command, found through the entry-point group `lmaas_sdk.servers`.

    A server command has these two methods: `add_arguments(parser)` adds its options to an `argparse.ArgumentParser`,
    and `run(args)` serves until it is told to stop, then returns the exit code.

    Args:
        load: Makes the engine and tells the model's tokenizer.json, on the thread that the engine is then used on.
    """

    def __init__(self, load: Load | None = None) -> None:
        self._load = load

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the options of `lmaas serve`."""
        add_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Serves until SIGTERM or SIGINT. One line of JSON goes to stdout once calls are taken: `{"model", "url"}`.

        With `--exit-with-parent` a program reads that line, so a failure to start is told there too:
        `{"error": {"message", "type"}}`, where `type` is the name of the error's class.

        Returns:
            0 after a drain; 2 when the options do not fit together; 4 when the model or the address cannot be had.
        """
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        if args.exit_with_parent:
            threading.Thread(target=_end_with_stdin, name="parent", daemon=True).start()
        _allow_connections()
        try:
            accounts, tls = read_accounts(args), read_tls(args.tls_cert, args.tls_key)
        except (ValueError, OSError) as error:
            return _failed(error, EXIT_USAGE)
        try:
            return asyncio.run(_serve(args, accounts, self._load or _load, tls=tls))
        except StateFileError as error:
            return _failed(error, EXIT_USAGE)
        except (LmaasError, OSError) as error:
            if args.exit_with_parent:
                _tell({"error": {"type": type(error).__name__, "message": str(error)}})
            return _failed(error, EXIT_UNAVAILABLE)
        except KeyboardInterrupt:  # before the server was up
            return 128 + signal.SIGINT


serve = RobertaServer()


def main(argv: list[str] | None = None) -> int:
    """`python -m lmaas_backends.roberta.server`: the same command without `lmaas`."""
    parser = argparse.ArgumentParser(prog="lmaas serve", description=__doc__)
    serve.add_arguments(parser)
    return serve.run(parser.parse_args(argv))


@asynccontextmanager
async def serving(
    calls: ModelCalls,
    app: web.Application,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    silence_s: float = SILENCE_S,
    drain_timeout_s: float = 30.0,
) -> AsyncIterator[str]:
    """Serves an application and yields its URL.

    Leaving stops taking connections, answers 503 on those that are open, and waits for the calls in flight.

    Args:
        calls: The model's.
        app: What answers.
        host, port: Where it listens; port 0: any free one.
        tls: Certificate and key; None: plain HTTP.
        silence_s: A connection is closed when no whole head of a request has come for so long.
        drain_timeout_s: Longest wait for the calls in flight, at the end.
    """
    runner = ApiRunner(app, shutdown_timeout_s=_LAST_ANSWERS_S, silence_s=silence_s)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        async with calls:
            try:
                yield _url(runner, "http" if tls is None else "https")
            finally:
                calls.drain(drain_timeout_s)
                await site.stop()
    finally:
        await runner.cleanup()


async def _serve(args: argparse.Namespace, accounts: Accounts, load: Load, *, tls: ssl.SSLContext | None) -> int:
    clocks = Clocks(monotonic=asyncio.get_running_loop().time)
    async with UsageStore(clocks, args.state) as store, EngineThread() as thread:
        engine, tokenizer_json = await thread.run(lambda: load(args))
        calls = ModelCalls(
            engine,
            thread,
            accounts=accounts,
            store=store,
            clocks=clocks,
            most_queued_tokens=args.max_queued_tokens,
        )
        app = application(calls, tokenizer_json)
        async with serving(
            calls, app, host=args.host, port=args.port, tls=tls, drain_timeout_s=args.drain_timeout_s
        ) as url:
            stop = _stop_signal()
            await calls.warm_up()
            _tell({"url": url, "model": calls.card.name})
            await stop.wait()
            _log.info("draining")
    return 0


def _load(args: argparse.Namespace) -> tuple[SynchronousEngine, bytes]:
    """Runs on the engine's thread, which so is the one that torch is set up on."""
    # Imported here alone: torch takes seconds, and --help and a wrong option must not.
    from lmaas_backends.roberta.loading import load_engine  # noqa: PLC0415

    engine = load_engine(args.model, device=args.device, threads=args.threads, linears=args.linears, dtype=args.dtype)
    return engine, engine.model.vocabulary.tokenizer_json


def _allow_connections() -> None:
    """Lets this process have as many connections as it may: the usual 1024 would refuse some by silence, not by 429."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS if hard == resource.RLIM_INFINITY else min(_CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _end_with_stdin() -> None:
    """Ends this process when stdin does, which is when the parent that holds its other end has gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _url(runner: web.AppRunner, scheme: str) -> str:
    host, port = runner.addresses[0][:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _tell(line: dict[str, object]) -> None:
    sys.stdout.write(canonical_json(line).decode() + "\n")
    sys.stdout.flush()


def _failed(error: Exception, code: int) -> int:
    sys.stderr.write(f"lmaas serve: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
