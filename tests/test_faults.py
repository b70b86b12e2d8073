"""Faults to order, and the backend that injects them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from lmaas_backends.mock import MockBackend
from lmaas_sdk.backend import Backend, Capabilities, FeatureQuery, ScoreQuery, TextRegistry
from lmaas_sdk.errors import AttemptTimeout, BackendUnavailable, RateLimited, ServerFault
from lmaas_sdk.testing import Attempt, Fault, FaultInjectingBackend, Faults, check_backend, run_virtual
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet

TEXTS = TextSet(((Piece("field", "a fine film"), MASK),), LabelWords((" bad", " great")))
QUERY = ScoreQuery(TEXTS)


def kinds(faults: Faults, count: int) -> list[str | None]:
    """The kinds that strike attempts 0 .. count-1, each under a key of its own."""
    struck = [faults.strikes(Attempt(number, f"call-{number}")) for number in range(count)]
    return [fault and fault.kind for fault in struck]


def test_no_faults_by_default() -> None:
    """`Faults()` strikes nothing."""
    assert kinds(Faults(), 50) == [None] * 50


def test_a_script_rules_the_attempts_that_it_covers() -> None:
    """The script is read by attempt number, and nothing strikes after its end."""
    faults = Faults(script=[None, "server_fault", Fault("nan")])
    assert kinds(faults, 5) == [None, "server_fault", "nan", None, None]


def test_a_plan_rules_after_the_script() -> None:
    """Beyond the script the plan is asked, with number, key and nth attempt."""
    faults = Faults(script=["hang"], plan=lambda attempt: "refused" if attempt.key == "call-2" else None)
    assert kinds(faults, 4) == ["hang", None, "refused", None]


def test_chance_depends_on_seed_key_and_nth_alone() -> None:
    """The order of arrival changes nothing; another seed or another attempt draws anew."""
    faults = Faults(seed=1, server_fault=0.5)
    keys = [f"call-{number}" for number in range(64)]
    forth = {key: faults.strikes(Attempt(number, key)) for number, key in enumerate(keys)}
    back = {key: faults.strikes(Attempt(number, key)) for number, key in enumerate(reversed(keys))}
    assert back == forth
    assert {key: Faults(seed=2, server_fault=0.5).strikes(Attempt(0, key)) for key in keys} != forth
    assert {key: faults.strikes(Attempt(0, key, nth=1)) for key in keys} != forth


def test_chances_are_kept() -> None:
    """Of 2000 attempts each kind strikes about as often as asked for."""
    found = kinds(Faults(seed=3, server_fault=0.2, timeout=0.1), 2000)
    assert 340 <= found.count("server_fault") <= 460
    assert 150 <= found.count("timeout") <= 250
    assert set(found) == {None, "server_fault", "timeout"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 1.5}, "chance of timeout"),
        ({"nan": -0.1}, "chance of nan"),
        ({"nan": 0.6, "hang": 0.6}, "at most 1 together"),
        ({"script": ["explode"]}, "not 'explode'"),
    ],
)
def test_senseless_faults_are_refused(options: dict[str, Any], message: str) -> None:
    """A chance out of range or a kind that is none is a ValueError that says which."""
    with pytest.raises(ValueError, match=message):
        Faults(**options)


@pytest.mark.parametrize("fault", [{"kind": "refused", "charged": True}, {"kind": "nan", "retry_after_s": -1}])
def test_a_senseless_fault_is_refused(fault: dict[str, Any]) -> None:
    """What is refused cannot be charged, and a wait is not negative."""
    with pytest.raises(ValueError, match=r"never charged|at least 0"):
        Fault(**fault)


@pytest.mark.parametrize(
    ("fault", "error", "sent"),
    [
        (Fault("refused", retry_after_s=2), BackendUnavailable, 0),
        (Fault("rate_limit", retry_after_s=2), RateLimited, 0),
        (Fault("server_fault", retry_after_s=2), ServerFault, 0),
        (Fault("server_fault", charged=True, retry_after_s=2), ServerFault, 1),
    ],
)
async def test_a_fault_raises_its_error(fault: Fault, error: type[Exception], sent: int) -> None:
    """Each kind raises its error with the wait it was given, and reaches the inner backend only if charged."""
    inner = MockBackend()
    with pytest.raises(error) as caught:
        await FaultInjectingBackend(inner, Faults(script=[fault])).score(QUERY, key="k")
    assert (caught.value.retry_after_s, inner.book.computed) == (2, sent)


async def test_a_timeout_was_computed_and_the_retry_is_answered() -> None:
    """The lost answer was computed once, and the same key gets it without being billed again."""
    inner = MockBackend()
    backend = FaultInjectingBackend(inner, Faults(script=["timeout"]))
    with pytest.raises(AttemptTimeout):
        await backend.score(QUERY, key="k")
    await backend.score(QUERY, key="k")
    assert (inner.book.computed, inner.book.replayed) == (1, 1)


async def test_damaged_answers() -> None:
    """`nan` spoils one number and `wrong_shape` drops a column; the stored answer stays whole."""
    backend = FaultInjectingBackend(MockBackend(), Faults(script=["nan", "wrong_shape"]))
    spoiled, short, whole = [(await backend.score(QUERY, key="k")).logits for _ in range(3)]
    assert int(np.isnan(spoiled).sum()) == 1
    assert (short.shape, whole.shape) == ((1, 1, 1), (1, 1, 2))
    assert bool(np.isfinite(whole).all())


async def test_damaged_features() -> None:
    """Feature answers are damaged the same way."""
    backend = FaultInjectingBackend(MockBackend(hidden_size=8), Faults(script=["nan", "wrong_shape"]))
    spoiled, short = [(await backend.features(FeatureQuery(TEXTS), key="k")).features for _ in range(2)]
    assert (int(np.isnan(spoiled).sum()), short.shape) == (1, (1, 7))


@pytest.mark.parametrize(("charged", "computed"), [(False, 0), (True, 1)])
def test_a_hang_ends_only_by_a_deadline(charged: bool, computed: int) -> None:
    """A hanging call waits until its caller gives up."""
    inner = MockBackend()
    backend = FaultInjectingBackend(inner, Faults(script=[Fault("hang", charged=charged)]))

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1e6):
                await backend.score(QUERY, key="k")
        return asyncio.get_running_loop().time()

    assert (run_virtual(main()), inner.book.computed) == (1e6, computed)


async def test_without_faults_it_conforms() -> None:
    """The wrapper itself keeps every rule."""
    await check_backend(FaultInjectingBackend(MockBackend(), Faults()), close=True)


def test_it_registers_only_where_the_inner_backend_does() -> None:
    """The wrapper is a TextRegistry exactly where the inner backend is one."""

    class Plain:
        card = MockBackend(capabilities=Capabilities()).card
        score = features = aclose = None

    plain: Backend = Plain()
    assert isinstance(FaultInjectingBackend(MockBackend(), Faults()), TextRegistry)
    assert not isinstance(FaultInjectingBackend(plain, Faults()), TextRegistry)
