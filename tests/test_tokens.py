"""Tokens counted before sending are those that the server bills; where they cannot be, they are bounded and say so."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import threading
import unicodedata
from base64 import b64encode
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest
import tiktoken.load
import tiktoken.model
import tiktoken.registry
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas_backends.roberta import text_encoder
from lmaas_backends.roberta.text_encoder import Frame, TextEncoder
from lmaas_backends.roberta.vocabulary import Vocabulary, plain_tokenizer
from lmaas_sdk.accounting import openai_vocabularies, token_counter, tokens
from lmaas_sdk.accounting.prompt_frames import PromptFrame
from lmaas_sdk.accounting.token_encodings import read_byte_level_bpe
from lmaas_sdk.accounting.token_memory import TokenMemory
from lmaas_sdk.accounting.tokens import TokenCounter, TokenCounts, count_tokens, counter_of, upper_bound_counts
from lmaas_sdk.backend import Capabilities, ModelCard
from lmaas_sdk.errors import InvalidQuery, ProtocolError, Unsupported
from lmaas_sdk.tasks import get_task
from lmaas_sdk.texts import MASK, Piece, Text, TextSet
from lmaas_sdk.tuning.subspace import Subspace

DATA = (Path(__file__).resolve().parent.parent / "backends/lmaas_backends/roberta/tiny/tokenizer.json").read_bytes()
OWN = plain_tokenizer(DATA.decode())
BPE = read_byte_level_bpe(DATA)
CARD = ModelCard("tiny", 16, 12_288, 512, "<mask>", Capabilities(), tokenizer_digest=hashlib.sha256(DATA).hexdigest())
TASKS = {"SST-2": ("sst2", 1), "AGNews": ("agnews", 1), "DBPedia14": ("dbpedia", 1), "SNLI": ("snli", 2)}
SUBSPACES = (None, *(Subspace(8, tokens, 16, layout) for layout in ("add", "cat") for tokens in (1, 50)))
FIELDS = st.lists(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(
            ["word", " the", "  ", "\n", "\u3000", "\u0301", "👩🏽\u200d🚀", "é", "<mask>", "</s>", "\u200d"]
        ),
    ),
    max_size=25,
).map("".join)


class Served:
    """A backend that hands out a tokenizer, and says how often."""

    def __init__(self, card: ModelCard = CARD, data: bytes = DATA) -> None:
        self.card, self.data, self.fetched = card, data, 0

    async def tokenizer_json(self) -> bytes:
        self.fetched += 1
        return self.data


class Plain:
    """A backend that has nothing but a card."""

    def __init__(self, card: ModelCard = CARD) -> None:
        self.card = card


def encoder(max_tokens: int = 512, strips: tuple[bool, bool] = (True, False)) -> TextEncoder:
    """The server's own way from texts to ids."""
    tokenizer = plain_tokenizer(DATA.decode())
    vocabulary = Vocabulary(
        tokenizer, DATA, 12_288, 0, 2, 12_287, 3, frozenset({0, 1, 2, 3, 12_287}), "<mask>", *strips
    )
    return TextEncoder(vocabulary, max_tokens)


def counter(max_tokens: int = 512, strips: tuple[bool, bool] = (True, False)) -> TokenCounter:
    """What counts on the client for the same model."""
    return TokenCounter(replace(BPE, sides={"<mask>": strips}), replace(CARD, max_tokens=max_tokens))


def billed(found: TextEncoder, texts: list[Text], subspace: Subspace | None) -> TokenCounts:
    """What the server would say of them."""
    encoded = found.encode(texts, Frame.of(subspace))
    positions = tuple(text.positions for text in encoded)
    return TokenCounts(positions, True, "the model's own byte-level BPE", sum(text.shortened for text in encoded))


def review(field: str) -> Text:
    return (Piece("field", field), Piece("template", " . It was "), MASK, Piece("template", " ."))


def real_texts(folder: Path, name: str, most: int | None) -> list[Text]:
    """Rows of a data set in their task's template."""
    task, n_fields = TASKS[name]
    template = get_task(task).template
    with (folder / name / "test.tsv").open(encoding="utf-8", newline="\n") as lines:
        rows = [line.rstrip("\n").split("\t") for line in islice(lines, 1, None)]
    return [template.render(row[:n_fields]) for row in rows[:most]]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("most", [150, pytest.param(None, marks=pytest.mark.long)])
async def test_real_texts_cost_what_the_server_bills(real_data: Path, name: str, most: int | None) -> None:
    """Four data sets in their templates, under every layout, with room for all of a text and with too little."""
    texts = real_texts(real_data, name, most)
    for max_tokens in (512, 90):
        mine, own = counter(max_tokens), encoder(max_tokens)
        for subspace in SUBSPACES:
            assert billed(own, texts, subspace) == await mine.count(texts, subspace)


