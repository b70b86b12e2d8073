"""What is logged: every event of the table in docs/calls.md, and nothing that should not be in a log."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from client_cases import COUNTS, PRICE, TEXTS, TOKENS, WORDS, Altered, call, failing, mock
from ledger_cases import crash
from ledger_files import die_with
from reply_cases import scored, with_words
from tuning_cases import SMALL, TRAIN, examples

import lmaas_sdk
from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, Client, Limits, RetryPolicy, ScoreQuery, Tuner, Usage, open_cache, open_ledger
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.cli import _warnings_on_stderr
from lmaas_sdk.errors import BackendUnavailable, BudgetExceeded, CircuitOpen, QuotaExceeded, ServerFault
from lmaas_sdk.methods import FeatureLinear, SequentialRandomEmbeddings
from lmaas_sdk.testing import Fault, run_virtual
from lmaas_sdk.tuning.events import Event, GenerationDone
from lmaas_sdk.tuning.presets import RacingChoice

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = RetryPolicy(first_wait_s=0)
LABEL = Label("train", "mock/score@3fa1", "k")
NAMES = {"call": "k", "endpoint": "mock/score", "purpose": "train"}
WORST = {"calls": 1, "evaluations": 2, "tokens": TOKENS, "nanousd": PRICE.call_nanousd + TOKENS * 400}


def told_in_the_docs() -> dict[str, tuple[str, int, str, set[str]]]:
    """The table: (logger, level, message, fields) by event."""
    page = (ROOT / "docs" / "calls.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([A-Z]+) \| (.*) \| (`.*`) \|$", page, re.MULTILINE)
    levels = logging.getLevelNamesMapping()
    return {
        event: (f"lmaas_sdk.{part}", levels[level], message, set(fields.replace("`", "").split()))
        for event, part, level, message, fields in rows
    }


DOCS = told_in_the_docs()


class Log:
    """Looks into what was logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    @property
    def records(self) -> list[logging.LogRecord]:
        """Of our own loggers."""
        return [record for record in self.caplog.records if record.name.startswith("lmaas_")]

    def of(self, event: str, level: int | None = None) -> list[dict[str, object]]:
        """The fields of every record of an event, each of which is as the docs have it."""
        name, usual, message, fields = DOCS[event]
        found = [record for record in self.records if vars(record)["lmaas_event"] == event]
        values = [_values(record) for record in found]
        for record, has in zip(found, values, strict=True):
            assert (name, level or usual, message) == (record.name, record.levelno, record.msg)
            assert fields == has.keys()
            assert all(value is None or isinstance(value, (str, int, float)) for value in has.values())
            assert record.getMessage()
        return values

    @property
    def events(self) -> list[str]:
        """The names of all events, in their order."""
        return [vars(record)["lmaas_event"] for record in self.records]


def _values(record: logging.LogRecord) -> dict[str, object]:
    ours = {name.removeprefix("lmaas_"): value for name, value in vars(record).items() if name.startswith("lmaas_")}
    return {name: value for name, value in ours.items() if name != "event"}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """Everything that the SDK logs, at any level."""
    caplog.set_level(logging.DEBUG, "lmaas_sdk")
    return Log(caplog)


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    with open_ledger(tmp_path / "ledger.db") as opened:
        yield opened


# -- the table


def test_the_docs_name_every_event_that_the_code_has() -> None:
    """And no other: names are what others filter by."""
    called = [(node, ast.unparse(node.func)) for node in nodes_of_the_code() if isinstance(node, ast.Call)]
    telling = [node for node, name in called if name in ("log_event", "_tell", "self._tell")]
    values = [
        part.value for call in telling for one in call.args for part in ast.walk(one) if isinstance(part, ast.Constant)
    ]
    named = {value for value in values if isinstance(value, str) and value.replace("_", "").isalpha()}
    assert DOCS.keys() == named | {"warning_callback_failed"}
    assert ["_log.exception"] == [name for _, name in called if re.fullmatch(r"_log(ger)?\.(?!isEnabledFor)\w+", name)]


