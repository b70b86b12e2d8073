"""The cards of several servers: replicas of one service agree in all that decides answers and bills."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.errors import BackendUnavailable, LmaasError, OutcomeUnknown, ProtocolError

__all__ = ["Agreed", "AskCard", "agreed_card", "check_agreement", "told_card"]

AskCard = Callable[[], Awaitable[ModelCard]]
_PATIENCE_S = 10.0  # a server that computes answers this at once; one that hangs must not hold up the others
_MOST_SHOWN = 300  # characters of a value: a server decides how long it is


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the servers of a service told.

    Args:
        card: The card, the same for all that answered.
        absent: The errors of the others, by their URLs.
    """

    card: ModelCard
    absent: Mapping[str, BackendUnavailable | OutcomeUnknown]


async def agreed_card(servers: Mapping[str, AskCard], *, masked: Callable[[str], str] = str) -> Agreed:
    """Asks every server for its card. Some may be away, as long as one answers.

    Args:
        servers: By URL, how to ask.
        masked: As of `check_agreement`.

    Raises:
        ProtocolError: Two cards differ.
        BackendUnavailable: No server answers.
        LmaasError: One refuses.
    """
    async with asyncio.TaskGroup() as group:
        tasks = {url: group.create_task(_card_or_error(url, ask)) for url, ask in servers.items()}
    cards, absent = {}, {}
    for url, task in tasks.items():
        match task.result():
            case ModelCard() as card:
                cards[url] = card
            case BackendUnavailable() | OutcomeUnknown() as error:
                absent[url] = error
            case LmaasError() as refusal:
                raise refusal
    if not cards:
        raise BackendUnavailable(f"none of {len(servers)} servers answers: {'; '.join(map(str, absent.values()))}")
    first, card = next(iter(cards.items()))
    for url, other in cards.items():
        check_agreement(card, other, urls=(first, url), masked=masked)
    return Agreed(card, absent)


def check_agreement(
    card: ModelCard, other: ModelCard, *, urls: tuple[str, str], masked: Callable[[str], str] = str
) -> None:
    """Compares two cards, field by field.

    Args:
        card, other: The cards.
        urls: Where each is from.
        masked: Takes secrets out of a text that came from a server.

    Raises:
        ProtocolError: They differ; it names the first field that does.
    """
    for name in (field.name for field in fields(ModelCard) if field.name != "replicas"):
        values = getattr(card, name), getattr(other, name)
        if values[0] != values[1]:
            told = [f"{masked(repr(value))[:_MOST_SHOWN]} at {url}" for value, url in zip(values, urls, strict=True)]
            raise ProtocolError(
                f"these servers are no replicas of one service: {name} is {told[0]} and {told[1]}; "
                "start them with the same model and options, or give one URL"
            )


async def told_card(url: str, ask: AskCard) -> ModelCard:
    """A server's card, within ten seconds.

    Raises:
        BackendUnavailable: It did not tell it in time.
        LmaasError: As asking for it does.
    """
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await ask()
    except TimeoutError as error:
        raise BackendUnavailable(f"the server at {url} did not tell its card within {_PATIENCE_S:g} s") from error


async def _card_or_error(url: str, ask: AskCard) -> ModelCard | LmaasError:
    try:
        return await told_card(url, ask)
    except LmaasError as error:
        return error
