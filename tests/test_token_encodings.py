"""Byte-level BPE read from tokenizer.json splits as the tokenizers library does; other kinds are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from lmaas_backends.roberta.vocabulary import plain_tokenizer
from lmaas_sdk.accounting.token_encodings import encoding_from_tokenizer_json, read_byte_level_bpe
from lmaas_sdk.errors import Unsupported

TINY = Path(__file__).resolve().parent.parent / "backends" / "lmaas_backends" / "roberta" / "tiny" / "tokenizer.json"
SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u200b\u2028\u202f\u205f\u3000\ufeff"
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(SPACES),
    st.sampled_from("ab '\u0301😀👩🏽\u200d"),
    st.sampled_from(["'ll", "don't", " the", "  ", "<mask>", "</s>", "ing", "2022"]),
)
ANY_TEXT = st.lists(CHARACTERS, max_size=30).map("".join)


@cache
def fields() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TINY.read_bytes())
    return found


def changed(**parts: dict[str, Any]) -> bytes:
    """The bundled tokenizer.json with other options in some of its parts."""
    copy = fields() | {name: {**(fields()[name] or {}), **options} for name, options in parts.items()}
    return json.dumps(copy).encode()


def with_prefix() -> bytes:
    space = {"add_prefix_space": True}
    return changed(pre_tokenizer=space, post_processor=space)


def real_texts(folder: Path) -> Iterator[str]:
    """Every line of every data set."""
    for file in sorted(folder.glob("*/*.tsv")):
        with file.open(encoding="utf-8", newline="\n") as lines:
            yield from lines


@pytest.mark.parametrize("most", [4000, pytest.param(None, marks=pytest.mark.long)])
def test_real_texts_are_split_as_the_models_own_tokenizer_does(real_data: Path, most: int | None) -> None:
    """Thousands of lines of nine data sets (all of them, more than 32,000, in the long profile), token by token."""
    step = 1 if most is None else 15
    texts = list(islice(real_texts(real_data), 0, None, step))[:most]
    assert len(texts) >= (most or 32_000)
    encoding = encoding_from_tokenizer_json(TINY.read_bytes())
    own = Tokenizer.from_str(TINY.read_text(encoding="utf-8"))
    letters = {bytes([byte]): letter for letter, byte in byte_letters().items()}
    expected = [encoded.tokens for encoded in own.encode_batch(texts, add_special_tokens=False)]
    actual = [encoding.decode_tokens_bytes(encoding.encode_ordinary(text)) for text in texts]
    assert expected == [["".join(letters[bytes([b])] for b in token) for token in tokens] for tokens in actual]


def byte_letters() -> dict[str, int]:
    """How the library itself writes every byte, asked through a text of one character that UTF-8 spells with it."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found: dict[str, int] = {}
    for code in (*range(0x800), *range(0x800, 0xD800, 64), 0xE000, 0xF000, *range(0x10000, 0x110000, 0x1000)):
        ((written, _),) = splitter.pre_tokenize_str(chr(code))
        found |= dict(zip(written, chr(code).encode(), strict=True))
    return found


