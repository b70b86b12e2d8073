"""`lmaas report`: what one or several runs found and cost, as a page to look at."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.cli.folders import check_folder
from lmaas_sdk.reporting.report import Report, write_report

__all__ = ["add_command"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="one page about one or several runs, with pictures",
        description="Writes report.html, one file that needs nothing else, and its curves as PNGs (needs the extra "
        "'report').",
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="the .run.json that tune or demo wrote, or a journal"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("lmaas-report"), metavar="FOLDER", help="where files go (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_folder("--out", args.out)
    written = write_report(args.runs, args.out)
    if args.json:
        print(json.dumps(_told(written), indent=2))
    else:
        for path in (written.page, *written.pictures):
            print(path)
    return DONE


def _told(written: Report) -> dict[str, object]:
    runs = [
        {
            "name": one.name,
            "read_from": one.run.kind,
            "task": one.run.task,
            "evaluations": one.run.evaluations,
            "spend": {purpose: paid.to_dict() for purpose, paid in sorted(one.run.spend.items())},
            "wall_s": one.run.wall_s,
            "stopped": one.run.stopped,
        }
        for one in written.runs
    ]
    return {"page": str(written.page), "pictures": [str(path) for path in written.pictures], "runs": runs}
