"""Token ids equal the model's own tokenizer's; what does not fit is shortened; special strings are plain text."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmaas_backends.roberta.text_encoder import PLAIN, EncodedText, Frame, TextEncoder
from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import MASK, Piece, Text
from lmaas_sdk.tuning.subspace import Subspace

SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u200b\u2028\u202f\u205f\u3000\ufeff"
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]), st.sampled_from(SPACES), st.sampled_from("ab <>[]/'\u0301😀")
)
ANY_TEXT = st.text(CHARACTERS, max_size=40)
WRITTEN_OUT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def encoder(model: Any) -> TextEncoder:
    return TextEncoder(model.loaded.vocabulary, model.loaded.max_tokens)


def one(encoder: TextEncoder, text: Text, frame: Frame = PLAIN) -> EncodedText:
    return encoder.encode([text], frame)[0]


def review(field: str) -> Text:
    return (Piece("field", field), Piece("template", " . It was "), MASK, Piece("template", " ."))


def test_plain_ids_of_real_texts_are_the_tokenizers_own(model: Any, real_data: Path) -> None:
    """Four hundred sentences of eight data sets become the ids that the model's own tokenizer gives them."""
    fields = []
    for name in ("SST-2", "Yelp", "AGNews", "DBPedia14", "MRPC", "RTE", "SNLI", "TREC"):
        with (real_data / name / "dev.tsv").open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            fields += [row[0] for row in islice(rows, 1, 51)]
    encoded = TextEncoder(model.loaded.vocabulary, 10_000).encode([review(field) for field in fields])
    assert len(fields) == 400
    assert [list(text.ids) for text in encoded] == [model.ids(field) for field in fields]


@WRITTEN_OUT
@given(before=ANY_TEXT, after=ANY_TEXT)
def test_ids_of_any_text_are_the_tokenizers_own(model: Any, encoder: TextEncoder, before: str, after: str) -> None:
    """Whatever characters stand around the mask, the ids are those of the same string written out."""
    text = one(encoder, (Piece("field", before), MASK, Piece("field", after)))
    expected = model.tokenizer(f"{before}{model.tokenizer.mask_token}{after}")["input_ids"]
    if len(expected) <= encoder.max_tokens:
        assert (list(text.ids), text.shortened) == (expected, False)
    assert [text.ids[index] for index in text.masks] == [model.tokenizer.mask_token_id]


def test_white_space_beside_the_mask_is_stripped_as_the_tokenizer_does(model: Any, encoder: TextEncoder) -> None:
    """Every kind of space, and what only looks like one, before and after the mask."""
    mask = model.tokenizer.mask_token
    texts = [(Piece("field", f"a{space}"), MASK, Piece("field", f"{space}b")) for space in SPACES]
    expected = [model.tokenizer(f"a{space}{mask}{space}b")["input_ids"] for space in SPACES]
    assert [list(text.ids) for text in encoder.encode(texts)] == expected


@pytest.mark.parametrize(
    "special", ["<mask>", "</s>", "<s>", "<pad>", "[MASK]", "[SEP]", "[PAD]", " <mask> </s> [CLS]"]
)
def test_special_strings_in_a_users_text_are_plain_text(model: Any, encoder: TextEncoder, special: str) -> None:
    """No special id appears but those that the encoder puts there itself."""
    ids = one(encoder, review(f"a {special} b")).ids
    found = [token for token in ids if token in model.loaded.vocabulary.special_ids]
    expected = [model.tokenizer.cls_token_id, model.tokenizer.mask_token_id, model.tokenizer.sep_token_id]
    unknown = model.tokenizer.unk_token_id
    assert [token for token in found if token != unknown] == expected


def test_special_strings_keep_their_characters(roberta: Any) -> None:
    """A user's `<mask>` is spelled by the tokens of its characters."""
    encoder = TextEncoder(roberta.loaded.vocabulary, 512)
    ids = one(encoder, (Piece("field", "<mask></s>"),)).ids
    assert roberta.tokenizer.decode(ids[1:-1]) == "<mask></s>"


def test_add_puts_base_tokens_and_a_full_stop_after_the_first_token(model: Any, encoder: TextEncoder) -> None:
    """`add` reads `<s> {1000 .. 1000+L-1} . {text} </s>` and bills every one of these tokens."""
    text = one(encoder, review("a fine day"), Frame("add", 7))
    rendered = f" . a fine day . It was {model.tokenizer.mask_token} ."
    plain = model.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    expected = [model.tokenizer.cls_token_id, *range(1000, 1007), *plain, model.tokenizer.sep_token_id]
    assert (list(text.ids), text.positions) == (expected, len(expected))


def test_cat_leaves_the_ids_and_bills_the_prompt(encoder: TextEncoder) -> None:
    """`cat` changes no token; its vectors are billed as positions."""
    plain, cat = (one(encoder, review("a fine day"), frame) for frame in (PLAIN, Frame("cat", 7)))
    assert (cat.ids, cat.positions) == (plain.ids, plain.positions + 7)


