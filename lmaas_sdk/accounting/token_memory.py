"""Token counts of texts that were counted before."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from lmaas_sdk.accounting.prompt_frames import PromptFrame
from lmaas_sdk.texts import Text

__all__ = ["TokenMemory"]

_BESIDE_A_TEXT = 256  # what an entry takes besides its characters, in characters


class TokenMemory:
    """Counts by text and prompt frame, bounded by the length of the texts; what was used longest ago goes first.

    Threads may share one.

    Args:
        most_characters: Of all texts together, and an allowance for each.
    """

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._held = 0
        self._lock = Lock()
        self._counts: OrderedDict[tuple[Text, PromptFrame], tuple[int, bool]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def get(self, text: Text, frame: PromptFrame) -> tuple[int, bool] | None:
        """What was put; None: nothing, or it is forgotten."""
        with self._lock:
            found = self._counts.get((text, frame))
            if found is not None:
                self._counts.move_to_end((text, frame))
            return found

    def put(self, text: Text, frame: PromptFrame, counted: tuple[int, bool]) -> None:
        """Remembers a count, and forgets others if need be."""
        with self._lock:
            if (text, frame) not in self._counts:
                self._held += _size(text)
            self._counts[text, frame] = counted
            while self._held > self._most:
                (forgotten, _), _ = self._counts.popitem(last=False)
                self._held -= _size(forgotten)


def _size(text: Text) -> int:
    return _BESIDE_A_TEXT + sum(len(piece.text) for piece in text)
