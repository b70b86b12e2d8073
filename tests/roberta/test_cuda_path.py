"""The way the engine takes on CUDA, gone on a pretended device: everything is where it belongs, and nobody waits."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from roberta.pretended_card import NAME, Card, pretended_card
from served import served
from torch import Tensor

from lmaas_backends.roberta.answer import TopAnswer
from lmaas_backends.roberta.device_memory import within_memory
from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.jobs import Way
from lmaas_backends.roberta.linears import Linear, PlainLinear
from lmaas_backends.roberta.loading import load_engine
from lmaas_sdk.backend import FeatureQuery, ScoreQuery
from lmaas_sdk.errors import BackendUnavailable, InvalidQuery, ModelLoadError
from lmaas_sdk.tuning.subspace import Subspace

FIELDS = tuple(f"take {number}" + " of a slow film" * (number % 5) for number in range(12))
FEWER_BITS = ("bfloat16", "float16")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    with pretended_card(monkeypatch) as made:
        yield made


def query(reference: Any, **changes: Any) -> ScoreQuery:
    """Seven candidates on twelve texts."""
    space = Subspace(30, 5, reference.loaded.weights.words.shape[1])
    Z = np.random.default_rng(4).standard_normal((7, 30)).astype(np.float32)
    return ScoreQuery(reference.texts(*FIELDS), **({"subspace": space, "Z": Z} | changes))


def on_card(reference: Any, **options: Any) -> Engine:
    """The engine there, with room for four candidates in a unit, so that seven take two."""
    engine = load_engine(reference.hf.name_or_path, device=NAME, **options)
    room = 4 * sum(engine.register(reference.texts(*FIELDS), query(reference).subspace).token_counts)
    engine._way, engine._precise = (replace(way, most_positions=room) for way in (engine._way, engine._precise))
    return engine


def on_processor(reference: Any) -> Engine:
    return load_engine(reference.hf.name_or_path, linears="plain")


def test_the_pretended_card_is_as_strict_as_a_real_one(card: Card) -> None:
    """What is on both sides meets only by a copy, and numbers are read only from a copy."""
    there, here = torch.ones(3, device=NAME), torch.ones(3)
    with pytest.raises(RuntimeError, match="on the same device"):
        there + here
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()
    assert card.waits == []
    assert (there + here.to(NAME)).device == torch.device(NAME)
    assert (there + here.pin_memory().to(NAME, non_blocking=True)).cpu().tolist() == [2.0, 2.0, 2.0]
    assert len(card.waits) == 2  # the first copy there, and the one back


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_every_kind_of_call_has_the_logits_of_the_processor(card: Card, model: Any, layout: Any) -> None:
    """With seeded and with uploaded arrays, chosen rows, words, and no prompt at all; candidates share the units."""
    engine, plain = on_card(model), on_processor(model)
    asked = query(model)
    assert asked.subspace is not None
    rows, d = asked.subspace.shape
    projection = np.random.default_rng(5).standard_normal((rows, d)).astype(np.float32)
    base = np.random.default_rng(6).standard_normal((5, asked.subspace.hidden_size)).astype(np.float32)
    names = [[one.upload(array) for array in (projection, base)] for one in (engine, plain)]
    assert names[0] == names[1]
    spaces = [asked.subspace, replace(asked.subspace, projection=names[0][0], base=names[0][1], scale=0.1)]
    for space, changes in itertools.product(spaces, ({}, {"rows": (5, 2)}, {"top_k": 3})):
        this = replace(asked, subspace=replace(space, layout=layout), **changes)
        found, expected = engine.score(this), plain.score(this)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=3e-5)
        assert (found.words, found.usage) == (expected.words, expected.usage)
    assert len(engine.job(asked).units) == 2
    manual = replace(asked, subspace=None, Z=None)
    np.testing.assert_allclose(engine.score(manual).logits, plain.score(manual).logits, rtol=0, atol=3e-5)


@pytest.mark.parametrize("pool", ["first", "tokens"])
def test_features_are_those_of_the_processor(card: Card, model: Any, pool: Any) -> None:
    """Vectors and moments."""
    asked = FeatureQuery(model.texts(*FIELDS), pool=pool)
    found, expected = on_card(model).features(asked), on_processor(model).features(asked)
    np.testing.assert_allclose(found.features, expected.features, rtol=0, atol=3e-5)
    np.testing.assert_allclose(found.layer_std, expected.layer_std, rtol=1e-5)
    assert found.lengths.tolist() == expected.lengths.tolist()


@pytest.mark.parametrize("dtype", FEWER_BITS)
def test_fewer_bits_are_near_and_precise_queries_have_those_of_float32(card: Card, model: Any, dtype: Any) -> None:
    """In the same units, so with the same products."""
    reduced, exact = on_card(model, dtype=dtype), on_card(model)
    asked = query(model)
    expected = exact.score(asked).logits
    assert reduced.score(replace(asked, precise=True)).logits.tobytes() == expected.tobytes()
    assert 0 < np.abs(reduced.score(asked).logits - expected).max() < 0.1 * np.ptp(expected)
    assert exact.score(asked).logits.tobytes() == expected.tobytes()


def test_making_a_unit_ready_waits_for_nothing_on_the_card(card: Card, model: Any) -> None:
    """Whatever computes there: z, label words and the tokens behind a prompt are copied without a pause."""
    engine = on_card(model, dtype="bfloat16")
    for layout in ("add", "cat"):
        asked = query(model)
        asked = replace(asked, subspace=replace(asked.subspace, layout=layout))  # type: ignore[type-var]
        engine.score(asked)
        card.waits.clear()
        job = engine.job(replace(asked, Z=-asked.Z))  # type: ignore[operator]
        steps = [job.prepare(unit) for unit in range(len(job.units))]
        assert card.waits == []
        for step in steps:
            step()
        assert ["aten::_to_copy"] * 2 == card.waits  # the logits of each unit


def test_units_follow_each_other_on_the_card(card: Card, roberta: Any) -> None:
    """Two threads, but not two that launch at a time."""
    engine = on_card(roberta)
    engine.score(query(roberta))  # which builds the chunks
    card.launched.clear()
    engine.score(query(roberta, Z=np.zeros((7, 30), np.float32)))
    mine = threading.get_ident()
    computed = [(thread, name) for thread, name in card.launched if thread != mine]
    turns = [thread for thread, _ in itertools.groupby(computed, key=lambda one: one[0])]
    assert len(turns) <= 2
    assert len(computed) > 100


def test_attention_is_given_what_fused_kernels_take(card: Card, roberta: Any) -> None:
    """Heads side by side in memory, and every tensor and position at a multiple of 16 bytes: no copy is needed."""
    for dtype in FEWER_BITS:
        engine = on_card(roberta, dtype=dtype)
        card.attended.clear()
        engine.score(query(roberta))
        assert card.attended
        assert {1} == {innermost for innermost, _, _ in card.attended}
        assert {0} == {2 * stride % 16 for _, stride, _ in card.attended} | {place for *_, place in card.attended}


def test_every_lane_has_computed_before_the_first_call(card: Card) -> None:
    """The first products of a thread are the slow ones."""
    load_engine("roberta-tiny", device=NAME, threads=3)
    lanes = {thread for thread, name in card.launched if name == "aten::scaled_dot_product_attention"}
    assert len(lanes) == 3
    assert threading.get_ident() not in lanes


def test_the_card_promises_no_bits_among_other_candidates(card: Card, roberta: Any) -> None:
    """Candidates share products there, so `deterministic` is not claimed; the device is in the fingerprint."""
    there, here = on_card(roberta).card, on_processor(roberta).card
    assert (there.capabilities.deterministic, here.capabilities.deterministic) == (False, True)
    assert "device=cuda:pretended" in there.fingerprint


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    """This build of torch, or this machine, has no such device."""
    with pytest.raises(ModelLoadError, match=r"device 'cuda:77' cannot be used: .{,200}\. Take device='cpu'"):
        load_engine("roberta-tiny", device="cuda:77")


@pytest.mark.parametrize(("candidates", "room", "units"), [(20, 11, [10, 10]), (7, 3, [3, 3, 1]), (2, 1, [1, 1])])
def test_candidates_are_dealt_out_evenly(roberta: Any, candidates: int, room: int, units: list[int]) -> None:
    """Twenty with room for eleven are ten and ten, which share one chunk, and not eleven and nine."""
    engine = Engine(roberta.loaded)
    positions = sum(engine.job(query(roberta, Z=np.zeros((1, 30), np.float32))).units)
    engine._way = Way(engine._way.forward, engine._way.chunks, room * positions, mixes=True)
    job = engine.job(query(roberta, Z=np.zeros((candidates, 30), np.float32)))
    assert [count * positions for count in units] == list(job.units)


class Crowded:
    """A linear map that finds the memory full as often as it is told, and holds a tensor while it fails."""

    def __init__(self, real: Linear, failures: int) -> None:
        self._real, self.left = real, failures
        self.held: weakref.ref[Tensor] | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.left:
            self.left -= 1
            large = torch.zeros(8)
            self.held = weakref.ref(large)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\n GPU 0 is full")
        return self._real(inputs)

    def gelu(self, inputs: Tensor) -> Tensor:
        return self._real.gelu(inputs)


def crowded(reference: Any, failures: int, layer: int) -> tuple[Engine, Crowded]:
    """An engine whose layer of that number finds the memory full, in its first product."""
    weights = reference.loaded.weights
    layers = list(weights.layers)
    fails = Crowded(layers[layer].qkv, failures)
    layers[layer] = replace(layers[layer], qkv=fails)
    return Engine(replace(reference.loaded, weights=replace(weights, layers=layers))), fails


@pytest.mark.parametrize("layer", [0, 1])
def test_memory_that_is_full_is_an_error_to_try_again_after(model: Any, layer: int) -> None:
    """While a unit is made ready (layer 0) as while it is computed; then the same call has its usual logits."""
    engine, fails = crowded(model, failures=1, layer=layer)
    with pytest.raises(
        BackendUnavailable, match=r"memory is full \(CUDA out of memory. .* GiB. GPU 0 is full\): "
    ) as told:
        engine.score(query(model))
    assert told.value.retry_after_s == 1.0
    assert fails.held is not None
    assert fails.held() is None  # so that trying again finds the memory that the failure held
    assert engine.score(query(model)).logits.tobytes() == Engine(model.loaded).score(query(model)).logits.tobytes()


async def test_a_caller_of_the_server_is_told_to_come_again_and_billed_once() -> None:
    """503 with a second to wait, as of any server that cannot take a call; nothing hangs or is billed."""
    full = within_memory(Crowded(PlainLinear(torch.ones(1, 1), torch.ones(1)), failures=1))
    async with served() as server:
        with pytest.raises(BackendUnavailable) as raised:
            full(torch.ones(1, 1))
        server.engine.error = raised.value
        status, told, headers = await server.score(Idempotency_Key="1")
        server.engine.error = None
        again = await server.score(Idempotency_Key="1")
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]
    assert (503, "unavailable", "1") == (status, told["error"]["type"], headers["retry-after"])
    assert "memory is full" in told["error"]["message"]
    assert 200 == again[0]
    assert (1, 10) == (usage["calls"], usage["input_tokens"])


def test_numbers_that_overflow_are_told_by_their_name(card: Card, roberta: Any) -> None:
    """A prompt may overflow float16 and not float32."""
    asked = query(roberta)
    asked = replace(asked, Z=asked.Z * np.float32(1e6))  # type: ignore[operator]
    with pytest.raises(InvalidQuery, match="candidate 0 overflows float16: "):
        on_card(roberta, dtype="float16").score(asked)
    assert np.isfinite(on_card(roberta).score(asked).logits).all()


def test_the_most_likely_words_of_many_texts_are_sorted_a_part_at_a_time(roberta: Any) -> None:
    """Each text's are the same as if it were asked about alone."""
    forward = Engine(roberta.loaded)._way.forward
    answer = TopAnswer(forward, roberta.loaded.vocabulary, 3)
    states = torch.randn(1100, forward.weights.words.shape[1], generator=torch.Generator().manual_seed(0))
    logits, words = answer.read(states)
    assert words is not None
    last_logits, last_words = answer.read(states[-2:])
    assert (1100, 3) == tuple(logits.shape)
    assert words[-2:] == last_words
    torch.testing.assert_close(logits[-2:], last_logits, rtol=0, atol=1e-5)
