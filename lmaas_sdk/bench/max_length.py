"""Texts cut to a number of tokens before any method sees them, as the paper's runs are (Sun et al. 2022, table 3).

A row's length is that of its own sample: fields, template, mask and special tokens, without soft prompt and without
demonstrations. The end of the longest field goes first, as where a model itself has no room; template and mask stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmaas_sdk.accounting.shortening import cut_before, kept_tokens
from lmaas_sdk.client import Client
from lmaas_sdk.errors import TaskError
from lmaas_sdk.tasks import Dataset, Example
from lmaas_sdk.texts import Text, TextSet

__all__ = ["CutDataset", "cut_to_length"]


@dataclass(frozen=True, slots=True)
class CutDataset:
    """A data set of which no row is too long.

    Args:
        dataset: Its rows, in the order of the one it was made from.
        cut: How many of them lost words.
    """

    dataset: Dataset
    cut: int


async def cut_to_length(client: Client, dataset: Dataset, max_length: int) -> CutDataset:
    """Cuts the fields of rows that take more than `max_length` tokens to the longest beginning that fits.

    Tokens are counted as the client counts them, which is free: about a dozen times for the rows that are too long.

    Args:
        client: Counts.
        dataset: What to cut; at least one row.
        max_length: Most tokens of a row.

    Raises:
        TaskError: The template alone is longer.
    """
    counts = await _counted(client, dataset.task.texts(dataset.fields))
    rows = [row for row, count in enumerate(counts) if count > max_length]
    if not rows:
        return CutDataset(dataset, 0)
    fitted = await _fitted(client, dataset.subset(rows), max_length)
    examples = list(dataset.examples)
    for row, example in zip(rows, fitted, strict=True):
        examples[row] = example
    return CutDataset(Dataset(dataset.task, tuple(examples), dataset.name), len(rows))


async def _fitted(client: Client, rows: Dataset, max_length: int) -> list[Example]:
    """Each row with as few characters less as fit, found by halving."""
    too_few = [0] * len(rows)  # characters that are not enough to go
    enough = [sum(map(len, example.fields)) for example in rows]
    await _check_empty(client, rows, max_length)
    while any(few + 1 < many for few, many in zip(too_few, enough, strict=True)):
        tried = [(few + many) // 2 for few, many in zip(too_few, enough, strict=True)]
        shorter = [_without(example, excess) for example, excess in zip(rows, tried, strict=True)]
        counts = await _counted(client, rows.task.texts([example.fields for example in shorter]))
        for row, count in enumerate(counts):
            (enough if count <= max_length else too_few)[row] = tried[row]
    return [_without(example, excess) for example, excess in zip(rows, enough, strict=True)]


async def _check_empty(client: Client, rows: Dataset, max_length: int) -> None:
    (least,) = await _counted(client, rows.task.texts([("",) * len(rows.task.template.fields)]))
    if least > max_length:
        raise TaskError(
            f"the template of task {rows.task.name!r} alone takes {least} tokens, above a max_length of {max_length}: "
            "allow more, or shorten the template"
        )


def _without(example: Example, excess: int) -> Example:
    """A row that has lost so many characters, and no half of one that several spell."""
    kept = kept_tokens([len(field) for field in example.fields], excess)
    cut = [
        field if characters == len(field) else cut_before(field, characters) if characters else ""
        for field, characters in zip(example.fields, kept, strict=True)
    ]
    return Example(tuple(cut), example.label)


async def _counted(client: Client, texts: Sequence[Text]) -> tuple[int, ...]:
    return (await client.register(TextSet(tuple(texts)))).token_counts