def nodes_of_the_code() -> Iterator[ast.AST]:
    """Every node of every module of the SDK."""
    for path in (ROOT / "lmaas_sdk").rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def test_there_is_one_logger_a_part() -> None:
    """So that a program can name them; the backends have the server's, and that of several servers together."""
    found: dict[str, set[str]] = {}
    for folder in ("lmaas_sdk", "backends/lmaas_backends"):
        for path in (ROOT / folder).rglob("*.py"):
            part = path.relative_to(ROOT / folder).parts[0]
            for name in re.findall(r'getLogger\("([\w.]+)"\)', path.read_text(encoding="utf-8")):
                found.setdefault(name, set()).add(part)
    assert found == {
        "lmaas_sdk": {"cli"},
        "lmaas_sdk.accounting": {"accounting"},
        "lmaas_sdk.methods": {"methods"},
        "lmaas_sdk.traffic": {"traffic"},
        "lmaas_sdk.tuning": {"tuning"},
        "lmaas_backends.replicas": {"replica.py"},
        "lmaas_backends": {"roberta"},
        "lmaas_backends.server": {"roberta"},
    }


# -- a call


async def test_a_call_that_succeeds_logs_nothing(log: Log, tmp_path: Path) -> None:
    """Through a ledger and a cache in files, sent and answered from the cache, at any level."""
    async with open_ledger(tmp_path / "ledger.db") as ledger, open_cache(tmp_path / "cache") as cache:
        budget = Budget(calls=100, evaluations=1000, tokens=10**6, usd="10", ledger=ledger)
        client = Client(mock(limits=Limits(requests_per_minute=100)), budget, cache=cache)
        for _ in range(2):
            for number in range(10):
                await client.score(call(client, f"{number}"))
    assert [] == log.records


async def test_a_failed_attempt_that_is_repeated(log: Log) -> None:
    """Each is told with its number and what is waited for."""
    client = Client(mock("refused", Fault("rate_limit", retry_after_s=0.02), "refused"), Budget(), retry=AT_ONCE)
    await client.score(call(client))
    unavailable = NAMES | {"error": "BackendUnavailable", "wait_s": 0.0}
    assert log.of("attempt_failed") == [
        unavailable | {"attempt": 1},
        NAMES | {"attempt": 2, "error": "RateLimited", "wait_s": 0.02},
        unavailable | {"attempt": 3},
    ]
    assert {"attempt_failed", "concurrency_cut"} == set(log.events)


@pytest.mark.parametrize(
    ("backend", "error", "attempts"),
    [
        (mock(*["refused"] * 9), BackendUnavailable, 3),
        (failing(ValueError("of the backend's own")), ValueError, 1),
        (mock("refused", Fault("rate_limit", retry_after_s=99)), QuotaExceeded, 2),
    ],
    ids=["attempts end", "no retry", "patience ends"],
)
async def test_a_call_that_fails_for_good(
    log: Log, backend: MockBackend, error: type[Exception], attempts: int
) -> None:
    """After however many attempts; what was waited for is told by the attempts before."""
    client = Client(backend, Budget(), retry=RetryPolicy(attempts=3, first_wait_s=0, max_wait_s=1))
    with pytest.raises(error):
        await client.score(call(client))
    assert [NAMES | {"attempts": attempts, "error": error.__name__}] == log.of("call_failed")
    assert attempts - 1 == len(log.of("attempt_failed"))


async def test_a_call_that_the_budget_refuses(log: Log) -> None:
    """It failed for good too, though nothing was sent."""
    client = Client(mock(), Budget(tokens=1))
    with pytest.raises(BudgetExceeded):
        await client.score(call(client))
    assert [NAMES | {"attempts": 1, "error": "BudgetExceeded"}] == log.of("call_failed")


def test_a_registration_that_fails(log: Log) -> None:
    """It has no key."""

    async def main() -> None:
        client = Client(backend := MockBackend(), Budget(), retry=RetryPolicy(attempts=2, first_wait_s=0))

        async def refuse(*_: object) -> None:
            raise BackendUnavailable("nobody there")

        backend.register = refuse  # type: ignore[method-assign,assignment]
        with pytest.raises(BackendUnavailable):
            await client.register(TEXTS)

    run_virtual(main())
    names = {"call": "", "endpoint": "register", "purpose": ""}
    assert [names | {"attempts": 2, "error": "BackendUnavailable"}] == log.of("call_failed")


