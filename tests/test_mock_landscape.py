"""The mock's landscape: the same bits everywhere, few directions that matter, and a loss that a search brings down."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lmaas_backends.mock import MockBackend
from lmaas_backends.mock.precision import rounded_to_bfloat16
from lmaas_sdk.backend import FeatureQuery, ScoreQuery
from lmaas_sdk.errors import InvalidQuery, UnknownDataset
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.subspace import Subspace

GOOD = ("splendid", "delightful", "charming", "gripping", "radiant", "superb")
BAD = ("dreary", "tedious", "clumsy", "hollow", "grating", "lifeless")
SUBSPACE = Subspace(50, 10, 64)
GOLDEN = "1a6037bbab8f499be4ebb4ece105b100145f294bb8dc4d9312c89190eaa7adbc"


def texts_of(sentences: list[str]) -> TextSet:
    return TextSet(
        tuple((Piece("field", sentence), Piece("template", " . It was"), MASK) for sentence in sentences),
        LabelWords((" bad", " great")),
    )


def reviews(seed: int, count: int) -> tuple[TextSet, NDArray[np.int64]]:
    """Short reviews of two words of their class and two of neither, and their labels."""
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(count) % 2
    sentences = []
    for label in labels:
        told = rng.choice(GOOD if label else BAD, 2, replace=False)
        filler = rng.choice(("the film", "a play", "this song", "that novel"))
        sentences.append(f"{filler} is {told[0]} and {told[1]}")
    return texts_of(sentences), labels


def candidates(seed: int, count: int) -> NDArray[np.float32]:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((count, SUBSPACE.d)).astype(np.float32)


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean cross entropy of each candidate: (n_candidates,)."""
    exact = logits.astype(np.float64)
    chosen = exact[:, np.arange(len(labels)), labels]
    return (np.log(np.exp(exact).sum(axis=-1)) - chosen).mean(axis=1)


async def logits_of(
    backend: MockBackend, texts: TextSet, Z: NDArray[np.float32] | None = None, subspace: Subspace = SUBSPACE
) -> NDArray[np.float32]:
    query = ScoreQuery(texts, subspace=None if Z is None else subspace, Z=Z)
    return (await backend.score(query, key=f"call-{backend.book.received}")).logits


