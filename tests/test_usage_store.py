"""The books of a server: kept over a restart and a kill, and by several servers together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from concurrent import futures
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lmaas_backends.roberta.accounts import Account, Terms
from lmaas_backends.roberta.kept_answers import Answer, KeptAnswers
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.state_file import StateFile
from lmaas_backends.roberta.state_schema import SCHEMA_VERSION, StateFileError
from lmaas_backends.roberta.usage_store import Charge, Metered, UsageStore
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.backend import Limits, Price, Usage

DAY_S = 86_400.0
TEN = Usage(input_tokens=10)  # 1000 nano-dollars
PRICED = Terms(Price(100_000_000))


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = 100 * DAY_S) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def asked(terms: Terms = PRICED, key: str | None = "k", *, body: str = "f", endpoint: str = "score") -> Metered:
    return Metered(Account("ann", terms), endpoint, key, body)


@asynccontextmanager
async def opened(path: Path | None, clock: SetClock | None = None, **bounds: int) -> AsyncIterator[UsageStore]:
    clock = clock or SetClock()
    async with UsageStore(Clocks(clock, clock), path, answers=KeptAnswers(**bounds)) as store:
        yield store


async def called(store: UsageStore, metered: Metered, body: bytes = b"first") -> bytes:
    """Does what the server does for a call whose computation makes `body`."""
    charge = await store.admit(metered, 10, metered.account.terms.cost_nanousd(TEN))
    if isinstance(charge, Answer):
        return charge.body
    return (await store.settle(charge, TEN, Answer(body, "text/plain"))).body


async def billed(store: UsageStore, terms: Terms = PRICED) -> tuple[Any, Any]:
    """Calls and nano-dollars of the account."""
    report = await store.report(Account("ann", terms))
    return report["calls"], report["nanousd"]


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the books are: what holds in one place holds in the other."""
    return None if request.param == "memory" else tmp_path / "state"


async def test_a_key_is_billed_once_and_answered_alike(place: Path | None) -> None:
    """The second call under a key gets the first one's bytes and no bill, another key a computation of its own."""
    async with opened(place) as store:
        bodies = [await called(store, asked(), b"1"), await called(store, asked(), b"2")]
        bodies.append(await called(store, asked(key="other"), b"3"))

        assert [b"1", b"1", b"3"] == bodies
        assert (2, 2_000) == await billed(store)


async def test_an_answer_is_kept_for_a_day(place: Path | None) -> None:
    """A key is remembered until, and not at, 24 hours after its answer."""
    clock, bodies = SetClock(0.0), []
    async with opened(place, clock) as store:
        for clock.now, body in ((0.0, b"1"), (DAY_S - 1, b"2"), (DAY_S, b"3")):
            bodies.append(await called(store, asked(), body))

    assert [b"1", b"1", b"3"] == bodies


@pytest.mark.parametrize("bound", [{"most_answers": 2}, {"most_bytes": 2}])
async def test_what_is_kept_is_bounded(place: Path | None, bound: dict[str, int]) -> None:
    """Beyond either bound the oldest answer is forgotten, and only it."""
    async with opened(place, **bound) as store:
        keys = [(key, b"%d" % number) for number, key in enumerate("abccba")]
        bodies = [await called(store, asked(key=key), body) for key, body in keys]

    assert [b"0", b"1", b"2", b"2", b"1", b"5"] == bodies


async def test_a_key_with_another_request_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    """What a key was used for is kept with its answer."""
    async with opened(tmp_path / "state") as store:
        await called(store, asked())
    async with opened(tmp_path / "state") as store:
        with pytest.raises(RefusalError) as caught:
            await store.look(asked(body="g"))

    assert caught.value.kind.name == "key_reused"


async def test_a_restart_forgets_no_bill_and_no_answer(tmp_path: Path) -> None:
    """Usage, balance and answers are the same after the file was closed and opened again."""
    terms = Terms(PRICED.price, balance_nanousd=1_500)
    async with opened(tmp_path / "state") as store:
        await called(store, asked(terms))
        before = await store.report(Account("ann", terms))
    async with opened(tmp_path / "state") as store:
        after = await store.report(Account("ann", terms))
        again = await called(store, asked(terms), b"second")
        with pytest.raises(RefusalError, match=r"the balance is \$0\.0000005"):
            await called(store, asked(terms, "other"))

    assert (before, b"first") == (after, again)