def test_waits_for_a_quota(log: Log) -> None:
    """The client's own count and a 429, where they are longer than a second."""

    async def main() -> None:
        slow = Client(MockBackend(limits=Limits(requests_per_minute=1)), Budget())
        for key in ("k", "k2"):
            await slow.score(call(slow, key))
        asked = Client(mock(Fault("rate_limit", retry_after_s=7), Fault("rate_limit", retry_after_s=1)), Budget())
        await asked.score(call(asked))

    run_virtual(main())
    own, provider = log.of("quota_wait")
    assert (NAMES | {"call": "k2", "cause": "quota"}, NAMES | {"wait_s": 7.0, "cause": "429"}) == (
        {name: value for name, value in own.items() if name != "wait_s"},
        provider,
    )
    assert own["wait_s"] == pytest.approx(60.25)


def test_a_cut_of_the_concurrency(log: Log) -> None:
    """Halved by a 429, once for all that were under way."""

    async def main() -> None:
        backend = mock(*[Fault("rate_limit", retry_after_s=1)] * 4, limits=Limits(concurrency=8), latency_s=0.1)
        client = Client(backend, Budget())
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(client.score(call(client, f"{number}")))

    run_virtual(main())
    assert [(8, 4)] == [(one["before"], one["limit"]) for one in log.of("concurrency_cut")]


def test_a_circuit_opens_and_closes(log: Log) -> None:
    """Opened once, a record for every probe that fails, and closed by an answer."""

    async def main() -> None:
        patient = RetryPolicy(attempts=99, first_wait_s=1, budget_floor=99)
        client = Client(mock(*["refused"] * 23), Budget(), retry=patient)
        for number in range(9):
            try:
                await client.score(call(client, f"{number}"))
            except CircuitOpen as refused:
                await asyncio.sleep(refused.retry_after_s)

    run_virtual(main())
    (opened,) = log.of("circuit_opened")
    (closed,) = log.of("circuit_closed")
    assert opened == {"backend": "mock", "failures": 20, "pause_s": 1.0, "error": "BackendUnavailable"}
    assert [(21, 2.0), (22, 4.0), (23, 8.0)] == [
        (one["failures"], one["pause_s"]) for one in log.of("circuit_probe_failed")
    ]
    assert ("mock", 23) == (closed["backend"], closed["failures"])


# -- the books


async def test_an_unknown_outcome_is_told_with_what_is_posted(log: Log) -> None:
    """A time-out, and a call that is cancelled after it was sent."""
    budget = Budget(name="team").child("run")
    client = Client(mock("timeout", None, "hang"), budget, retry=AT_ONCE)
    await client.score(call(client))
    task = asyncio.create_task(client.score(call(client, "k2")))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    lost, cancelled = log.of("unknown_outcome")
    of_entry = {"transfer": lost["transfer"], "budget": "team/run"}
    assert NAMES | WORST | of_entry == lost
    assert ("k2", TOKENS) == (cancelled["call"], cancelled["tokens"])
    assert lost["transfer"] in {entry.transfer for entry in budget.ledger.entries()}  # type: ignore[attr-defined]


def test_an_overrun_is_told_with_how_much_it_is_over(ledger: Ledger, log: Log) -> None:
    """By unit, on either ledger; a bill within what was reserved says nothing."""
    budget = Budget(name="team", ledger=ledger).child("run")
    within, over = budget.reserve_all([Amounts(1, 2, 30, 400)] * 2, [LABEL] * 2)
    within.post(Amounts(1, 2, 30, 400))
    over.post(Amounts(1, 2, 37, 1400))
    ledger.run(lambda book: None)
    by = {"over_calls": 0, "over_evaluations": 0, "over_tokens": 7, "over_nanousd": 1000}
    assert [NAMES | by | {"budget": "team/run", "transfer": over.id}] == log.of("overrun")


