"""A simulated run and a real one over HTTP, on the same model and under the same quota, book the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from served import FakeLanes, SetClock, served

from lmaas_backends.mock import MockBackend
from lmaas_backends.mock import landscape as mock_landscape
from lmaas_backends.mock.model import SyntheticModel
from lmaas_backends.roberta.accounts import Terms
from lmaas_sdk import Budget, FeatureQuery, Limits, Preset, Price, ScoreQuery, load_backend
from lmaas_sdk.accounting.accounts import Entry
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.planning.conditions import Conditions, Latency
from lmaas_sdk.planning.playing import new_budget, new_tuner, play
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.planning.synthetic import SyntheticLandscape, SyntheticTexts
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic import quota
from lmaas_sdk.tuning.events import Event, Waiting

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

SEED, WIDTH, DIRECTIONS = 3, 16, 10
HURRY = 60  # a minute of the quota passes in a second
NO_TIMEOUT_S = 1e6  # it passes as fast
SMALL = Preset("small", d=10, prompt_tokens=4, population=6, covariance="diagonal", dev_every=2)


class HurriedLoop(asyncio.SelectorEventLoop):
    """An event loop with real sockets and real threads whose clock runs `HURRY` times as fast."""

    def __init__(self) -> None:
        super().__init__(_HurriedSelector())

    def time(self) -> float:
        return HURRY * super().time()


class _HurriedSelector(selectors.BaseSelector):
    """Waits for as long as it takes on that clock."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._real.select(None if timeout is None else timeout / HURRY)

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class LoopClock(SetClock):
    """The clock of the running loop, for the server's quotas."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time

    def __call__(self) -> float:
        return self._clock()


class MockEngine:
    """The mock's model as a server's engine: each call is one unit of work."""

    def __init__(self, max_candidates: int) -> None:
        mock = MockBackend(hidden_size=WIDTH, max_candidates=max_candidates)
        self.card = replace(mock.card, limits=Limits(), price=None)
        landscape = mock_landscape.SyntheticLandscape(effective_dim=DIRECTIONS, seed=0, ruggedness=0.0)
        self._model = SyntheticModel(self.card, landscape, landscape.vectors(WIDTH, 1), seed=0, noise=0.0)
        self.lanes = FakeLanes()
        self.register, self.upload = self._model.register, self._model.upload

    def job(self, query: ScoreQuery | FeatureQuery) -> MockWork:
        job = self._model.score_job(query, "") if isinstance(query, ScoreQuery) else self._model.feature_job(query, "")
        return MockWork(job.usage.input_tokens, job.compute)


class MockWork:
    """A call of so many positions."""

    def __init__(self, positions: int, compute: Callable[[], Any]) -> None:
        self.units, self._compute = (positions,), compute
        self._reply: Any = None

    def flops(self, _unit: int) -> int:
        return 1000 * self.units[0]

    def prepare(self, _unit: int) -> Callable[[], None]:
        return self._run

    def reply(self) -> Any:
        return self._reply

    def _run(self) -> None:
        self._reply = self._compute()


def scaled_down(**limits: int) -> Scenario:
    """Four generations and two looks at dev, one call after another, with a wait for the minute's quota."""
    quotas = Limits(**limits, concurrency=1)
    price = Price(input_nanousd_per_mtok=400_000_000, call_nanousd=100)
    return Scenario(
        train=SyntheticTexts(6, (3, 7)),
        dev=SyntheticTexts(4, 5),
        preset=SMALL,
        budget=Budget(evaluations=24, usd="1.00", calls=40),
        conditions=Conditions(
            price=price, quotas=quotas, latency=Latency(median_s=0.1), began=datetime(2026, 3, 1, tzinfo=UTC)
        ),
        candidates_a_call=2,
        landscape=SyntheticLandscape(DIRECTIONS, hidden_size=WIDTH),
    )


async def really(scenario: Scenario) -> tuple[tuple[Entry, ...], list[Event]]:
    """The run over HTTP on loopback, on a server that runs the same quota; what its ledger says, and its events."""
    events: list[Event] = []
    terms = Terms(price=scenario.conditions.price, limits=scenario.limits)
    engine = MockEngine(scenario.candidates_a_call or 1)
    async with served(engine=engine, terms=terms, clock=LoopClock(), site={"silence_s": NO_TIMEOUT_S}) as server:
        options = {"timeout_s": NO_TIMEOUT_S, "connect_timeout_s": NO_TIMEOUT_S}
        async with load_backend(server.url, api_key="test-key-of-ann", **options) as backend:
            ledger = MemoryLedger()
            budget = new_budget(scenario, ledger=ledger, clock=asyncio.get_running_loop().time)
            tuner = new_tuner(scenario, backend, seed=SEED, budget=budget)
            await tuner.fit(*scenario.data(SEED), on_event=events.append)
    return ledger.entries(), events


def told(entries: Iterable[Entry]) -> list[tuple[object, ...]]:
    """Ledger rows without times and ids: calls and transfers by the order in which they appear."""
    numbers: dict[str | None, int] = {}
    rows: list[tuple[object, ...]] = []
    for entry in entries:
        account = entry.account.partition("#")[0]
        amounts = (entry.calls, entry.evaluations, entry.tokens, entry.nanousd)
        ids = [numbers.setdefault(each, len(numbers)) for each in (entry.transfer, entry.key)]
        rows.append((entry.kind, account, entry.purpose, *amounts, entry.unknown, *ids))
    return rows


@pytest.fixture
def hurried_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request's way may differ by passes as fast as the minute that it is a part of."""
    monkeypatch.setattr(quota, "MARGIN_S", HURRY * quota.MARGIN_S)


@pytest.mark.usefixtures("hurried_margin")
@pytest.mark.parametrize("limits", [{"requests_per_minute": 8}, {"tokens_per_minute": 1500}], ids=min)
def test_a_simulated_run_books_what_a_real_one_books(limits: dict[str, int]) -> None:
    """Row by row: what was reserved, sent, posted and given back, for what purpose, at what amounts."""
    scenario, simulated = scaled_down(**limits), list[Event]()
    played = run_virtual(play(scenario, SEED, began=scenario.began(), on_event=simulated.append), threads=False)
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        entries, events = runner.run(really(scenario))
    assert told(entries) == told(played.entries)
    assert 4 * 3 + 2 == sum(entry.kind == "post" for entry in entries)
    reasons = [{event.reason for event in seen if isinstance(event, Waiting)} for seen in (events, simulated)]
    assert [{"the quota"}, {"the quota"}] == reasons
