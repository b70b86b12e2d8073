"""The run file, `STEM.run.json`: a result without its prompt, for reports, tables and other programs.

It is JSON: what `TuningResult.to_dict` says, `core` (what repeats byte for byte) and `history` (a row a generation, and
one for every candidate scored on dev). A digest over all of it tells whether it was changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmaas_sdk.canonical import canonical_json, digest
from lmaas_sdk.errors import RunFileError
from lmaas_sdk.tuning.events import DevScored, GenerationDone

if TYPE_CHECKING:
    from lmaas_sdk.tuning.result import TuningResult

__all__ = ["FORMAT", "load_fields", "record_of", "save_record"]

FORMAT = "lmaas-run/1"


def record_of(result: TuningResult) -> dict[str, Any]:
    """A result for a run file: plain values, of which those that are no finite numbers are None."""
    core = result.core
    record = {
        "format": FORMAT,
        **result.to_dict(),
        "core": {name: getattr(core, name) for name in core.__slots__},
        "history": _history(result),
    }
    plain: dict[str, Any] = _plain(record)
    return plain


def save_record(record: Mapping[str, Any], path: str | Path) -> Path:
    """Writes what `TuningResult.to_record` says to a file, with its digest, and returns its path.

    Raises:
        RunFileError: It cannot be written there.
    """
    path, content = Path(path), {name: value for name, value in record.items() if name != "digest"}
    try:
        path.write_bytes(canonical_json(content | {"digest": digest(content)}) + b"\n")
    except OSError as error:
        raise RunFileError(f"cannot write the run file {path}: {error.strerror or error}") from error
    return path


def load_fields(path: Path) -> dict[str, Any]:
    """The values of a run file, as they were written.

    Raises:
        RunFileError: It cannot be read, is none, or was changed.
    """
    try:
        return _checked(json.loads(path.read_bytes(), parse_constant=_refuse_constant))
    except OSError as error:
        raise RunFileError(f"cannot read the run file {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunFileError(f"{path} is no run file, or a damaged one: {error!s:.200}") from error


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"its format is {found!r:.80}, and this version reads {FORMAT!r}")
    if value.pop("digest", None) != digest(value):
        raise ValueError("its content does not match its digest")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def _history(result: TuningResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    evaluations: int | float = 0
    for event in result.history:
        at = {"spent": event.spent.to_dict(), "elapsed_s": event.elapsed_s}
        if isinstance(event, GenerationDone):
            evaluations = event.evaluations
            rows.append({"kind": "generation", **event.to_row(), **at})
        else:
            rows.append({"kind": "dev", **_dev_row(event), "evaluations": evaluations, **at})
    return rows


def _dev_row(event: DevScored) -> dict[str, Any]:
    row = event.choice.to_row()
    return {"candidate": row.pop("kind"), **row}


def _plain(value: Any) -> Any:
    """Tuples become lists; JSON has no word for what is not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
