"""Writes the entries of a ledger file out, one by one: as CSV, or as one JSON object."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TextIO

from lmaas_sdk.accounting.audit import iso_time
from lmaas_sdk.accounting.ledger_reader import EntryRow, LedgerReader, parse_amount
from lmaas_sdk.accounting.money import format_usd

__all__ = ["EXPORTS", "EXPORT_COLUMNS", "export_csv", "export_json"]

# Those of the table; `usd` is `nanousd` in dollars, exactly.
EXPORT_COLUMNS = (
    "seq", "at", "kind", "transfer", "account", "owner", "calls", "evaluations", "tokens", "nanousd", "usd",
    "purpose", "endpoint", "key", "unknown",
)  # fmt: skip


def export_csv(reader: LedgerReader, out: TextIO) -> None:
    """A header and a line for each entry; what an entry does not have is empty, part of an evaluation is "1/3"."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(EXPORT_COLUMNS)
    writer.writerows(_columns(entry) for entry in reader.entries())


def export_json(reader: LedgerReader, out: TextIO) -> None:
    """An object with `entries`, one a line; what an entry does not have is null, part of an evaluation "1/3"."""
    out.write('{"entries": [')
    before = "\n"
    for entry in reader.entries():
        values = dict(zip(EXPORT_COLUMNS, _columns(entry), strict=True))
        values["unknown"] = bool(entry.unknown)
        out.write(before + json.dumps(values))
        before = ",\n"
    out.write("\n]}\n")


EXPORTS: Mapping[str, Callable[[LedgerReader, TextIO], None]] = {"csv": export_csv, "json": export_json}


def _columns(entry: EntryRow) -> tuple[object, ...]:
    calls, evaluations, tokens, nanousd = map(parse_amount, entry[6:10])
    shown = str(evaluations) if isinstance(evaluations, Fraction) else evaluations
    dollars = None if nanousd is None else format_usd(int(nanousd)).replace("$", "")
    return (entry.seq, iso_time(entry.at), *entry[2:6], calls, shown, tokens, nanousd, dollars, *entry[10:])