@pytest.mark.parametrize("examples", [300, pytest.param(6_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("data", [TINY.read_bytes(), with_prefix()], ids=["plain", "prefix"])
def test_any_text_has_the_same_tokens_starting_at_the_same_characters(data: bytes, examples: int) -> None:
    """Whatever the characters, with or without a space put before the text."""
    bpe, own = read_byte_level_bpe(data), plain_tokenizer(data.decode())

    @settings(max_examples=examples)
    @given(ANY_TEXT)
    def check(text: str) -> None:
        encoded = own.encode(text, add_special_tokens=False)
        assert len(encoded.ids) == bpe.count(text)
        assert [start for start, _ in encoded.offsets] == bpe.starts(text)

    check()


@pytest.mark.parametrize("processor", [None, {"type": "TemplateProcessing"}, {"type": "BertProcessing"}])
def test_untrimmed_tokens_start_at_their_space(processor: dict[str, Any] | None) -> None:
    """Where nothing trims, a token starts where its first byte is."""
    data = json.dumps(fields() | {"post_processor": processor}).encode()
    assert read_byte_level_bpe(data).starts(" the the") == [0, 4]
    assert read_byte_level_bpe(TINY.read_bytes()).starts(" the the") == [1, 5]


@pytest.mark.parametrize("text", [" " * 200_000, "a" * 200_000, "😀" * 50_000, "\n \t" * 60_000], ids=ascii)
def test_long_runs_are_counted(text: str) -> None:
    """No run of equal characters is too much, nor counted otherwise than by the library."""
    own = Tokenizer.from_str(TINY.read_text(encoding="utf-8"))
    assert len(own.encode(text, add_special_tokens=False).ids) == read_byte_level_bpe(TINY.read_bytes()).count(text)


def test_merges_may_be_written_as_one_string() -> None:
    """Older files have "a b" where newer ones have a list of two."""
    merges = [" ".join(pair) for pair in fields()["model"]["merges"]]
    older = read_byte_level_bpe(changed(model={"merges": merges}))
    text = "It was great, wasn't it?"
    assert older.encoding.encode(text) == encoding_from_tokenizer_json(TINY.read_bytes()).encode(text)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[]", "JSON object"),
        (b"{}", "no model"),
        (changed(model={"type": "WordPiece"}), "WordPiece tokenizer has a model of another type"),
        (changed(pre_tokenizer={"type": "Whitespace"}), "a pre-tokenizer of another type"),
        (changed(pre_tokenizer={"use_regex": False}), "without GPT-2's words"),
        (changed(normalizer={"type": "NFC"}), "a normalizer"),
        (changed(model={"dropout": 0.1}), "dropout"),
        (changed(model={"end_of_word_suffix": "</w>"}), "end_of_word_suffix"),
        (changed(model={"byte_fallback": True}), "byte_fallback"),
        (changed(model={"ignore_merges": True}), "ignore_merges"),
        (changed(model={"vocab": {}}), "no token for some bytes"),
        (changed(model={"merges": None}), "no list of merges"),
        (changed(model={"merges": [["a"]]}), "a pair of tokens"),
        (changed(model={"merges": [["a", "€"]]}), "stands for no byte"),
        (changed(model={"merges": [["a", "b"], ["a", "b"]]}), "make the same token"),
        (changed(model={"merges": [["b", "c"], ["a", "b"], ["ab", "c"]]}), "do not lead to its token 'abc'"),
        (changed(post_processor={"type": "Sequence"}), "post-processor Sequence"),
    ],
)
def test_what_is_no_byte_level_bpe_is_refused(data: bytes, why: str) -> None:
    """Each thing that would make the counts wrong is refused by its name."""
    with pytest.raises(Unsupported, match=why):
        read_byte_level_bpe(data)


def test_added_words_are_refused() -> None:
    """A token that is found in plain text, and is not merged from bytes, would be counted wrongly."""
    copy = deepcopy(fields())
    copy["added_tokens"].append({"id": 99, "content": "hello", "special": False})
    with pytest.raises(Unsupported, match="added tokens that are not special"):
        read_byte_level_bpe(json.dumps(copy).encode())


def test_merges_that_no_text_follows_are_told_apart() -> None:
    """The refused vocabulary above does count otherwise in the library: its own token is two tokens there."""
    merges = [["b", "c"], ["a", "b"], ["ab", "c"]]
    vocabulary = fields()["model"]["vocab"] | {"bc": 20_000, "ab": 20_001, "abc": 20_002}
    own = Tokenizer.from_str(changed(model={"merges": merges, "vocab": vocabulary}).decode())
    assert own.encode("abc", add_special_tokens=False).tokens == ["a", "bc"]