@pytest.mark.parametrize("examples", [40, pytest.param(800, marks=pytest.mark.long)])
@pytest.mark.parametrize("strips", [(True, False), (False, True), (True, True), (False, False)])
def test_any_text_costs_what_the_server_bills(strips: tuple[bool, bool], examples: int) -> None:
    """Whatever the characters and their order, also where most of a text has to go."""

    @settings(max_examples=examples)
    @given(st.tuples(FIELDS, FIELDS, FIELDS), st.sampled_from((22, 40, 512)), st.sampled_from((None, "add", "cat")))
    def check(fields: tuple[str, str, str], max_tokens: int, layout: Any) -> None:
        pieces = (Piece("field", fields[0]), Piece("template", " ? "), MASK, Piece("field", fields[1]))
        texts = [(*pieces, MASK, Piece("field", fields[2])), pieces[:1], pieces[2:]]
        subspace = None if layout is None else Subspace(4, 5, 16, layout)
        mine = counter(max_tokens, strips)
        assert billed(encoder(max_tokens, strips), texts, subspace) == asyncio.run(mine.count(texts, subspace))

    check()


def test_server_and_client_frame_and_shorten_texts_by_one_implementation() -> None:
    """The SDK's, which both take, so that neither can be changed alone."""
    assert Frame is PromptFrame
    for name in ("segments", "check_room", "shorter_text"):
        assert getattr(text_encoder, name) is getattr(token_counter, name)


async def test_long_texts_are_counted_shortened() -> None:
    """Texts of hundreds of kilobytes take as many positions as the model has, and are said to be shortened."""
    texts = [review("a fine film " * 20_000), review("ok"), review("😀" * 30_000)]
    counts = await counter().count(texts, SUBSPACES[1])
    assert counts == billed(encoder(), texts, SUBSPACES[1])
    assert counts.shortened == 2


@pytest.mark.parametrize(
    ("text", "subspace", "why"),
    [
        (review("\ud800"), None, "text 1 holds the lone surrogate U\\+D800"),
        ((Piece("template", "a b " * 600),), None, "text 1 takes .* positions without its fields"),
        (review("ok"), Subspace(4, 510, 16, "cat"), "leaves no room"),
        (review("ok"), Subspace(4, 11_289, 16, "add"), "vocabulary ids 1000 .. 12288"),
    ],
)
async def test_what_the_server_would_refuse_is_refused(text: Text, subspace: Subspace | None, why: str) -> None:
    """With the error and the words of the server."""
    texts = [review("ok"), text]
    with pytest.raises(InvalidQuery, match=why) as refused:
        await counter().count(texts, subspace)
    with pytest.raises(InvalidQuery, match=why) as told:
        encoder().encode(texts, Frame.of(subspace))
    assert str(told.value)[:38] == str(refused.value)[:38]


async def test_a_counted_text_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """8,000 countings of 32 texts under one prompt tokenize each text once."""
    tokenized: list[Text] = []
    whole = token_counter.segments

    def noted(text: Text, *args: Any, **options: Any) -> list[str]:
        tokenized.append(text)
        return whole(text, *args, **options)

    monkeypatch.setattr(token_counter, "segments", noted)
    texts, mine = [review(f"film number {index}") for index in range(32)], counter()
    counts = {await mine.count(texts, SUBSPACES[2]) for _ in range(8000)}
    assert (1, 32) == (len(counts), len(tokenized))
    await mine.count(texts)
    assert len(tokenized) == 64


