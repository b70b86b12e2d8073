"""Demonstrations before a text: as many as fit, and nothing cut for them."""

from __future__ import annotations

import pytest
from tuning_cases import TASK, TRAIN, examples, mock

from lmaas_sdk import Budget, Client, InvalidQuery, Piece, Registration, Subspace, TextSet
from lmaas_sdk.methods.demonstrations import joined, written_out
from lmaas_sdk.methods.packing import Packing
from lmaas_sdk.texts import MASK, Text

SHOWN = [written_out(TASK, example) for example in TRAIN]
INSTRUCTION: Text = (Piece("template", "Say how it was."),)


def packing(backend: object, shown: list[Text] = SHOWN, instruction: Text = ()) -> Packing:
    return Packing(Client(backend, Budget()), instruction, shown, separator=" ")  # type: ignore[arg-type]


def texts(*fields: str) -> tuple[Text, ...]:
    return TASK.texts(fields)


@pytest.mark.parametrize("max_tokens", [24, 40, 64, 100, 512])
async def test_one_more_would_not_fit(max_tokens: int) -> None:
    """Of those that are left out, each would have the model cut the text."""
    backend = mock(max_tokens=max_tokens)
    asked = texts("a thing", "a rather long thing, all told, that goes on and on", "")
    packed, chosen = await packing(backend).packed(asked), await packing(backend).chosen(asked)
    assert (await backend.register(TextSet(packed))).shortened == 0
    for text, shown in zip(asked, chosen, strict=True):
        for other in set(range(len(SHOWN))) - set(shown):
            more = joined([*(SHOWN[index] for index in (*shown, other)), text], " ")
            assert (await backend.register(TextSet((more,)))).shortened == 1
    assert max_tokens > 100 or min(map(len, chosen)) < len(SHOWN)


async def test_a_short_text_has_room_for_more_than_a_long_one() -> None:
    """Every text has its own number."""
    short, long = await packing(mock(max_tokens=64)).chosen(texts("a thing", " ".join(["thing"] * 30)))
    assert 0 < len(long) < len(short) < len(SHOWN)


async def test_a_demonstration_that_is_too_long_lets_others_pass() -> None:
    """The ones after it are shown all the same."""
    endless = written_out(TASK, examples(0, 1).task.examples([("word " * 400, 0)]).examples[0])
    (shown,) = await packing(mock(max_tokens=60), [endless, *SHOWN[:3]]).chosen(texts("a thing"))
    assert shown == (1, 2, 3)


async def test_a_text_that_is_too_long_by_itself_stands_alone() -> None:
    """The model cuts it as it would without demonstrations; template, mask and instruction stay."""
    asked = texts(" ".join(["thing"] * 100))
    backend = mock(max_tokens=40)
    (packed,) = await packing(backend, instruction=INSTRUCTION).packed(asked)
    assert packed == (*INSTRUCTION, Piece("template", " "), *asked[0])
    assert (await backend.register(TextSet((packed,)))).shortened == 1


async def test_an_instruction_that_leaves_no_room_is_refused() -> None:
    """It is never cut, so the model says that it is too long; nothing is sent."""
    backend = mock(max_tokens=20)
    with pytest.raises(InvalidQuery, match="text 0"):
        await packing(backend, instruction=(Piece("template", "so " * 30),)).packed(texts("a thing"))
    assert backend.book.attempts == 0


async def test_the_order_is_instruction_demonstrations_text() -> None:
    """One mask, which is the text's."""
    (packed,) = await packing(mock(), SHOWN[:2], INSTRUCTION).packed(texts("a thing"))
    written = "".join("<mask>" if piece.kind == "mask" else piece.text for piece in packed)
    first, second = TRAIN.fields[0][0], TRAIN.fields[1][0]
    assert written == f"Say how it was. {first} It was bad . {second} It was great . a thing It was <mask> ."
    assert packed.count(MASK) == 1


async def test_without_demonstrations_nothing_is_counted() -> None:
    """The texts are left as they are, or have the instruction before them."""
    asked = texts("a thing")
    assert await packing(object_without_tokens(), []).packed(asked) == asked


def object_without_tokens() -> object:
    """A backend that is asked for nothing but its card."""

    class Silent:
        card = mock().card

    return Silent()


class Sticky:
    """A model in whose tokens texts side by side are longer than by themselves: three more for each neighbour."""

    def __init__(self, max_tokens: int) -> None:
        self.card = mock(max_tokens=max_tokens).card
        self.asked = 0

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        self.asked += 1
        counts = [self._count(text) for text in texts.texts]
        most = self.card.max_tokens
        return Registration("", tuple(min(count, most) for count in counts), sum(count > most for count in counts))

    def _count(self, text: Text) -> int:
        words = sum(len(piece.text.split()) for piece in text)
        return 2 + words + 3 * max(0, sum(piece.kind == "field" for piece in text) - 1)

    async def score(self, query: object, *, key: str) -> None:
        raise AssertionError("nothing is scored here")

    features = score

    async def aclose(self) -> None:
        pass


async def test_tokens_that_grow_side_by_side_cost_a_demonstration_and_no_word_of_the_text() -> None:
    """Where the sum of the lengths was too small, the last ones go again, of those texts alone."""
    backend = Sticky(max_tokens=60)
    asked = texts("a thing", " ".join(["thing"] * 20), " ".join(["thing"] * 54), *["a thing"] * 5)
    chosen = await packing(backend).chosen(asked)
    packed = await packing(backend).packed(asked)
    assert (await backend.register(TextSet(packed))).shortened == 0
    assert [len(shown) for shown in chosen] == [4, 2, 0, *[4] * 5]
    alone = [await backend.register(TextSet((one,))) for one in (*SHOWN[:5], asked[0])]
    assert sum(counted.token_counts[0] - 2 for counted in alone) + 2 <= 60  # so a fifth fits by the sum of the lengths


async def test_what_fits_to_the_last_token_is_shown() -> None:
    """A model with exactly as much room shows it; one with a token less does not."""
    asked = texts("a thing")
    packed = await packing(mock(), SHOWN[:1]).packed(asked)
    (needed,) = (await mock().register(TextSet(packed))).token_counts
    shown = [await packing(mock(max_tokens=most), SHOWN[:1]).chosen(asked) for most in (needed, needed - 1)]
    assert shown == [[(0,)], [()]]