async def test_a_provider_that_bills_too_much(log: Log) -> None:
    """The client says so once, and that the call failed."""
    backend = Altered(lambda reply: replace(reply, usage=Usage(TOKENS + 1)))
    client = Client(backend, Budget())
    with pytest.raises(BudgetExceeded):
        await client.score(call(client))
    assert ["overrun", "call_failed"] == log.events
    assert [(1, 400)] == [(one["over_tokens"], one["over_nanousd"]) for one in log.of("overrun")]


def test_a_threshold_that_nobody_is_called_for(ledger: Ledger, log: Log) -> None:
    """Once for each part of each limit, here and above, at the post that passes it."""
    team = Budget(calls=8, tokens=1000, name="team", ledger=ledger)
    run = team.child("run", Budget(evaluations=3, warn_at=(0.25,)))
    told = []
    for hold in run.reserve_all([Amounts(1, Fraction(1, 4), 10)] * 8):
        hold.post(Amounts(1, Fraction(1, 4), 10))
        ledger.run(lambda book: None)
        told.append(len(log.records))
    assert [0, 0, 1, 2, 2, 2, 2, 3] == told
    assert [
        (one["budget"], one["unit"], one["fraction"], one["posted"], one["limit"]) for one in log.of("budget_threshold")
    ] == [
        ("team/run", "evaluations", 0.25, 0.75, 3),
        ("team", "calls", 0.5, 4, 8),
        ("team", "calls", 0.9, 8, 8),
    ]


def test_a_threshold_moves_with_its_limit(ledger: Ledger, log: Log) -> None:
    """A limit that is raised in time is not told of, and a post that passes two parts at once tells both."""
    team = Budget(calls=4, name="team", ledger=ledger)
    team.reserve(Amounts(1)).post(Amounts(1))
    ledger.set_limits("team", Budget(calls=10))
    for posted in (3, 6):
        team.reserve(Amounts(posted)).post(Amounts(posted))
        ledger.run(lambda book: None)
    assert [(0.5, 10, 10), (0.9, 10, 10)] == [
        (one["fraction"], one["posted"], one["limit"]) for one in log.of("budget_threshold")
    ]


def test_a_threshold_with_a_callback_or_without_parts_is_not_logged(ledger: Ledger, log: Log) -> None:
    """The callback has been told, and what it raises is logged."""
    heard: list[object] = []
    for number, budget in enumerate(
        (
            Budget(calls=1, name="called", ledger=ledger, on_warning=heard.append),
            Budget(calls=1, name="silent", ledger=ledger, warn_at=()),
            Budget(name="unlimited", ledger=ledger),
        )
    ):
        budget.reserve(Amounts(1, number)).post(Amounts(1, number))
    ledger.run(lambda book: None)
    assert (2, []) == (len(heard), log.records)


def test_a_warning_callback_that_fails(ledger: Ledger, log: Log) -> None:
    """With its traceback."""

    def fail(_: object) -> None:
        raise RuntimeError("no pager")

    Budget(calls=1, name="team", ledger=ledger, warn_at=(1.0,), on_warning=fail).reserve(Amounts(1)).post(Amounts(1))
    ledger.run(lambda book: None)
    assert [{"budget": "team"}] == log.of("warning_callback_failed")
    assert "RuntimeError: no pager" in log.caplog.text


def test_what_a_killed_process_left(log: Log, tmp_path: Path) -> None:
    """Two transfers that it had sent, one that it had not; told once, and by nobody who opens the file later."""
    path = tmp_path / "ledger.db"
    die_with(path)
    for _ in range(2):
        with open_ledger(path):
            pass
    left = {"file": str(path), "owners": 1, "unknown": 2, "void": 1, "released": 0}
    assert [left] == log.of("ledger_recovered")


def test_what_the_dead_left_is_counted_over_all_of_them(log: Log, tmp_path: Path) -> None:
    """Those that left nothing too; if none has left anything, it is no warning."""
    path = tmp_path / "ledger.db"
    crash(open_ledger(path).__enter__())
    with open_ledger(path) as ledger:
        assert [0] == [one["void"] for one in log.of("ledger_recovered", logging.INFO)]
        crashing = [open_ledger(path).__enter__() for _ in range(3)]
        for other in crashing[:2]:
            Budget(calls=10, name="team", ledger=other).set_aside("dev", Amounts(2)).reserve(Amounts(1))
        for other in crashing:
            crash(other)
        assert 0 == Budget(calls=10, name="team", ledger=ledger).pending.tokens
    log.caplog.clear()
    with open_ledger(path):
        pass
    assert [(3, 0, 2, 2)] == [
        (one["owners"], one["unknown"], one["void"], one["released"]) for one in log.of("ledger_recovered")
    ]


