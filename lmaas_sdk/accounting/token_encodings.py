"""A served model's tokenizer without its libraries: byte-level BPE, read from tokenizer.json for tiktoken.

Token numbers of such an encoding are merge ranks, not the model's ids: it is there to count and to cut.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from lmaas_sdk.errors import Unsupported

if TYPE_CHECKING:
    import tiktoken

__all__ = ["ByteLevelBpe", "encoding_from_tokenizer_json", "read_byte_level_bpe"]

# How GPT-2 splits text into words; possessive where nothing can be won by going back, so no text takes long.
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_BYTES = 256
_PRINTED = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))  # bytes that byte-level BPE writes as they are
_UNTRIMMED = {"BertProcessing", "TemplateProcessing"}
_TRIMMED = {"ByteLevel", "RobertaProcessing"}

_Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class ByteLevelBpe:
    """A byte-level BPE tokenizer.

    Args:
        encoding: Splits text into tokens; the special tokens in a text are plain text to it.
        adds_space: A text that does not start with a space gets one.
        trims: Where a token starts is told without the spaces it starts with.
        trims_first: So it is for a text's first token too.
        sides: Special tokens, with whether they swallow the white space before and after them.
    """

    encoding: tiktoken.Encoding
    adds_space: bool
    trims: bool
    trims_first: bool
    sides: Mapping[str, tuple[bool, bool]]

    def count(self, text: str) -> int:
        """Tokens of a text, without special tokens around it."""
        return len(self._tokens(text))

    def starts(self, text: str) -> list[int]:
        """The index of the character that each token of a text starts at, as the model's own tokenizer tells it."""
        tokens = [self.encoding.decode_single_token_bytes(token) for token in self._tokens(text)]
        ends = list(accumulate(len(token) for token in tokens))
        added = ends[-1] - len(text.encode()) if ends else 0
        borders = list(accumulate((len(character.encode()) for character in text), initial=0))
        found = []
        for index, (token, end) in enumerate(zip(tokens, ends, strict=True)):
            first = max(0, end - len(token) - added)
            start = bisect_right(borders, first) - 1
            stop = bisect_right(borders, max(0, end - added - 1))
            found.append(self._trimmed(token, start, stop, is_first=index == 0 or start == 0))
        return found

    def _tokens(self, text: str) -> list[int]:
        if self.adds_space and text and not text.startswith(" "):
            text = f" {text}"
        return self.encoding.encode_ordinary(text)

    def _trimmed(self, token: bytes, start: int, stop: int, *, is_first: bool) -> int:
        if not self.trims or (is_first and not self.trims_first):
            return start
        spaces = len(token) - len(token.lstrip(b" "))
        return min(start + spaces, stop)


def encoding_from_tokenizer_json(data: bytes) -> tiktoken.Encoding:
    """The tiktoken encoding of a byte-level BPE tokenizer: it splits text exactly as the model's own does.

    A tokenizer that puts a space before a text (`add_prefix_space`) leaves that to whoever calls;
    `read_byte_level_bpe` knows it.

    Args:
        data: The bytes of tokenizer.json.

    Raises:
        Unsupported: It is another kind of tokenizer, or does more than this one can; the message says what.
    """
    return read_byte_level_bpe(data).encoding


def read_byte_level_bpe(data: bytes) -> ByteLevelBpe:
    """A tokenizer of the GPT-2 or RoBERTa kind.

    Args:
        data: The bytes of tokenizer.json.

    Raises:
        Unsupported: It is another kind of tokenizer, or does more than this one can; the message says what.
    """
    import tiktoken  # noqa: PLC0415  (slow to import)

    fields = _fields(data)
    model, splitter = _part(fields, "model"), _part(fields, "pre_tokenizer")
    _check_kind(fields, model, splitter)
    encoding = tiktoken.Encoding("tokenizer.json", pat_str=_WORDS, mergeable_ranks=_ranks(model), special_tokens={})
    trims, trims_first = _trimming(fields.get("post_processor"))
    return ByteLevelBpe(encoding, bool(splitter.get("add_prefix_space", True)), trims, trims_first, _sides(fields))


