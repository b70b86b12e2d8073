"""Fewer bits, and float32 for queries that ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from roberta.conftest import TINY

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.jobs import Way
from lmaas_backends.roberta.linears import choose_linears
from lmaas_backends.roberta.loading import load_engine
from lmaas_backends.roberta.model import load_model
from lmaas_sdk.backend import FeatureQuery, ScoreQuery
from lmaas_sdk.errors import ModelLoadError
from lmaas_sdk.tuning.subspace import Subspace

FIELDS = tuple(f"take {number}" + " of a slow film" * (number % 5) for number in range(12))


@pytest.fixture(scope="module", params=["roberta", "bert"])
def family(request: pytest.FixtureRequest, bert_folder: Path) -> tuple[Any, str]:
    """A reference and what loads the same model."""
    names = {"roberta": str(TINY), "bert": str(bert_folder)}
    return request.getfixturevalue(request.param), names[request.param]


def query(reference: Any, **changes: Any) -> ScoreQuery:
    space = Subspace(30, 5, reference.loaded.weights.words.shape[1])
    Z = np.random.default_rng(4).standard_normal((6, 30)).astype(np.float32)
    return ScoreQuery(reference.texts(*FIELDS), **({"subspace": space, "Z": Z} | changes))


def test_bfloat16_is_near_and_a_precise_query_is_plain_float32(family: Any) -> None:
    """The reduced logits are near those of float32 and no more; the precise ones are float32's, bit for bit."""
    reference, name = family
    reduced, plain = load_engine(name, dtype="bfloat16"), load_engine(name, linears="plain")
    coarse, exact = reduced.score(query(reference)).logits, plain.score(query(reference)).logits
    precise = reduced.score(query(reference, precise=True)).logits
    assert precise.tobytes() == exact.tobytes()
    assert 0 < np.abs(coarse - exact).max() < 0.1 * np.ptp(exact)
    assert reduced.card.capabilities.precise
    assert not plain.card.capabilities.precise


def test_packed_products_are_within_a_rounding_of_plain_ones(family: Any) -> None:
    """The oracle of every choice: the same logits to 1e-5, for every layout."""
    reference, name = family
    chosen, plain = load_engine(name), load_engine(name, linears="plain")
    for layout in ("add", "cat"):
        asked = query(reference)
        asked = replace(asked, subspace=replace(asked.subspace, layout=layout))  # type: ignore[type-var]
        np.testing.assert_allclose(chosen.score(asked).logits, plain.score(asked).logits, rtol=0, atol=1e-5)


def test_the_manual_prompt_and_words_are_precise_too(family: Any) -> None:
    """Whatever is asked for, `precise` has the bits of float32."""
    reference, name = family
    reduced, plain = load_engine(name, dtype="bfloat16"), load_engine(name, linears="plain")
    for changes in ({"subspace": None, "Z": None}, {"top_k": 3}, {"rows": (5, 2)}):
        asked = query(reference, precise=True, **changes)
        found, expected = reduced.score(asked), plain.score(asked)
        assert (found.logits.tobytes(), found.words) == (expected.logits.tobytes(), expected.words)
        assert found.usage == expected.usage


def test_an_engine_of_float32_takes_precise_for_granted(model: Any, engine: Engine) -> None:
    """The same bits with and without."""
    asked = query(model)
    assert engine.score(replace(asked, precise=True)).logits.tobytes() == engine.score(asked).logits.tobytes()


def test_features_in_bfloat16_are_near(family: Any) -> None:
    """Hidden states differ by their last bits alone."""
    reference, name = family
    texts = reference.texts(*FIELDS)
    coarse = load_engine(name, dtype="bfloat16").features(FeatureQuery(texts))
    exact = load_engine(name).features(FeatureQuery(texts))
    np.testing.assert_allclose(coarse.features, exact.features, rtol=0, atol=0.1 * np.abs(exact.features).max())
    np.testing.assert_allclose(coarse.layer_std, exact.layer_std, rtol=0.02)


def test_what_decides_the_bits_is_in_the_fingerprint(bert_folder: Path) -> None:
    """Numbers and library."""
    name = str(bert_folder)
    loaded = [load_model(name, linears="plain"), load_model(name), load_model(name, dtype="bfloat16")]
    assert "float32 linears=plain" in loaded[0].fingerprint
    assert "bfloat16 linears=" in loaded[2].fingerprint
    assert len({model.fingerprint for model in loaded}) == len({model.arithmetic.fingerprint for model in loaded})


@pytest.mark.skipif(choose_linears("auto", torch.float32, torch.device("cpu"))[0] != "packed", reason="no oneDNN here")
def test_another_way_of_the_same_library_is_another_fingerprint() -> None:
    """oneDNN goes by environment variables too, and other bits come out: the fingerprint tells."""
    code = (
        "import torch; torch.set_num_threads(1); from lmaas_backends.roberta.model import load_model;"
        "print(load_model('roberta-tiny').fingerprint)"
    )
    found = set()
    for changes in ({}, {}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}):
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | changes
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        found.add(ran.stdout)
    assert 2 == len(found)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dtype": "float16"}, "dtype float16 is for CUDA"),
        ({"dtype": "int8"}, "dtype is one of float32, bfloat16, float16, not 'int8'"),
        ({"linears": "fast"}, "linears is one of auto, packed, plain, not 'fast'"),
    ],
)
def test_what_cannot_be_computed_is_refused_before_the_model_is_read(options: Any, told: str) -> None:
    """The message says what can."""
    with pytest.raises(ModelLoadError, match=told):
        load_model("/no/such/folder", **options)


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_candidates_that_share_chunks_have_the_same_logits(model: Any, layout: Any) -> None:
    """As an accelerator computes: several candidates a chunk, of like number in each, to a rounding the same."""
    engine, mixing = Engine(model.loaded), Engine(model.loaded)
    asked = query(model)
    asked = replace(asked, subspace=replace(asked.subspace, layout=layout), Z=asked.Z[:5])  # type: ignore[type-var,index]
    alone = engine.job(asked).units
    mixing._way = Way(mixing._way.forward, mixing._way.chunks, most_positions=4 * alone[0], mixes=True)
    assert mixing.job(asked).units == (3 * alone[0], 2 * alone[0])
    assert alone == 5 * alone[:1]
    np.testing.assert_allclose(mixing.score(asked).logits, engine.score(asked).logits, rtol=0, atol=2e-5)
    words = replace(asked, top_k=2)
    assert mixing.score(words).words == engine.score(words).words


def test_without_room_for_the_float32_weights_fewer_bits_are_refused(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message says where the room is to be; float32 itself needs no such file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(ModelLoadError, match=r"temporary file, and it cannot be written: .*Let TMPDIR name a folder"):
        load_model(str(bert_folder), dtype="bfloat16")
    assert load_model(str(bert_folder)).precise is None