async def test_quotas_survive_a_restart(tmp_path: Path) -> None:
    """A minute, a calendar day and any 24 hours go on where they were, and end when they would have."""
    clock = SetClock()
    rolling = Terms(limits=Limits(requests_per_minute=2, requests_per_day=3))
    calendar = Terms(limits=Limits(requests_per_day=1, day_time_zone="UTC"))
    waits = []
    async with opened(tmp_path / "state", clock) as store:
        await called(store, asked(rolling, None))
        await called(store, asked(calendar, None, endpoint="features"))
    for clock.now in (100 * DAY_S + 30, 100 * DAY_S + 59, 100 * DAY_S + 95):
        async with opened(tmp_path / "state", clock) as store:
            waits += [await wait_of(store, asked(rolling, None)), await wait_of(store, asked(rolling, None))]
            waits.append(await wait_of(store, asked(calendar, None, endpoint="features")))

    assert [None, 30.0, DAY_S - 30, 1.0, 1.0, DAY_S - 59, None, DAY_S - 95, DAY_S - 95] == waits


async def wait_of(store: UsageStore, metered: Metered) -> float | None:
    """Calls, or tells the seconds to wait."""
    try:
        await called(store, metered)
    except RefusalError as refusal:
        return refusal.retry_after_s
    return None


async def test_a_clock_set_back_over_a_restart_gives_and_takes_no_day(tmp_path: Path) -> None:
    """What was admitted in what is now the future counts from now: not for ever, and not for nothing."""
    clock, terms = SetClock(), Terms(limits=Limits(requests_per_minute=1))
    async with opened(tmp_path / "state", clock) as store:
        await called(store, asked(terms, None))
    clock.now -= 1_000
    async with opened(tmp_path / "state", clock) as store:
        waits = [await wait_of(store, asked(terms, None))]
        clock.now += 60
        waits.append(await wait_of(store, asked(terms, None)))

    assert [60.0, None] == waits


async def test_servers_that_share_a_file_bill_a_key_once(tmp_path: Path) -> None:
    """Two servers that compute one key at the same time: the first bills, the second serves the first one's bytes."""
    async with opened(tmp_path / "state") as one, opened(tmp_path / "state") as two:
        charges = [await store.admit(asked(), 10, 1_000) for store in (one, two)]
        assert all(isinstance(charge, Charge) for charge in charges)
        bodies = [
            (await store.settle(charge, TEN, Answer(body, "text/plain"))).body
            for store, charge, body in zip((one, two), charges, (b"1", b"2"), strict=True)
        ]

        assert [b"1", b"1"] == bodies
        assert (1, 1_000) == await billed(two)


async def test_servers_that_share_a_file_refuse_a_key_used_for_two_things(tmp_path: Path) -> None:
    """Of two requests under one key at two servers the later to be computed is refused and free."""
    async with opened(tmp_path / "state") as one, opened(tmp_path / "state") as two:
        first, second = await one.admit(asked(), 10, 1_000), await two.admit(asked(body="g"), 10, 1_000)
        await one.settle(first, TEN, Answer(b"1", "text/plain"))
        with pytest.raises(RefusalError) as caught:
            await two.settle(second, TEN, Answer(b"2", "text/plain"))

        assert caught.value.kind.name == "key_reused"
        assert (1, 1_000) == await billed(two)


async def test_servers_that_share_a_file_share_quota_balance_and_concurrency(tmp_path: Path) -> None:
    """Of calls at two servers at once exactly as many are admitted as one server would admit."""
    bounds = {
        "quota": Terms(limits=Limits(requests_per_day=7, day_time_zone="UTC")),
        "balance": Terms(PRICED.price, balance_nanousd=7_999),
        "concurrency": Terms(limits=Limits(concurrency=7)),
    }
    admitted = dict.fromkeys(bounds, 0)

    async def ask(store: UsageStore, name: str) -> None:
        try:
            await store.admit(Metered(Account(name, bounds[name]), "score"), 10, bounds[name].cost_nanousd(TEN))
        except RefusalError:
            return
        admitted[name] += 1

    async with opened(tmp_path / "state") as one, opened(tmp_path / "state") as two, asyncio.TaskGroup() as tasks:
        for name in bounds:
            for store in (one, two) * 10:
                tasks.create_task(ask(store, name))

    assert dict.fromkeys(bounds, 7) == admitted


async def test_what_a_living_server_set_aside_is_not_free_until_it_ends(tmp_path: Path) -> None:
    """Money and slots of another server are held while it lives, and freed when it ends, whatever it left open."""
    terms = Terms(PRICED.price, Limits(concurrency=1), balance_nanousd=1_500)
    async with opened(tmp_path / "state") as store:
        async with opened(tmp_path / "state") as other:
            await other.admit(asked(terms, None), 10, 1_000)
            with pytest.raises(RefusalError) as caught:
                await store.admit(asked(terms, None), 10, 1_000)
        body = await called(store, asked(terms, None), b"after")

    assert ("payment_required", b"after") == (caught.value.kind.name, body)