def _fields(data: bytes) -> Mapping[str, object]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unsupported(f"this tokenizer.json cannot be read as JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Unsupported(f"a tokenizer.json is a JSON object, not {str(fields)[:40]!r}")
    return fields


def _part(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = fields.get(name)
    if not isinstance(part, dict):
        raise Unsupported(f"tokens can be counted here for byte-level BPE only; this tokenizer has no {name}")
    return part


def _check_kind(fields: Mapping[str, object], model: Mapping[str, object], splitter: Mapping[str, object]) -> None:
    """Refuses whatever would make the model's tokenizer do something else than split into words and merge bytes."""
    found = {
        "a model of another type": model.get("type", "BPE") != "BPE",
        "a pre-tokenizer of another type": splitter.get("type") != "ByteLevel",
        "a pre-tokenizer without GPT-2's words": not splitter.get("use_regex", True),
        "a normalizer": fields.get("normalizer") is not None,
        "added tokens that are not special": not all(token.get("special") for token in _added(fields)),
    }
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        found[option] = bool(model.get(option))
    if unlike := [what for what, is_so in found.items() if is_so]:
        kind = f"{model.get('type', 'BPE')!s:.40}"
        raise Unsupported(
            f"tokens can be counted here for byte-level BPE as GPT-2 and RoBERTa have it; this {kind} tokenizer has "
            f"{', '.join(unlike)}: let the server count (register the texts)"
        )


def _added(fields: Mapping[str, object]) -> list[Mapping[str, object]]:
    tokens = fields.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise Unsupported("the added_tokens of this tokenizer.json are no list of objects")
    return tokens


def _sides(fields: Mapping[str, object]) -> dict[str, tuple[bool, bool]]:
    return {
        str(token.get("content")): (bool(token.get("lstrip")), bool(token.get("rstrip"))) for token in _added(fields)
    }


def _trimming(processor: object) -> tuple[bool, bool]:
    """Whether tokens are told without their leading spaces, and the first one too."""
    if processor is None:
        return False, False
    kind = processor.get("type") if isinstance(processor, dict) else None
    if isinstance(processor, dict) and kind in _TRIMMED:
        return bool(processor.get("trim_offsets", True)), not processor.get("add_prefix_space", True)
    if kind in _UNTRIMMED:
        return False, False
    raise Unsupported(f"a tokenizer with the post-processor {kind!s:.40} cannot be followed here: let the server count")


def _ranks(model: Mapping[str, object]) -> dict[bytes, int]:
    """The rank of every token that bytes merge into, single bytes first.

    Raises:
        Unsupported: The merges are not those of a trained vocabulary.
    """
    byte_of = _byte_of_character()
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not vocabulary.keys() >= byte_of.keys():
        raise Unsupported("this tokenizer has no token for some bytes, so it is no byte-level BPE")
    pairs = [_pair(merge) for merge in _listed(model.get("merges"))]
    ranks = {bytes([byte]): byte for byte in range(_BYTES)}
    try:
        for left, right in pairs:
            ranks[bytes(byte_of[character] for character in left + right)] = len(ranks)
    except KeyError as error:
        raise Unsupported(f"a merge of this tokenizer holds {error}, which stands for no byte") from error
    if len(ranks) != _BYTES + len(pairs):
        raise Unsupported("two merges of this tokenizer make the same token, which tiktoken cannot tell apart")
    _check_merges(pairs)
    return ranks


def _byte_of_character() -> dict[str, int]:
    """Which byte a character in the vocabulary stands for: printed ones for themselves, the rest from U+0100 on."""
    others = [byte for byte in range(_BYTES) if byte not in _PRINTED]
    return {chr(byte): byte for byte in _PRINTED} | {chr(_BYTES + index): byte for index, byte in enumerate(others)}


def _listed(merges: object) -> list[object]:
    if not isinstance(merges, list):
        raise Unsupported("this tokenizer has no list of merges, so it is no BPE")
    return merges


def _pair(merge: object) -> _Pair:
    match merge.split(" ") if isinstance(merge, str) else merge:
        case [str(left), str(right)] if left and right:
            return left, right
    raise Unsupported(f"a merge is a pair of tokens, not {str(merge)[:40]!r}")


def _check_merges(pairs: Sequence[_Pair]) -> None:
    """Refuses a token that its own characters do not merge into.

    tiktoken joins any neighbours whose bytes make a token, the model only the pair that a merge names. Neighbours that
    make a token t got there as they would have in t alone, since no merge has crossed t's borders; and what t alone
    comes down to before its last step is one pair only. So where every t merges into itself, both do the same.
    """
    rank_of = {pair: rank for rank, pair in enumerate(pairs)}
    for left, right in pairs:
        if _last_pair(left + right, rank_of) != [left, right]:
            raise Unsupported(f"the merges of this tokenizer do not lead to its token {left + right!r:.40}")


def _last_pair(token: str, rank_of: Mapping[_Pair, int]) -> list[str]:
    """What merging leaves of a token when two parts are left, or where no merge fits before that."""
    parts = list(token)
    last = len(rank_of)
    while len(parts) > 2:
        ranks = [rank_of.get(pair, last) for pair in pairwise(parts)]
        best = min(ranks)
        if best == last:
            break
        index = ranks.index(best)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts
