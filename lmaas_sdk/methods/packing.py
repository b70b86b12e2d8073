"""As many demonstrations before a text as the model has room for: nothing of the text is cut to make room for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmaas_sdk.client import Client
from lmaas_sdk.methods.demonstrations import joined
from lmaas_sdk.texts import Piece, Text, TextSet

__all__ = ["Packing"]

# What stands before a text in its place: byte-level BPE takes the space before a word into the word's first token, so a
# text is not as long behind another as by itself.
_ANCHOR: Text = (Piece("template", "."),)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Tokens of demonstrations: `first`: of all up to the first one's end; `behind`: what one adds behind another."""

    first: tuple[int, ...]
    behind: tuple[int, ...]

    def fitting(self, room: int) -> tuple[int, ...]:
        """The indices of those that are taken, in order, each that still fits."""
        taken: list[int] = []
        for index, (first, behind) in enumerate(zip(self.first, self.behind, strict=True)):
            length = behind if taken else first
            if length <= room:
                taken.append(index)
                room -= length
        return tuple(taken)


class Packing:
    """Puts instruction and demonstrations before texts.

    Tokens are counted as the client counts them, which is free. Demonstrations are taken in their order, each that
    still fits, by the sum of their lengths; where texts beside one another are more tokens than by themselves, and
    the model would cut, the last one goes again.

    Args:
        client: Counts.
        instruction: What stands first; empty: nothing.
        demonstrations: Written out, in order.
        separator: What stands between two of all these.
    """

    def __init__(self, client: Client, instruction: Text, demonstrations: Sequence[Text], *, separator: str) -> None:
        self._client, self._instruction, self._separator = client, instruction, separator
        self._demonstrations = tuple(demonstrations)
        self._lengths: _Lengths | None = None

    async def packed(self, texts: Sequence[Text]) -> tuple[Text, ...]:
        """The texts with what stands before each. One that is too long by itself is left for the model to cut.

        Raises:
            InvalidQuery: The model has no room for the instruction and a template.
        """
        chosen = await self.chosen(texts)
        return tuple(self._written(text, shown) for text, shown in zip(texts, chosen, strict=True))

    async def chosen(self, texts: Sequence[Text]) -> list[tuple[int, ...]]:
        """Which demonstrations stand before each text, by index. Raises as `packed`."""
        if not self._demonstrations:
            return [()] * len(texts)
        chosen = await self._by_length(texts)
        unsure = [row for row, shown in enumerate(chosen) if shown]
        while unsure:
            crowded = await self._crowded({row: self._written(texts[row], chosen[row]) for row in unsure})
            for row in crowded:
                chosen[row] = chosen[row][:-1]
            unsure = [row for row in crowded if chosen[row]]
        return chosen

    def _written(self, text: Text, shown: Sequence[int]) -> Text:
        before = [self._instruction] if self._instruction else []
        return joined([*before, *(self._demonstrations[index] for index in shown), text], self._separator)

    async def _by_length(self, texts: Sequence[Text]) -> list[tuple[int, ...]]:
        if self._lengths is None:
            first = await self._counted([self._written(text, ()) for text in self._demonstrations])
            self._lengths = _Lengths(first, await self._behind(self._demonstrations))
        most = self._client.backend.card.max_tokens
        return [self._lengths.fitting(most - length) for length in await self._behind(texts)]

    async def _behind(self, texts: Sequence[Text]) -> tuple[int, ...]:
        """The tokens that each text adds to what stands before it, the separator included."""
        anchor, *counts = await self._counted([_ANCHOR, *(joined([_ANCHOR, text], self._separator) for text in texts)])
        return tuple(count - anchor for count in counts)

    async def _counted(self, texts: Sequence[Text]) -> tuple[int, ...]:
        return (await self._client.register(TextSet(tuple(texts)))).token_counts

    async def _crowded(self, texts: dict[int, Text]) -> list[int]:
        """The rows whose text the model would cut; it tells how many they are, so halves are asked about."""
        shortened = (await self._client.register(TextSet(tuple(texts.values())))).shortened
        rows = list(texts)
        if shortened in (0, len(rows)):
            return rows if shortened else []
        halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        return [row for half in halves for row in await self._crowded({row: texts[row] for row in half})]