async def test_a_voided_call_is_free(place: Path | None) -> None:
    """What was set aside for a call that is not computed may be spent again, and nothing is billed."""
    terms = Terms(PRICED.price, balance_nanousd=1_500)
    async with opened(place) as store:
        charge = await store.admit(asked(terms, None), 10, 1_000)
        assert isinstance(charge, Charge)
        store.void(charge)

        assert 1_500 == (await store.report(Account("ann", terms)))["balance_nanousd"]
        assert (0, 0) == await billed(store, terms)


async def test_a_bill_that_cannot_be_written_is_no_bill(tmp_path: Path) -> None:
    """Where the file refuses a row, neither bill nor answer holds, the caller is told 503, and counts stay right."""
    terms = Terms(PRICED.price, Limits(requests_per_day=2))
    async with opened(tmp_path / "state") as store:
        put_trigger(
            tmp_path / "state", "CREATE TRIGGER full BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        with pytest.raises(RefusalError) as caught:
            await called(store, asked(terms), b"lost")
        put_trigger(tmp_path / "state", "DROP TRIGGER full")
        found = await store.look(asked(terms))
        body = await called(store, asked(terms), b"second")
        with pytest.raises(RefusalError, match="2 requests a day is used up"):
            await called(store, asked(terms, "third"))

        assert ("unavailable", 503) == (caught.value.kind.name, caught.value.kind.status)
        assert (None, b"second", (1, 1_000)) == (found, body, await billed(store))


def put_trigger(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


async def test_works_that_wait_are_committed_or_undone_each_by_itself(tmp_path: Path) -> None:
    """One work that fails among many undoes its own writes alone."""

    def write(connection: sqlite3.Connection, number: int) -> int:
        connection.execute("INSERT INTO replicas VALUES (?)", (str(number),))
        if number % 3 == 0:
            raise ZeroDivisionError
        return number

    undone: list[str] = []
    async with StateFile(tmp_path / "state", on_undone=lambda: undone.append("once")) as file:
        works = [file.submit(lambda connection, number=number: write(connection, number)) for number in range(9)]
        await asyncio.to_thread(futures.wait, works)
        kept = await file.execute(lambda connection: connection.execute("SELECT count(*) FROM replicas").fetchone()[0])

    assert (6, 3) == (kept, len(undone))
    assert [None if n % 3 == 0 else n for n in range(9)] == [
        None if done.exception() else done.result() for done in works
    ]


async def test_the_file_holds_no_key_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    """An idempotency key is nowhere in the files, and others may not read them."""
    async with opened(tmp_path / "state") as store:
        await called(store, asked(key="ann\0key-of-this-call"))
        contents = {file.name: file.read_bytes() for file in files(tmp_path)}
        modes = {file.name: file.stat().st_mode & 0o077 for file in files(tmp_path) if file.suffix != ".alive"}

    assert b"first" in b"".join(contents.values())
    assert b"key-of-this-call" not in b"".join(contents.values())
    assert dict.fromkeys(["state", "state-shm", "state-wal"], 0) == modes


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_nothing_but_the_file_is_left_behind(tmp_path: Path) -> None:
    """Closing removes what told that the server lived."""
    async with opened(tmp_path / "state"):
        assert 2 <= len(files(tmp_path))

    assert [tmp_path / "state"] == files(tmp_path)


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (("CREATE TABLE other (x)",), "something else"),
        (("PRAGMA application_id = 1819112310", f"PRAGMA user_version = {SCHEMA_VERSION + 1}"), "update lmaas-sdk"),
    ],
)
async def test_a_file_of_something_else_or_of_later_is_refused(
    tmp_path: Path, statements: tuple[str, ...], told: str
) -> None:
    """A database that is no state, or a newer one, is left alone."""
    connection = sqlite3.connect(tmp_path / "state")
    for statement in statements:
        connection.execute(statement)
    connection.close()

    with pytest.raises(StateFileError, match=told):
        async with opened(tmp_path / "state"):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Any other file, or a folder that is not there, is told by its path."""
    (tmp_path / "text").write_text("hello, this is no database at all" * 100)
    for path in (tmp_path / "text", tmp_path / "no" / "folder"):
        with pytest.raises(StateFileError, match=f"the state file {path} cannot be used"):
            async with opened(path):
                pass
