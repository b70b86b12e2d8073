"""A run as its journal tells it, whoever has that open, finished or not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.errors import JournalError
from lmaas_sdk.logs import plain
from lmaas_sdk.tuning.journal import header_of
from lmaas_sdk.tuning.journal_file import records_of
from lmaas_sdk.tuning.past import Past
from lmaas_sdk.tuning.run_record import GenerationRow, RunRecord

__all__ = ["record_of_journal"]

_NO_METRIC = "a journal tells when dev and test were scored and what that cost, and the run file how well they did"


def record_of_journal(path: Path) -> RunRecord:
    """Reads a journal; blocking.

    Raises:
        JournalError: It cannot be read, or is of another format.
        JournalCorrupt: It is damaged.
    """
    header, past = header_of(path), Past()
    for record in records_of(path):
        past.add(record)
    try:
        return _record(header, past)
    except (KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"{path} does not say how its run was set up ({error!r:.120})") from error


def _record(header: Mapping[str, Any], past: Past) -> RunRecord:
    generations = _generations(past)
    settings, options = header["settings"], header["options"]
    return RunRecord(
        kind="journal",
        task=_text(options.get("task")),
        model=_text(options.get("model")),
        metric=None,
        preset=str(settings["preset"]["name"]),
        seed=int(settings["seed"]),
        stopped=past.ended,
        chosen_by=None,
        evaluations=generations[-1].evaluations if generations else 0,
        manual=None,
        tuned=None,
        spend={str(purpose): paid for purpose, paid in past.paid.items()},
        unknown_outcomes=sum(len(attempts) for _, attempts in past.unknown.values()),
        budget=_budget(header["budget"]["limits"] or {}),
        wall_s=past.elapsed_s,
        waits=None,
        estimate=None,
        warnings=tuple(_warnings(past)),
        versions=dict(header["versions"]),
        generations=tuple(generations),
        dev=(),
    )


def _generations(past: Past) -> list[GenerationRow]:
    """The curve of the losses that were told."""
    rows: list[GenerationRow] = []
    evaluations, lowest = Amounts().evaluations, float("inf")
    for generation, (told, at) in sorted(past.told.items()):
        losses = told.scored.values()
        lowest = min(lowest, *losses)
        evaluations += told.evaluations
        rows.append(
            GenerationRow(
                generation=generation,
                evaluations=plain(evaluations),
                best_loss=min(losses),
                median_loss=statistics.median(losses),
                lowest_loss=lowest,
                sigma=None,
                spent=at.spent,
                elapsed_s=at.elapsed_s,
            )
        )
    return rows


def _budget(limits: Mapping[str, Any]) -> dict[str, float | None]:
    money = limits.get("nanousd")
    units = {unit: limits.get(unit) for unit in ("calls", "evaluations", "tokens", "wall_s")}
    return {**units, "usd": None if money is None else float(usd(money))}


def _warnings(past: Past) -> list[str]:
    """What the journal does not hold."""
    under_way = len(past.unanswered)
    lost = f"{under_way} calls were under way when the journal ended: what they cost is not in it"
    return [_NO_METRIC, *([lost] if under_way else [])]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