async def searched(backend: MockBackend, texts: TextSet, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean of a plain evolution strategy after 60 generations of 20: (1, d)."""
    mean, sigma = np.zeros(SUBSPACE.d), 1.0
    for generation in range(60):
        points = mean + sigma * candidates(generation, 20)
        losses = cross_entropy(await logits_of(backend, texts, points.astype(np.float32)), labels)
        mean = points[np.argsort(losses)[:5]].mean(axis=0)
        sigma *= 0.97
    return mean[np.newaxis].astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
async def test_a_search_brings_the_loss_down_and_generalises(seed: int) -> None:
    """A search beats the manual prompt by far, also on unseen texts that share the words."""
    backend = MockBackend(seed=seed)
    (train, labels), (test, unseen) = reviews(1, 32), reviews(2, 200)
    z = await searched(backend, train, labels)
    manual, tuned = [await logits_of(backend, train, Z) for Z in (None, z)]
    assert cross_entropy(manual, labels)[0] > 0.6
    assert cross_entropy(tuned, labels)[0] < 0.6 * cross_entropy(manual, labels)[0]
    accuracies = [float(((await logits_of(backend, test, Z))[0].argmax(-1) == unseen).mean()) for Z in (None, z)]
    assert accuracies[1] > accuracies[0] + 0.1


async def test_few_directions_matter() -> None:
    """The logits of many candidates span no more directions than effective_dim (and the prior)."""
    backend = MockBackend(effective_dim=3)
    Z = candidates(0, 40) * np.float32(1e-2)  # so near to 0 that the landscape is almost linear
    moves = (await logits_of(backend, reviews(1, 32)[0], Z)).reshape(40, -1)
    spread = np.linalg.svd(moves - moves.mean(axis=0), compute_uv=False)
    assert spread[2] > 20 * spread[3]


@pytest.mark.parametrize("layout", ["add", "cat"])
@pytest.mark.parametrize("scale", [1.0, 0.37, 1e6])
async def test_a_candidate_is_the_same_alone_and_among_others(layout: str, scale: float) -> None:
    """Batching changes no bit, however large z is."""
    backend, texts = MockBackend(ruggedness=1.0), reviews(1, 32)[0]
    subspace = replace(SUBSPACE, layout=layout, scale=0.7)
    Z = candidates(0, 20) * np.float32(scale)
    together = await logits_of(backend, texts, Z, subspace)
    for index in range(20):
        alone = await logits_of(backend, texts, Z[index : index + 1], subspace)
        assert alone[0].tobytes() == together[index].tobytes()


async def test_rows_are_the_same_bits_in_their_order() -> None:
    """A subset of the texts has the logits it has in the whole set."""
    backend, texts = MockBackend(), reviews(1, 32)[0]
    Z = candidates(0, 3)
    whole = await logits_of(backend, texts, Z)
    query = ScoreQuery(texts, rows=(30, 2, 17), subspace=SUBSPACE, Z=Z)
    assert (await backend.score(query, key="part")).logits.tobytes() == whole[:, [30, 2, 17]].tobytes()


async def test_the_identity_is_what_an_uploaded_one_is() -> None:
    """z is the prompt: the logits have the bits that an uploaded identity matrix gives, and candidates differ."""
    backend, texts = MockBackend(seed=2), reviews(1, 8)[0]
    space = Subspace(4 * 64, 4, 64, projection="identity", scale=0.5)
    Z = np.random.default_rng(1).standard_normal((3, space.d)).astype(np.float32)
    uploaded = replace(space, projection=await backend.upload(np.eye(space.d, dtype=np.float32)))
    found, expected = [await logits_of(backend, texts, Z, one) for one in (space, uploaded)]
    assert found.tobytes() == expected.tobytes()
    assert len({logits.tobytes() for logits in found}) == 3


async def digest_of_all_paths() -> str:
    """One digest over layouts, projections, a learned p0, uploads, ripples and words of many scripts."""
    backend = MockBackend(ruggedness=0.5, seed=11)
    texts = texts_of(["", "naïve café", "电影 很 好", "<mask> </s>", *(" ".join(GOOD[:n]) for n in range(1, 7))])
    array = np.linspace(-2, 2, 10 * 64, dtype=np.float32).reshape(10, 64)
    wide = np.linspace(-1, 1, 640 * 50, dtype=np.float32).reshape(640, 50)
    base, projection = await backend.upload(array), await backend.upload(wide)
    found = hashlib.sha256((await logits_of(backend, texts)).tobytes())
    for change in (
        {},
        {"layout": "cat"},
        {"projection": "normal", "scale": 0.2},
        {"base": base},
        {"projection": projection},
    ):
        subspace = replace(SUBSPACE, **change)
        found.update((await logits_of(backend, texts, candidates(3, 20), subspace)).tobytes())
    return found.hexdigest()


async def test_the_bits_are_golden() -> None:
    """The logits have had these bits since version 1 of the landscape; change its fingerprint with them."""
    assert await digest_of_all_paths() == GOLDEN
    assert MockBackend().card.fingerprint.startswith("mock/1/")


def test_the_bits_are_the_same_in_another_process() -> None:
    """Another process, with another hash seed, other threads and other BLAS kernels, has the same bits."""
    code = "import asyncio, runpy, sys; print(asyncio.run(runpy.run_path(sys.argv[1])['digest_of_all_paths']()))"
    elsewhere = {"PYTHONHASHSEED": "5", "OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Nehalem"}
    child = subprocess.run(
        [sys.executable, "-c", code, __file__], env=os.environ | elsewhere, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == GOLDEN


async def test_labels_belong_to_their_words() -> None:
    """Label words in another order have the same logits in that order."""
    backend, texts = MockBackend(), reviews(1, 4)[0]
    turned = TextSet(texts.texts, LabelWords((" great", " bad")))
    forth, back = [await logits_of(backend, each, candidates(0, 2)) for each in (texts, turned)]
    assert back.tolist() == forth[..., ::-1].tolist()


@pytest.mark.parametrize("direction", range(5))
async def test_ripples_make_local_minima(direction: int) -> None:
    """Along a line through 0 a smooth landscape turns at most a few times, and a rugged one many times."""
    line = np.linspace(-12, 12, 600, dtype=np.float32)[:, np.newaxis] * candidates(direction, 1)
    texts, labels = reviews(1, 32)
    turns = []
    for ruggedness in (0.0, 1.0):
        # several effective directions: a line that is nearly square to a single one would cross no ripple
        backend = MockBackend(ruggedness=ruggedness, effective_dim=5, max_candidates=600)
        losses = cross_entropy(await logits_of(backend, texts, line), labels)
        turns.append(int((np.diff(np.sign(np.diff(losses))) != 0).sum()))
    assert turns[0] <= 3
    assert turns[1] >= 10


async def test_noise_depends_on_the_key() -> None:
    """Noise has the spread asked for, differs by key, and is the same for the same key and seed."""
    texts = reviews(1, 32)[0]
    plain = await logits_of(MockBackend(), texts, candidates(0, 40))
    query = ScoreQuery(texts, subspace=SUBSPACE, Z=candidates(0, 40))
    first, again, other = [(await MockBackend(noise=0.5).score(query, key=key)).logits - plain for key in "aab"]
    assert abs(float(first.std()) - 0.5) < 0.03
    assert (again.tolist() == first.tolist(), other.tolist() == first.tolist()) == (True, False)


def bits(logits: NDArray[np.float32]) -> NDArray[np.uint32]:
    return logits.view(np.uint32)


async def test_few_bits_are_the_nearest_of_bfloat16() -> None:
    """Each logit is the nearest number with 8 significant bits; a precise query has the bits of a mock in float32."""
    texts, Z = reviews(1, 32)[0], candidates(0, 40)
    query = ScoreQuery(texts, subspace=SUBSPACE, Z=Z)
    exact = await logits_of(MockBackend(), texts, Z)
    backend = MockBackend(precision="bfloat16")
    few = (await backend.score(query, key="few")).logits
    precise = (await backend.score(replace(query, precise=True), key="precise")).logits
    assert precise.tobytes() == exact.tobytes() != few.tobytes()
    assert not (bits(few) & 0xFFFF).any()
    below = (bits(exact) & np.uint32(0xFFFF0000)).view(np.float32)
    above = (bits(below) + np.uint32(0x10000)).view(np.float32)
    nearest = np.minimum(abs(exact - below), abs(exact - above))
    assert (abs(exact - few) == nearest).all()
    assert few.tobytes() == (await backend.score(query, key="again")).logits.tobytes()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 0.0),
        (-0.0, -0.0),
        (1.0, 1.0),
        (1.00390625, 1.0),  # in the middle between 1 and 1.0078125: the even one
        (1.01171875, 1.015625),  # in the middle again, and here the even one is above
        (-1.00390637, -1.0078125),
        (1.99999, 2.0),
    ],
)
def test_rounding_goes_to_the_nearest_and_then_to_even(value: float, expected: float) -> None:
    """As IEEE 754 rounds, signs of zeros included."""
    found = rounded_to_bfloat16(np.array([value], np.float32))
    assert found.tobytes() == np.array([expected], np.float32).tobytes()


async def test_who_cannot_be_precise_is_not() -> None:
    """A mock of few bits that does not claim `precise` rounds whatever is asked."""
    able = replace(MockBackend().card.capabilities, precise=False)
    backend, query = MockBackend(precision="bfloat16", capabilities=able), ScoreQuery(reviews(1, 8)[0])
    plain, asked = [(await backend.score(replace(query, precise=told), key=f"{told}")).logits for told in (False, True)]
    assert plain.tobytes() == asked.tobytes()


async def test_under_one_key_a_query_is_precise_or_not() -> None:
    """A used key with the other kind of query is refused."""
    backend, query = MockBackend(precision="bfloat16"), ScoreQuery(reviews(1, 8)[0])
    await backend.score(query, key="k")
    with pytest.raises(InvalidQuery, match="another query"):
        await backend.score(replace(query, precise=True), key="k")


def test_fewer_bits_are_another_engine() -> None:
    """The fingerprint tells, and that of a mock in float32 is what it was before there was a choice."""
    assert MockBackend().card.fingerprint == "mock/1/696b8eac6ec2a6f2"
    assert MockBackend(precision="bfloat16").card.fingerprint != MockBackend().card.fingerprint


async def test_a_seed_is_a_model() -> None:
    """Another seed is another model, by its logits and by its fingerprint."""
    texts = reviews(1, 4)[0]
    one, other = MockBackend(seed=1), MockBackend(seed=2)
    assert (await logits_of(one, texts)).tolist() != (await logits_of(other, texts)).tolist()
    assert one.card.fingerprint != other.card.fingerprint


async def test_the_likeliest_words_have_their_label_logits() -> None:
    """A word of `top_k` has the logit that it has as a label word."""
    backend, texts = MockBackend(), reviews(1, 1)[0]
    reply = await backend.score(ScoreQuery(texts, top_k=3), key="top")
    assert reply.words is not None
    labels = TextSet(texts.texts, LabelWords(reply.words[0][0]))
    assert (await logits_of(backend, labels)).tolist() == reply.logits.tolist()


async def test_more_words_than_there_are() -> None:
    """`top_k` above the small vocabulary is refused with its size."""
    with pytest.raises(InvalidQuery, match="top_k is at most"):
        await MockBackend().score(ScoreQuery(reviews(1, 1)[0], top_k=1000), key="k")


async def test_arrays_must_be_there_and_fit() -> None:
    """A p0 that was not uploaded, or of another shape, is refused."""
    backend, texts = MockBackend(), reviews(1, 1)[0]
    name = await backend.upload(np.ones((3, 64), dtype=np.float32))
    with pytest.raises(InvalidQuery, match=r"shape \(3, 64\) and the subspace needs \(10, 64\)"):
        await logits_of(backend, texts, candidates(0, 1), replace(SUBSPACE, base=name))
    with pytest.raises(UnknownDataset, match="upload it first"):
        await logits_of(backend, texts, candidates(0, 1), replace(SUBSPACE, base="0" * 64))


async def test_features_tell_texts_apart() -> None:
    """The pooled features depend on the words alone, and the last layer's token vectors on each word."""
    backend, texts = MockBackend(hidden_size=16), texts_of(["fine film", "film fine", "dull film"])
    first = (await backend.features(FeatureQuery(texts), key="a")).features
    tokens = await backend.features(FeatureQuery(texts, pool="tokens"), key="b")
    assert first[0].tolist() == first[1].tolist() != first[2].tolist()
    assert tokens.lengths.tolist() == [8, 8, 8]
    by_text = tokens.features.reshape(3, 8, 16)
    assert by_text[0, 1].tolist() == by_text[1, 2].tolist()
