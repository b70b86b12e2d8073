"""From the pieces of a text to the token ids a model reads, with room for the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lmaas_backends.roberta.shortening import cut_after, kept_tokens
from lmaas_backends.roberta.vocabulary import Vocabulary, check_characters
from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import Piece, Text
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["FIRST_BASE_TOKEN", "PLAIN", "EncodedText", "Frame", "TextEncoder"]

FIRST_BASE_TOKEN = 1000
_SPECIAL_TOKENS = 2
# What the tokenizers library strips beside a mask: Unicode White_Space. str.strip() would also take U+001C .. U+001F.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
# In `add` a full stop stands between the base tokens and the text (reference implementation of Sun et al. 2022).
_AFTER_BASE_TOKENS = Piece("template", " . ")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a text: nothing (`plain`), base tokens after `<s>` (`add`), vectors before `<s>` (`cat`)."""

    layout: Literal["plain", "add", "cat"] = "plain"
    prompt_tokens: int = 0

    @classmethod
    def of(cls, subspace: Subspace | None) -> Frame:
        """The frame of a subspace's prompt; None: the manual prompt's."""
        return PLAIN if subspace is None else cls(subspace.layout, subspace.prompt_tokens)

    @property
    def positions_before(self) -> int:
        """Positions in front of `<s>` that are no tokens."""
        return self.prompt_tokens if self.layout == "cat" else 0


PLAIN = Frame()


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as a model reads it.

    Args:
        ids: Token ids, special tokens and base tokens included.
        masks: Indices of the mask in `ids`.
        positions: Positions computed for it: `ids`, and in `cat` the prompt's vectors. This is what is billed.
        shortened: Whether it lost words to fit the model.
    """

    ids: tuple[int, ...]
    masks: tuple[int, ...]
    positions: int
    shortened: bool = False


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Encodes texts exactly as the model's own tokenizer encodes them written out, special tokens in user text apart.

    Args:
        vocabulary: The model's.
        max_tokens: Most positions a text may take, prompt and special tokens included.
    """

    vocabulary: Vocabulary
    max_tokens: int

    def encode(self, texts: Sequence[Text], frame: Frame = PLAIN) -> tuple[EncodedText, ...]:
        """Encodes texts under a prompt's frame; one that is too long loses the end of its longest field.

        Raises:
            InvalidQuery: The prompt leaves no room or needs a larger vocabulary, a text is too long even without its
                fields, or holds a lone surrogate. The message names the text by its index.
        """
        self._check_frame(frame)
        for index, text in enumerate(texts):
            check_characters("".join(piece.text for piece in text), where=f"text {index}")
        segments = [self._segments(text, frame) for text in texts]
        encodings = iter(self.vocabulary.encode([segment for parts in segments for segment in parts]))
        encoded = [self._assemble([next(encodings).ids for _ in parts], frame) for parts in segments]
        return tuple(
            one if one.positions <= self.max_tokens else self._shorten(texts[index], frame, index=index)
            for index, one in enumerate(encoded)
        )

    def _check_frame(self, frame: Frame) -> None:
        if frame.layout == "add" and FIRST_BASE_TOKEN + frame.prompt_tokens > self.vocabulary.size:
            raise InvalidQuery(
                f"layout 'add' with {frame.prompt_tokens} prompt tokens stands on vocabulary ids {FIRST_BASE_TOKEN} .. "
                f"{FIRST_BASE_TOKEN + frame.prompt_tokens - 1}, but the vocabulary has {self.vocabulary.size}: take "
                "fewer prompt tokens or layout 'cat'"
            )
        if frame.prompt_tokens + _SPECIAL_TOKENS >= self.max_tokens:
            raise InvalidQuery(
                f"a prompt of {frame.prompt_tokens} tokens leaves no room for text: this model takes {self.max_tokens} "
                f"positions, {_SPECIAL_TOKENS} of them special tokens; take fewer prompt tokens"
            )

    def _segments(self, text: Text, frame: Frame) -> list[str]:
        """The plain strings between the masks; one more than there are masks."""
        pieces = (_AFTER_BASE_TOKENS, *text) if frame.layout == "add" else text
        segments = [""]
        for piece in pieces:
            if piece.kind == "mask":
                segments.append("")
            else:
                segments[-1] += piece.text
        last = len(segments) - 1
        if self.vocabulary.strips_before_mask:
            segments = [part.rstrip(_WHITE_SPACE) if index < last else part for index, part in enumerate(segments)]
        if self.vocabulary.strips_after_mask:
            segments = [part.lstrip(_WHITE_SPACE) if index > 0 else part for index, part in enumerate(segments)]
        return segments

    def _assemble(self, parts: list[list[int]], frame: Frame) -> EncodedText:
        ids = [self.vocabulary.cls_id]
        if frame.layout == "add":
            ids += range(FIRST_BASE_TOKEN, FIRST_BASE_TOKEN + frame.prompt_tokens)
        masks = []
        for index, part in enumerate(parts):
            if index > 0:
                masks.append(len(ids))
                ids.append(self.vocabulary.mask_id)
            ids += part
        ids.append(self.vocabulary.sep_id)
        return EncodedText(tuple(ids), tuple(masks), len(ids) + frame.positions_before)

    def _encode_one(self, text: Text, frame: Frame) -> EncodedText:
        return self._assemble([encoding.ids for encoding in self.vocabulary.encode(self._segments(text, frame))], frame)

    def _shorten(self, text: Text, frame: Frame, *, index: int) -> EncodedText:
        encoded = self._encode_one(text, frame)
        while (excess := encoded.positions - self.max_tokens) > 0:
            shorter = self._without(text, excess)
            if shorter == text:
                raise InvalidQuery(
                    f"text {index} takes {encoded.positions} positions without its fields, above the model's "
                    f"{self.max_tokens}: only fields are shortened, so shorten the template or the prompt"
                )
            text = shorter
            encoded = self._encode_one(text, frame)
        return replace(encoded, shortened=True)

    def _without(self, text: Text, excess: int) -> Text:
        """The text with about `excess` tokens less in its fields; the same text once they are empty."""
        fields = [index for index, piece in enumerate(text) if piece.kind == "field"]
        encodings = self.vocabulary.encode([text[index].text for index in fields])
        kept = kept_tokens([len(encoding.ids) for encoding in encodings], excess)
        pieces = list(text)
        for index, encoding, tokens in zip(fields, encodings, kept, strict=True):
            # A field of no tokens (white space to this tokenizer) may still cost some beside its neighbours.
            shorter = cut_after(text[index].text, encoding, tokens) if tokens else ""
            pieces[index] = replace(text[index], text=shorter)
        return tuple(pieces)