def test_a_ledger_that_is_closed_with_calls_under_way(log: Log, tmp_path: Path) -> None:
    """They are posted as unknown; what was only reserved is void, and nothing to tell of."""
    path = tmp_path / "ledger.db"
    for sends in (False, True):
        with open_ledger(path) as ledger:
            holds = Budget(name="team", ledger=ledger).reserve_all([Amounts(1)] * 3)
            if sends:
                asyncio.run(holds[0].mark_sent())
    assert ["ledger_closed_early"] == log.events
    assert [{"file": str(path), "owners": 1, "unknown": 1, "void": 2, "released": 0}] == log.of("ledger_closed_early")


def test_a_booking_that_is_refused_and_a_ledger_that_cannot_be_written(log: Log, tmp_path: Path) -> None:
    """The first concerns nobody who waits; the second ends the ledger."""
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path).__enter__()
    ledger.perform(lambda connection: connection.execute("SELECT * FROM nowhere"))
    ledger.run(lambda book: None)
    (refused,) = log.of("booking_refused")
    ledger.perform(lambda connection: connection.execute("ROLLBACK"))
    with pytest.raises(lmaas_sdk.LedgerError):
        ledger.close()
    (unwritable,) = log.of("ledger_unwritable")
    assert (str(path), str(path), "no such table: nowhere") == (refused["file"], unwritable["file"], refused["problem"])


def test_a_ledger_that_cannot_be_opened(log: Log, tmp_path: Path) -> None:
    """The error says it; the log does not say it again."""
    with pytest.raises(lmaas_sdk.LedgerError), open_ledger(tmp_path / "missing" / "ledger.db"):
        pass
    assert [] == log.records


async def test_a_budget_that_the_tuner_makes(log: Log) -> None:
    """What it caps the money at; its thresholds are nobody's, so they are not told."""
    await Tuner(mock(), preset=SMALL).fit(TRAIN)
    (made,) = log.of("default_budget")
    assert 8000 == made["evaluations"]
    assert [] == log.of("budget_threshold")


@pytest.mark.parametrize(("count", "racing"), [(4, "on"), (4, "auto"), (4, "off"), (6, "on")])
async def test_a_race_that_does_not_take_place(log: Log, count: int, racing: RacingChoice) -> None:
    """Who asked for it is told that too few texts are there; nobody else is."""
    preset = replace(SMALL, racing=racing)
    await Tuner(mock(), budget=Budget(evaluations=16, warn_at=()), preset=preset).fit(examples(0, count))
    expected = [{"texts": 4, "classes": 2}] if (count, racing) == (4, "on") else []
    assert expected == log.of("no_race")


async def test_a_dev_set_that_cannot_be_paid(log: Log) -> None:
    """Which limit that was, and how many texts are not looked at."""
    budget = Budget(tokens=130, warn_at=())
    await FeatureLinear(mock(), budget=budget, epochs=1).fit(examples(0, 16), examples(100, 12))
    (told,) = log.of("dev_left_out")
    assert told["texts"] == 12
    assert "allows 130 tokens" in str(told["reason"])


async def test_rounds_that_end_early(log: Log) -> None:
    """How many there were, and what became of the next: others have taken its part of the budget."""
    budget = Budget(evaluations=16, warn_at=())

    def take(event: Event) -> None:
        if isinstance(event, GenerationDone):
            budget.reserve(Amounts(evaluations=8))

    method = SequentialRandomEmbeddings(mock(), budget=budget, rounds=2, preset=SMALL)
    await method.fit(TRAIN, on_event=take)
    assert [{"rounds": 1, "error": "BudgetTooSmall"}] == log.of("rounds_ended")