async def test_much_text_is_counted_on_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop counts a few words itself; a thread of its own counts what takes milliseconds."""
    threads: list[bool] = []
    whole = token_counter.segments

    def noted(*args: Any, **options: Any) -> list[str]:
        threads.append(threading.current_thread() is threading.main_thread())
        return whole(*args, **options)

    monkeypatch.setattr(token_counter, "segments", noted)
    await counter().count([review("short")])
    await counter().count([review("long " * 1000)])
    assert {True, False} == set(threads)
    assert threads[0]


def test_the_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    """Three texts of 1,000 characters do not fit into 3,000: the one that was not asked for again goes."""
    memory, frame = TokenMemory(3_000), PromptFrame()
    texts = [(Piece("field", letter * 1000),) for letter in "abc"]
    for text in texts[:2]:
        memory.put(text, frame, (1, False))
    memory.get(texts[0], frame)
    memory.put(texts[2], frame, (2, True))
    assert [(1, False), None, (2, True)] == [memory.get(text, frame) for text in texts]
    assert memory.get(texts[0], PromptFrame("add", 5)) is None
    assert len(memory) == 2


def test_a_mask_that_the_tokenizer_does_not_have_is_refused() -> None:
    """Without it the white space beside the mask could not be counted."""
    with pytest.raises(Unsupported, match=r"no special token '\[MASK\]'"):
        TokenCounter(BPE, replace(CARD, mask="[MASK]"))


async def test_a_tokenizer_is_fetched_once_for_all_backends() -> None:
    """Its digest names it, so a second backend of the same model asks for nothing; an unnamed one is asked."""
    texts = TextSet((review("fine"),))
    data = DATA + b"\n"  # a digest that no other test has fetched
    card = replace(CARD, tokenizer_digest=hashlib.sha256(data).hexdigest())
    first, second, unnamed = Served(card, data), Served(card, data), Served(replace(card, tokenizer_digest=""), data)
    counts = [await count_tokens(backend, texts) for backend in (first, first, second, unnamed)]
    assert counts == [billed(encoder(), list(texts.texts), None)] * 4
    assert (1, 0, 1) == (first.fetched, second.fetched, unnamed.fetched)
    assert await counter_of(first) is await counter_of(first)


@dataclass
class Unhashable:
    """A backend that is a plain data class: it compares by its fields, so it has no hash."""

    card: ModelCard


@dataclass(slots=True)
class Slotted:
    """The same without room for a weak reference."""

    card: ModelCard


@dataclass(frozen=True)
class Equal:
    """A backend that equals any other of the same name, whatever its card."""

    name: str
    card: ModelCard = field(compare=False)


@pytest.mark.parametrize("kind", [Unhashable, Slotted])
async def test_a_backend_need_not_be_hashable(kind: Any) -> None:
    """Nor have weak references; only what can be told apart is remembered."""
    backend = kind(CARD)
    counts = await count_tokens(backend, TextSet((review("it"),)))
    assert counts == await count_tokens(backend, TextSet((review("it"),)))
    assert (await counter_of(backend) is await counter_of(backend)) == (kind is Unhashable)


async def test_equal_backends_have_counters_of_their_own() -> None:
    """By their own cards."""
    backends: list[Any] = [Equal("one", replace(CARD, max_tokens=most)) for most in (9, 512)]
    counts = [(await count_tokens(backend, TextSet((review("a long word"),)))).counts for backend in backends]
    assert counts[0] == (9,) != counts[1]


async def test_a_counter_goes_with_its_backend() -> None:
    """So nothing grows, and no later backend takes it over."""
    before = len(tokens._COUNTERS)
    backend = Plain()
    await counter_of(backend)
    assert len(tokens._COUNTERS) == before + 1
    del backend
    gc.collect()
    assert len(tokens._COUNTERS) <= before


async def test_another_tokenizer_than_the_card_names_is_refused() -> None:
    """Counts by the wrong tokenizer would be wrong money."""
    with pytest.raises(ProtocolError, match="SHA-256"):
        await counter_of(Served(replace(CARD, tokenizer_digest="0" * 64)))


async def test_word_pieces_are_bounded_by_bytes() -> None:
    """A tokenizer of another kind is asked for once, and its counts are labelled as a bound."""
    data = json.dumps({"model": {"type": "WordPiece"}, "pre_tokenizer": {"type": "BertPreTokenizer"}}).encode()
    backend = Served(replace(CARD, tokenizer_digest=hashlib.sha256(data).hexdigest()), data)
    texts = TextSet((review("naïve"), review("x" * 1000)))
    counts = await count_tokens(backend, texts, SUBSPACES[1])
    assert counts == TokenCounts((7 + 10 + 1 + 2 + 4 + 1, 512), False, "an upper bound by UTF-8 bytes", 0)
    await count_tokens(Served(backend.card, data), texts)
    assert backend.fetched == 1


@given(FIELDS, st.sampled_from(SUBSPACES))
def test_the_bound_by_bytes_is_never_below_the_count(field: str, subspace: Subspace | None) -> None:
    """Whatever the text, what is reserved by bytes covers what is billed."""
    most = upper_bound_counts([review(field)], 0 if subspace is None else subspace.prompt_tokens, 512)
    assert most[0] >= encoder().encode([review(field)], Frame.of(subspace))[0].positions


NORMAL_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")
ANY_CHARACTER = st.characters(exclude_categories=["Cs"])
UNSTABLE = st.sampled_from("\xa0\ufdfa\u0390\u0149\u1e9e\u1fb7\uac01\u0344\ufb2c\u3392\u03b1\u0301\u0345\u1100\u1161")


@given(st.lists(st.text(st.one_of(ANY_CHARACTER, UNSTABLE), max_size=8), min_size=1, max_size=3))
def test_the_bound_by_bytes_holds_for_what_a_tokenizer_makes_of_a_text(fields: list[str]) -> None:
    """Every normal form, before and after casefolding, though pieces are joined first."""
    (most,) = upper_bound_counts([tuple(Piece("field", one) for one in fields)], 0, 10**6)
    written = "".join(fields)
    for first in NORMAL_FORMS:
        normal = unicodedata.normalize(first, written)
        folded = [form.casefold() for form in (written, normal)]
        forms = [normal, *folded, *(unicodedata.normalize(then, one) for then in NORMAL_FORMS for one in folded)]
        assert most - 4 >= max(len(form.encode()) for form in forms)


async def test_a_character_that_becomes_many_is_bounded() -> None:
    """SentencePiece models apply NFKC first, by which U+FDFA is 18 characters in 33 bytes; much text on a thread."""
    for repeats in (10, 10_000):
        texts = TextSet(((Piece("field", "\ufdfa" * repeats),),))
        counts = await count_tokens(Plain(replace(CARD, max_tokens=10**6)), texts)
        assert counts == TokenCounts((33 * repeats + 4,), False, "an upper bound by UTF-8 bytes")


def tiny_vocabulary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a small vocabulary where tiktoken keeps its own of GPT-3, byte by byte and one merge."""
    tokens = [bytes([byte]) for byte in range(256)] + [b"it"]
    content = b"\n".join(b64encode(token) + b" " + str(rank).encode() for rank, token in enumerate(tokens))
    url = "https://openaipublic.blob.core.windows.net/encodings/r50k_base.tiktoken"
    (folder / hashlib.sha1(url.encode()).hexdigest()).write_bytes(content)  # noqa: S324 (a file's name)
    sha256 = hashlib.sha256(content).hexdigest()

    def made() -> dict[str, Any]:
        ranks = tiktoken.load.load_tiktoken_bpe(url, expected_hash=sha256)
        return {"name": "r50k_base", "pat_str": r"\w+|\W+", "mergeable_ranks": ranks, "special_tokens": {}}

    monkeypatch.setitem(openai_vocabularies._FILES, "r50k_base", ("r50k_base", sha256))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(tiktoken.registry, "ENCODING_CONSTRUCTORS", {"r50k_base": made})


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiktoken's cache folder; whoever would download is told."""

    def refuse(url: str) -> bytes:
        raise AssertionError(f"{url} would be downloaded")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.load, "read_file", refuse)
    return tmp_path