def test_frame_of_a_subspace() -> None:
    """The frame is the subspace's layout and prompt length; no subspace, no prompt."""
    assert Frame.of(Subspace(4, 3, 8, layout="cat")) == Frame("cat", 3)
    assert Frame.of(None) == PLAIN


@pytest.mark.parametrize("frame", [PLAIN, Frame("add", 20), Frame("cat", 20)])
def test_a_long_text_loses_the_end_of_its_field_only(model: Any, encoder: TextEncoder, frame: Frame) -> None:
    """Template, mask and prompt stay; what is left of the field is a start of it, encoded as the tokenizer would."""
    field = " ".join(f"word{number}" for number in range(600))
    text = one(encoder, review(field), frame)
    fixed = 1 + (frame.prompt_tokens if frame.layout == "add" else 0)
    body = model.tokenizer.decode(text.ids[fixed : text.masks[0]])
    kept = body.removeprefix(" .").removeprefix(".").strip()
    kept = kept[: kept.rindex(".")].strip().replace(" ##", "")
    expected = model.tokenizer(
        (" . " if frame.layout == "add" else "") + f"{kept} . It was {model.tokenizer.mask_token} .",
        add_special_tokens=False,
    )["input_ids"]
    assert field.startswith(kept)
    assert list(text.ids[fixed:-1]) == expected
    assert encoder.max_tokens - 8 <= text.positions <= encoder.max_tokens
    assert (text.shortened, len(text.masks)) == (True, 1)


def test_the_longest_field_gives_first(model: Any, encoder: TextEncoder) -> None:
    """A short second field stays whole while a long first one is cut."""
    text = one(encoder, (Piece("field", "bad " * 900), Piece("template", "?"), MASK, Piece("field", " great great")))
    tail = model.tokenizer(" great great", add_special_tokens=False)["input_ids"]
    assert list(text.ids[-3:-1]) == tail
    assert text.positions <= encoder.max_tokens


@WRITTEN_OUT
@given(unit=st.text(CHARACTERS, min_size=1, max_size=6), other=ANY_TEXT)
def test_cutting_always_ends_and_never_breaks_a_character(encoder: TextEncoder, unit: str, other: str) -> None:
    """Any repeated unit is cut to the limit, and its kept part decodes without a broken character."""
    text = (Piece("field", unit * 600), Piece("template", " . "), MASK, Piece("field", other))
    encoded = one(encoder, text)
    assert encoded.positions <= encoder.max_tokens
    assert len(encoded.masks) == 1
    if "\ufffd" not in unit:
        assert "\ufffd" not in encoder.vocabulary.tokenizer.decode(list(encoded.ids[1 : encoded.masks[0]]))


def test_emoji_sequences_and_accents_are_cut_whole(roberta: Any) -> None:
    """A family emoji and a letter with its accent stay or go as one."""
    encoder = TextEncoder(roberta.loaded.vocabulary, 64)
    for unit in ("👨\u200d👩\u200d👧", "e\u0301", "👍🏽"):
        encoded = one(encoder, (Piece("field", unit * 200), MASK))
        kept = roberta.tokenizer.decode(encoded.ids[1 : encoded.masks[0]])
        assert kept == unit * (len(kept) // len(unit))


def test_a_template_that_cannot_fit_is_refused(encoder: TextEncoder) -> None:
    """With its fields empty and still too long, the text is named and refused."""
    text = (Piece("template", "bad " * 600), MASK, Piece("field", "x"))
    with pytest.raises(InvalidQuery, match=r"text 1 takes \d+ positions without its fields"):
        encoder.encode([review("fine"), text])


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_a_prompt_without_room_for_text_is_refused(encoder: TextEncoder, layout: Any) -> None:
    """A prompt as long as the model's positions is refused by its length."""
    with pytest.raises(InvalidQuery, match="leaves no room for text"):
        encoder.encode([review("fine")], Frame(layout, encoder.max_tokens - 2))


def test_add_needs_a_vocabulary_with_its_base_tokens(bert: Any) -> None:
    """Base tokens 1000 and up that the vocabulary lacks are refused, saying so."""
    encoder = TextEncoder(bert.loaded.vocabulary, 2000)
    with pytest.raises(InvalidQuery, match=r"ids 1000 \.\. 1999, but the vocabulary has"):
        encoder.encode([review("fine")], Frame("add", 1000))


def test_half_a_character_is_refused_by_position(encoder: TextEncoder) -> None:
    """A lone surrogate names the text, the code and where it stands."""
    with pytest.raises(InvalidQuery, match=r"text 1 holds the lone surrogate U\+D83D at character 2"):
        encoder.encode([review("fine"), review("ab\ud83d")])


def test_texts_need_no_mask_for_features(encoder: TextEncoder) -> None:
    """Without a mask there is none; with two, both are found."""
    texts = encoder.encode([(Piece("field", "fine"),), (MASK, Piece("template", " and "), MASK)])
    assert [len(text.masks) for text in texts] == [0, 2]
