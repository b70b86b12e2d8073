"""Cutting samples to a number of tokens, counted by the tokenizers of both families."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lmaas_backends.roberta.in_process import InProcessBackend
from lmaas_sdk import Backend, Budget, Client, Dataset, Task, TaskError, TextSet
from lmaas_sdk.bench.max_length import cut_to_length

PAIR = Task("pairs", template="{S1} ? <mask> , {S2}", labels=["no", "yes"], words=["bad", "great"])
ONE = Task("ones", template="{S} . It was <mask> .", labels=["no", "yes"], words=["bad", "great"])
LONG = " ".join(f"a lovely film about {name}" for name in ("birds", "kings", "trains", "winter", "Zanzibar"))
ROWS = [
    ("so fine", 1),
    (LONG, 0),
    (f"{LONG} e\u0301\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467 {LONG}", 1),
    ("", 0),
]


@pytest_asyncio.fixture(params=["roberta-tiny", "bert"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """The bundled model, which has byte-level BPE, and a small BERT, which has WordPiece."""
    name = "roberta-tiny" if request.param == "roberta-tiny" else str(request.getfixturevalue("bert_folder"))
    async with InProcessBackend(name) as opened:
        yield opened


async def lengths(client: Client, dataset: Dataset) -> tuple[int, ...]:
    return (await client.register(TextSet(dataset.task.texts(dataset.fields)))).token_counts


async def with_one_more(client: Client, cut: Dataset, whole: Dataset) -> list[int]:
    """The length of each shortened row of one field with the next word given back."""
    given_back = []
    for short, long in zip(cut, whole, strict=True):
        rest = long.fields[0][len(short.fields[0]) :].split(" ")
        word = next((part for part in rest if part), "")
        given_back.append((f"{short.fields[0]}{'' if rest[0] else ' '}{word}", short.label))
    return list(await lengths(client, cut.task.examples(given_back)))


@pytest.mark.parametrize("most", [17, 24])
async def test_no_row_is_longer_and_none_is_cut_without_need(backend: Backend, most: int) -> None:
    """Rows that fit stay as they are; of the others as much of the beginning is kept as fits."""
    client, whole = Client(backend, Budget()), ONE.examples(ROWS)
    found = await cut_to_length(client, whole, most)
    before, after = await lengths(client, whole), await lengths(client, found.dataset)
    too_long = [count > most for count in before]

    assert [False, True, True, False] == too_long
    assert found.cut == sum(too_long)
    assert max(after) <= most
    assert [row for row, is_long in zip(whole, too_long, strict=True) if not is_long] == [
        row for row, is_long in zip(found.dataset, too_long, strict=True) if not is_long
    ]
    for short, long, is_long in zip(found.dataset, whole, too_long, strict=True):
        assert long.fields[0].startswith(short.fields[0])
        assert (short.fields != long.fields) == is_long
    more = await with_one_more(client, found.dataset.subset([1, 2]), whole.subset([1, 2]))
    assert all(count > most for count in more)


async def test_the_longer_field_gives_first(backend: Backend) -> None:
    """A short question beside a long text stays whole."""
    client = Client(backend, Budget())
    found = await cut_to_length(client, PAIR.examples([(("so fine", LONG), 1)]), 16)
    (row,) = found.dataset
    assert row.fields[0] == "so fine"
    assert 0 < len(row.fields[1]) < len(LONG)
    assert await lengths(client, found.dataset) <= (16,)


async def test_nothing_is_changed_where_all_fit(backend: Backend) -> None:
    """The set itself comes back, and no row counts as cut."""
    client, whole = Client(backend, Budget()), ONE.examples(ROWS[:1])
    found = await cut_to_length(client, whole, 20)
    assert (whole, 0) == (found.dataset, found.cut)


async def test_a_template_that_is_too_long_is_refused(backend: Backend) -> None:
    """No text would fit beside it."""
    with pytest.raises(TaskError, match=r"the template of task 'ones' alone takes \d+ tokens, above a max_length of 5"):
        await cut_to_length(Client(backend, Budget()), ONE.examples(ROWS), 5)


async def test_cutting_is_free(backend: Backend) -> None:
    """Tokens are counted, nothing is scored: a budget of nothing is enough."""
    budget = Budget(calls=0, tokens=0)
    await cut_to_length(Client(backend, budget), ONE.examples(ROWS), 15)
    assert budget.posted.calls == 0
