"""The text sets an engine holds, by content digest, with their token ids under each prompt's frame."""

from __future__ import annotations

from lmaas_backends.roberta.label_words import label_token_ids
from lmaas_backends.roberta.stores import BoundedStore
from lmaas_backends.roberta.text_encoder import EncodedText, Frame, TextEncoder
from lmaas_sdk.errors import InvalidQuery, UnknownDataset
from lmaas_sdk.texts import TextSet

__all__ = ["TextStore"]

_TEXT_BYTES = 256 << 20
_ENCODED_BYTES = 256 << 20
_BYTES_PER_TOKEN = 40
_BYTES_PER_PIECE = 100

LabelIds = tuple[tuple[int, ...], ...]


class TextStore:
    """Keeps text sets within bounds; a set that had to go is unknown again.

    Args:
        encoder: The model's.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._sets: BoundedStore[str, TextSet] = BoundedStore(max_bytes=_TEXT_BYTES)
        self._encoded: BoundedStore[tuple[str, Frame], tuple[EncodedText, ...]] = BoundedStore(max_bytes=_ENCODED_BYTES)

    def add(self, texts: TextSet) -> TextSet:
        """Takes in a set.

        Raises:
            InvalidQuery: It is empty.
            VerbalizerError: A label word does not fit the model.
        """
        if not texts.texts:
            raise InvalidQuery("the text set is empty: send at least one text")
        held = self._sets.get(texts.digest)
        if held is not None:
            return held
        self.label_ids(texts)
        pieces = [piece for text in texts.texts for piece in text]
        size = sum(len(piece.text) for piece in pieces) * 4 + len(pieces) * _BYTES_PER_PIECE
        return self._sets.put(texts.digest, texts, size)

    def find(self, texts: TextSet | str) -> TextSet:
        """The set itself, taken in if it is new, or the one of that digest.

        Raises:
            UnknownDataset: No set of that digest is held.
        """
        if isinstance(texts, TextSet):
            return self.add(texts)
        held = self._sets.get(texts)
        if held is None:
            raise UnknownDataset(f"no text set {texts} is held here: register it (again) first")
        return held

    def encoded(self, texts: TextSet, frame: Frame) -> tuple[EncodedText, ...]:
        """Token ids of every text under a frame.

        Raises:
            InvalidQuery: As `TextEncoder.encode`.
        """
        key = (texts.digest, frame)
        found = self._encoded.get(key)
        if found is not None:
            return found
        encoded = self._encoder.encode(texts.texts, frame)
        return self._encoded.put(key, encoded, sum(len(text.ids) for text in encoded) * _BYTES_PER_TOKEN)

    def label_ids(self, texts: TextSet) -> LabelIds | None:
        """Token ids of the set's label words; None: it has none."""
        return None if texts.label_words is None else label_token_ids(texts.label_words, self._encoder.vocabulary)
