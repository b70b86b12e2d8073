"""Going on with a run from its journal: it has to be the same run, and what it has spent is spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.accounting.money import format_usd, usd
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.calls import Endpoint, endpoint_for
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, BudgetTooSmall, JournalCorrupt, JournalError, JournalMismatch
from lmaas_sdk.logs import plain
from lmaas_sdk.tuning.journal import Past, header_of
from lmaas_sdk.tuning.layers import Layers, checked_layers
from lmaas_sdk.tuning.past import UNUSABLE
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.versions import differences

_TAKEN_OVER = "journal"  # the endpoint, in a ledger, of what earlier processes have spent; the key is the run
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
    "note_booked",
    "restore_spend",
    "settings_record",
]


class Recorded:
    """What a journal says of the run that began it.

    Args:
        path: The journal; this reads its first line.

    Attributes:
        header: All of that line.
        generations: How far its budget was planned to reach; None: only time limits it.
        races: Whether its candidates are raced.
        layers: The layers that it searches one after another; None: it searches one prompt.
        has_ledger: Whether its spend is booked in a ledger file.

    Raises:
        JournalError: It cannot be read, or is none of this version.
        JournalCorrupt: The line does not say how the run was set up.
    """

    def __init__(self, path: Path) -> None:
        self.header = header_of(path)
        try:
            self._take(self.header)
        except UNUSABLE as error:
            raise JournalCorrupt(
                f"{path}, line 1: its check sum is right, but it does not say how its run was set up as this version "
                f"does ({error!r:.120}); go on with the version that wrote it, or begin anew"
            ) from error

    def _take(self, header: Mapping[str, Any]) -> None:
        """Reads all that is ever asked for, so that what is not there is told now."""
        settings, plan = header["settings"], header["plan"]
        self.run, self.seed = str(header["run"]), int(settings["seed"])
        self.preset = Preset(**settings["preset"])
        self.scheduling = Scheduling(**settings["scheduling"])
        self.options: dict[str, Any] = dict(header["options"])
        self.layers: Layers | None = None if "layers" not in settings else checked_layers(settings["layers"])
        self.generations = None if plan["generations"] is None else int(plan["generations"])
        self.races = bool(plan["races"])
        self.settings: dict[str, Any] = dict(settings, data=dict(settings["data"]))
        self.versions: dict[str, str] = dict(header["versions"])
        self._budget: dict[str, Any] = dict(header["budget"])
        self.has_ledger = bool(self._budget["in_file"])
        if not self.has_ledger:
            self.budget()

    async def is_booked_in(self, budget: Budget, past: Past) -> bool:
        """Whether a budget has what the run has spent.

        In a ledger file it has, if the run was begun or gone on with there; in memory, if it was in this process.

        Raises:
            JournalError: It has a part of it, so that the rest cannot be told from what would be counted twice.
        """
        ledger = budget.ledger
        if not isinstance(ledger, MemoryLedger):
            return self.has_ledger or bool(await ledger.posted(_TAKEN_OVER, [self.run]))
        has = [ledger.spent_by_run(one.path, self.run) for one in budget.line()]
        if all(spent is None for spent in has):
            return False
        if has[0] != past.spent:
            raise JournalError(
                f"the budget {budget.path!r}, or one above it, has a part of what the journal's run has spent, and "
                "would count it twice: give Tuner.resume a fresh budget, or none for one like the run's"
            )
        return True

    def budget(self) -> Budget | None:
        """The budget it was given, in memory; None: it was given none.

        Raises:
            JournalError: It is in a ledger file, which has to be opened.
        """
        record = self._budget
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


def note_booked(budget: Budget, run: str, spent: Amounts) -> None:
    """Has a budget in memory, and those above, know a run's spend again if the run is gone on with in this process."""
    if isinstance(budget.ledger, MemoryLedger):
        for one in budget.line():
            budget.ledger.note_run(one.path, run, spent)


async def restore_spend(client: Client, past: Past, *, run: str, is_booked: bool) -> None:
    """Has the budget and the spend say what the run has cost so far.

    Args:
        client: Pays from the run's budget.
        past: What the journal holds.
        run: Whose.
        is_booked: Whether the budget has it already.

    Raises:
        BudgetTooSmall: The budget given allows less than was spent already; nothing was posted in it.
    """
    if not is_booked:
        _check_fits(client.budget, past.spent + past.lost)
    client.spend.by_purpose.update({purpose: paid for purpose, paid in past.paid.items() if paid != Amounts()})
    known = dict(past.paid)
    for key, (purpose, attempts) in past.unknown.items():
        known[purpose] -= sum(attempts, Amounts())
        await client.note_lost(key, purpose, attempts, is_booked=is_booked, is_new=False)
    for key in past.settled:
        client.note_settled(key, _endpoint(past, key))
    in_file = is_booked and not isinstance(client.budget.ledger, MemoryLedger)
    booked: dict[str, Amounts] = {}
    for endpoint in get_args(Endpoint) if in_file else ():
        keys = sorted(key for key in past.unanswered if _endpoint(past, key) == endpoint)
        booked |= await client.booked(keys, endpoint)
    for key in sorted(past.unanswered):
        lost = past.sent[key]
        if key in booked:  # the process died between the two writes
            client.spend.add(lost.purpose, booked[key], key)
            client.note_settled(key, _endpoint(past, key))
        else:
            await client.note_lost(key, lost.purpose, [lost.worst], is_booked=in_file, is_new=True)
    for purpose, paid in known.items() if not is_booked else ():
        (hold,) = await client.budget.hold_all([paid], [Label(purpose, _TAKEN_OVER, run)])
        hold.post(paid)


def _endpoint(past: Past, key: str) -> Endpoint:
    return endpoint_for(past.sent[key].purpose) if key in past.sent else "score"


def _check_fits(budget: Budget, spent: Amounts) -> None:
    """Refuses a budget that what was spent before does not fit into.

    Raises:
        BudgetTooSmall: It says how much that was.
    """
    try:
        budget.check(spent)
    except BudgetExceeded as refusal:
        if refusal.unit not in UNITS:  # it is closed, or its time is over
            raise
        amount = getattr(spent, refusal.unit)
        told = format_usd(amount) if refusal.unit == "nanousd" else f"{plain(amount):g} {refusal.unit}"
        others = ", beside what it has posted already" if refusal.posted else ""
        raise BudgetTooSmall.of(
            refusal,
            f"the journal's run has spent {told} before, which counts: give it a budget that allows more than "
            f"that{others}",
        ) from refusal


def settings_record(preset: Preset, scheduling: Scheduling) -> dict[str, object]:
    """Settings for a journal and a result."""
    return {"preset": preset.to_dict(), "scheduling": asdict(scheduling)}
