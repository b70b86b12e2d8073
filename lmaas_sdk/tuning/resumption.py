"""Going on with a run from its journal: it has to be the same run, and what it has spent is spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.client import Client
from lmaas_sdk.errors import JournalError, JournalMismatch
from lmaas_sdk.tuning.journal import Past, header_of
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.versions import differences

_WHAT_TO_GIVE = {
    "target": ": give fit the same target=",
    "search": ": give Tuner.resume the optimizer= that it was begun with",
    "subspace": ": it was begun on a model of another width",
}

__all__ = [
    "Recorded",
    "budget_record",
    "check_same_settings",
    "check_same_versions",
    "restore_spend",
    "settings_record",
]


class Recorded:
    """What a journal says of the run that began it.

    Args:
        path: The journal; this reads its first line.

    Raises:
        JournalError: It cannot be read, or is none of this version.
    """

    def __init__(self, path: Path) -> None:
        self.header = header_of(path)
        try:
            settings = self.header["settings"]
            self.run, self.seed = str(self.header["run"]), int(settings["seed"])
            self.preset = Preset(**settings["preset"])
            self.scheduling = Scheduling(**settings["scheduling"])
            self.options: dict[str, Any] = dict(self.header["options"])
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(f"{path} does not say how its run was set up ({error!r:.120})") from error

    @property
    def generations(self) -> int | None:
        """How far its budget was planned to reach."""
        planned: int | None = self.header["plan"]["generations"]
        return planned

    @property
    def races(self) -> bool:
        """Whether its candidates are raced."""
        return bool(self.header["plan"]["races"])

    @property
    def has_ledger(self) -> bool:
        """Whether its spend is booked in a ledger file."""
        return bool(self.header["budget"]["in_file"])

    def is_booked_in(self, budget: Budget) -> bool:
        """Whether a budget has the run's spend: it is in a ledger file, as the run's was."""
        return self.has_ledger and not isinstance(budget.ledger, MemoryLedger)

    def budget(self) -> Budget | None:
        """The budget it was given, in memory; None: it was given none.

        Raises:
            JournalError: It is in a ledger file, which has to be opened.
        """
        record = self.header["budget"]
        if self.has_ledger:
            raise JournalError(
                f"the budget {record['name']!r} of this run is booked in a ledger file: open that one, and give "
                "Tuner.resume the budget in it"
            )
        limits = record["limits"]
        if limits is None:
            return None
        money = limits["nanousd"]
        return Budget(
            calls=limits["calls"],
            evaluations=limits["evaluations"],
            tokens=limits["tokens"],
            usd=None if money is None else usd(money),
            wall_s=limits["wall_s"],
            name=record["name"],
        )


def budget_record(given: Budget | None) -> dict[str, object]:
    """A budget for the journal's first line."""
    if given is None:
        return {"name": None, "limits": None, "in_file": False}
    limits = {unit: limit if unit == "wall_s" or limit is None else int(limit) for unit, limit in given.limits.items()}
    return {"name": given.name, "limits": limits, "in_file": not isinstance(given.ledger, MemoryLedger)}


def check_same_settings(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with other settings or data.

    Raises:
        JournalMismatch: It names what differs.
    """
    for name in sorted(recorded.keys() | now.keys()):
        before, after = recorded.get(name), now.get(name)
        if name == "data" and before != after:
            _refuse_data(before or {}, after or {})
        if before != after:
            raise JournalMismatch(
                f"the journal's run has {name} = {before!r:.120}, and this one has {after!r:.120}"
                + _WHAT_TO_GIVE.get(name, "")
            )


def _refuse_data(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            was, is_now = (found[:12] if (found := one.get(name)) else "none" for one in (before, after))
            raise JournalMismatch(
                f"the journal's run has the {name} set {was}, and this one {is_now}: give it the data (--data) "
                "that it was begun with"
            )


def check_same_versions(recorded: Mapping[str, str], now: Mapping[str, str], *, despite: bool) -> list[str]:
    """What is not as it was when the run began, in words.

    Raises:
        JournalMismatch: Something is not, and nobody said that it may be so.
    """
    found = differences(recorded, now)
    if found and not despite:
        raise JournalMismatch(
            f"the journal was written by another machinery: {'; '.join(found)}. Go on with that, or say "
            "despite_changes=True (--despite-changes) and accept that the result may differ"
        )
    return [f"resumed although {one}: the result may differ from that of an uninterrupted run" for one in found]


async def restore_spend(client: Client, past: Past, *, is_booked: bool) -> None:
    """Has the budget and the spend say what the run has cost so far.

    Args:
        client: Pays from the run's budget.
        past: What the journal holds.
        is_booked: Whether the budget has it already.

    Raises:
        BudgetExceeded: The budget given allows less than was spent already.
    """
    client.spend.by_purpose.update({purpose: paid for purpose, paid in past.paid.items() if paid != Amounts()})
    known = dict(past.paid)
    for key, (purpose, attempts) in past.unknown.items():
        known[purpose] -= sum(attempts, Amounts())
        await client.note_lost(key, purpose, attempts, is_booked=is_booked, is_new=False)
    for key in past.settled:
        client.note_settled(key)
    in_file = is_booked and not isinstance(client.budget.ledger, MemoryLedger)
    booked = await client.booked(sorted(past.unanswered)) if in_file else {}
    for key in sorted(past.unanswered):
        lost = past.sent[key]
        if key in booked:  # the process died between the two writes
            client.spend.add(lost.purpose, booked[key], key)
            client.note_settled(key)
        else:
            await client.note_lost(key, lost.purpose, [lost.worst], is_booked=in_file, is_new=True)
    for purpose, paid in known.items() if not is_booked else ():
        (hold,) = await client.budget.hold_all([paid], [Label(purpose)])
        hold.post(paid)


def settings_record(preset: Preset, scheduling: Scheduling) -> dict[str, object]:
    """Settings for a journal and a result."""
    return {"preset": preset.to_dict(), "scheduling": asdict(scheduling)}
