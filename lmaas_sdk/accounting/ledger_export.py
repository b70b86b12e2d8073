"""Writes the entries of a ledger file out, one by one: as CSV, or as one JSON object."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TextIO

from lmaas_sdk.accounting.audit import iso_time
from lmaas_sdk.accounting.ledger_reader import EntryRow, LedgerReader, parse_amounts
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.errors import LedgerError

__all__ = ["EXPORTS", "EXPORT_COLUMNS", "export_csv", "export_json"]

# Those of the table; `usd` is `nanousd` in dollars, exactly.
EXPORT_COLUMNS = (
    "seq", "at", "kind", "transfer", "account", "owner", "calls", "evaluations", "tokens", "nanousd", "usd",
    "purpose", "endpoint", "key", "unknown",
)  # fmt: skip


def export_csv(reader: LedgerReader, out: TextIO) -> None:
    """A header and a line for each entry; what an entry does not have is empty, part of an evaluation is "1/3".

    Raises:
        LedgerError: An entry has no time, or an amount that is none; those before it are written.
    """
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(EXPORT_COLUMNS)
    writer.writerows(_columns(entry) for entry in reader.entries())


def export_json(reader: LedgerReader, out: TextIO) -> None:
    """An object with `entries`, one a line; what an entry does not have is null, part of an evaluation "1/3".

    Raises:
        LedgerError: An entry has no time, or an amount that is none; those before it are written.
    """
    out.write('{"entries": [')
    before = "\n"
    for entry in reader.entries():
        values = dict(zip(EXPORT_COLUMNS, _columns(entry), strict=True))
        values["unknown"] = bool(entry.unknown)
        out.write(before + json.dumps(values, default=str))  # of a damaged file, as in CSV
        before = ",\n"
    out.write("\n]}\n")


EXPORTS: Mapping[str, Callable[[LedgerReader, TextIO], None]] = {"csv": export_csv, "json": export_json}


def _columns(entry: EntryRow) -> tuple[object, ...]:
    try:
        at, (calls, evaluations, tokens, nanousd) = iso_time(entry.at), parse_amounts(entry[6:10])
    except ValueError as error:
        raise LedgerError(f"entry {entry.seq}: {error}: see `lmaas ledger verify`") from error
    shown = str(evaluations) if isinstance(evaluations, Fraction) else evaluations
    dollars = None if nanousd is None else format_usd(nanousd).replace("$", "")
    return (entry.seq, at, *entry[2:6], calls, shown, tokens, nanousd, dollars, *entry[10:])