async def test_an_openai_models_own_vocabulary_is_used_where_it_is(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text written out, and an allowance for what stands around it: a bound, and labelled as one."""
    tiny_vocabulary(offline, monkeypatch)
    backend = Plain(replace(CARD, name="davinci", mask="__"))
    texts = TextSet((review("it"), review("long " * 2000)))
    counts = await count_tokens(backend, texts)
    assert counts == TokenCounts((1 + len(" . It was __ .") + 8, 512), False, "tiktoken's r50k_base, 8 more a text")


@pytest.mark.parametrize("damage", [b"", b"another file"])
@pytest.mark.parametrize("model", ["davinci", "gpt-4o", "text-davinci-003", "gpt2"])
async def test_an_absent_or_damaged_vocabulary_is_not_downloaded(offline: Path, model: str, damage: bytes) -> None:
    """The bound by bytes stands in for it."""
    for name in ("r50k_base", "o200k_base"):
        url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        if damage:
            (offline / hashlib.sha1(url.encode()).hexdigest()).write_bytes(damage)  # noqa: S324 (a file's name)
    counts = await count_tokens(Plain(replace(CARD, name=model)), TextSet((review("it"),)))
    assert counts == TokenCounts((19,), False, "an upper bound by UTF-8 bytes")


def test_every_name_that_tiktoken_knows_is_looked_up() -> None:
    """And a backend of another name is not kept waiting for it."""
    known = (*tiktoken.model.MODEL_TO_ENCODING, *tiktoken.model.MODEL_PREFIX_TO_ENCODING)
    assert [openai_vocabularies.is_openai_name(name) for name in known] == [True] * len(known)
    assert not openai_vocabularies.is_openai_name("mock")


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TIKTOKEN_CACHE_DIR": "/a", "DATA_GYM_CACHE_DIR": "/b"}, Path("/a")),
        ({"DATA_GYM_CACHE_DIR": "/b"}, Path("/b")),
        ({"TIKTOKEN_CACHE_DIR": ""}, None),
    ],
)
def test_the_cache_folder_is_tiktokens(
    variables: dict[str, str], folder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same variables decide, and an empty one means that nothing is kept."""
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert folder == openai_vocabularies._cache_folder()