# -- the cache


async def test_a_damaged_entry_of_a_cache(log: Log, tmp_path: Path) -> None:
    """The kind of the damage, and nothing of what the entry had."""
    path = tmp_path / "answers.cache"
    async with open_cache(path) as cache:
        await cache.put("a", with_words())
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE replies SET reply = substr(reply, 1, 80)")
        assert await cache.get("a") is None
    assert [{"file": str(path), "error": "CorruptEntry"}] == log.of("cache_entry_dropped")
    assert "great" not in everything(log)


async def test_a_cache_that_cannot_be_used(log: Log, tmp_path: Path) -> None:
    """Locked by another: a warning at first, then only for debugging."""
    path = tmp_path / "answers.cache"
    async with open_cache(path, busy_timeout_s=0.01) as cache:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await cache.put("a", scored())
            assert [{"file": str(path), "error": "SQLITE_BUSY"}] == log.of("cache_unusable")
            log.caplog.clear()
            await cache.put("a", scored())
            assert [{"file": str(path), "error": "SQLITE_BUSY"}] == log.of("cache_unusable", logging.DEBUG)


async def test_answers_that_a_cache_cannot_keep(log: Log, tmp_path: Path) -> None:
    """One of another type, and one that comes when the cache is closed."""
    path = tmp_path / "answers.cache"
    async with open_cache(path) as cache:
        await cache.put("a", replace(scored(), logits=scored().logits.astype("float64")))
    await cache.put("a", scored())
    assert [{"file": str(path), "error": "ValueError"}] == log.of("cache_answer_not_kept")
    assert [{"file": str(path), "error": None}] == log.of("cache_closed")


# -- what is in no record


def everything(log: Log) -> str:
    """All that a record has."""
    return "\n".join(f"{record.getMessage()} {vars(record)!r}" for record in log.records)


async def test_no_record_has_a_text_a_label_or_an_account(log: Log) -> None:
    """Though a backend quotes what it was sent in its error, and is told apart by its API key."""
    quoting = ServerFault(f"cannot score {WORDS} with ' bad' and ' great'")
    backend = failing(quoting)
    backend.account = "3fa1b2c3d4e5"  # type: ignore[attr-defined]
    client = Client(backend, Budget(calls=3), retry=AT_ONCE)
    with pytest.raises((ServerFault, BudgetExceeded)):
        await client.score(client.call(ScoreQuery(TEXTS), "k", purpose="predict", token_counts=COUNTS))
    assert {"attempt_failed", "unknown_outcome", "budget_threshold", "call_failed"} == set(log.events)
    told = everything(log)
    for word in (*WORDS, "great", "bad", "It was", "cannot score", "3fa1"):
        assert not re.search(rf"\b{re.escape(word)}", told)


def test_a_key_cannot_forge_a_line(log: Log) -> None:
    """It is shown as Python would write it."""
    Budget().reserve(Amounts(1), Label(key="k\n2026 INFO all is well")).post_unknown()
    assert "\n" not in log.records[0].getMessage()


# -- handlers


def in_a_new_process(program: str) -> str:
    """What a program says on stderr."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stderr


def test_the_library_is_silent_and_leaves_the_root_logger_alone() -> None:
    """A program that configures nothing is told nothing, and one that does is told as it likes."""
    warns = "from lmaas_sdk import Amounts, Budget; Budget().reserve(Amounts(1)).post_unknown()"
    state = "import logging; root = logging.getLogger(); assert (root.handlers, root.level) == ([], logging.WARNING)"
    assert "" == in_a_new_process(f"{warns}; {state}")
    configured = "import logging; logging.basicConfig(format='%(name)s %(lmaas_event)s %(lmaas_calls)d')"
    assert "lmaas_sdk.accounting unknown_outcome 1\n" == in_a_new_process(f"{configured}; {warns}")


def test_a_command_prints_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, and only while it runs."""
    with _warnings_on_stderr():
        Budget(name="team").reserve(Amounts(1)).post_unknown()
    Budget(name="team").reserve(Amounts(1)).post_unknown()
    assert "nobody knows what became of call '': it is posted at the worst case\n" == capsys.readouterr().err
