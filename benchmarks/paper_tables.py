"""The README's tables of methods and tasks, from the results file of `lmaas bench`.

    python -m benchmarks.paper_tables            # prints them
    python -m benchmarks.paper_tables --write    # puts them into the README
    python -m benchmarks.paper_tables --hours    # prints how long that took

benchmarks/results/tables/README.md has the commands that fill the results file.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lmaas_sdk.bench import BenchReport, read_results

_ROOT = Path(__file__).resolve().parent.parent
RESULTS = _ROOT / "benchmarks" / "results" / "tables" / "bench.jsonl"
README = _ROOT / "README.md"
BEGIN, END = "<!-- python -m benchmarks.paper_tables --write -->\n", "<!-- end of the tables -->\n"


def tables() -> str:
    """What stands in the README."""
    return BenchReport.of(read_results(RESULTS), with_paper=True).markdown()


def written(readme: str) -> str:
    """The part of a README that is between the two marks."""
    return readme.partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def hours(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Hours of each configuration's cells, and hours by the clock in which any was under way.

    Cells known from another are left out, and so are deployment's rows. A cell that several slices went on with has
    the seconds of all from the first one's beginning, so the clock's hours are near, not exact.
    """
    begun = [one for one in records if "wall_s" in one and "known_from" not in one and one["status"] == "done"]
    by_configuration = Counter[str]()
    for one in begun:
        by_configuration[one["configuration"]] += one["wall_s"]
    until, clock_s = 0.0, 0.0
    for one in sorted(begun, key=lambda one: str(one["began_at"])):
        began = datetime.fromisoformat(one["began_at"]).timestamp()
        ended = began + one["wall_s"]
        clock_s += max(0.0, ended - max(began, until))
        until = max(until, ended)
    rows = [*by_configuration.most_common(), ("all cells", by_configuration.total()), ("by the clock", clock_s)]
    return [f"{name:20} {seconds / 3600:5.2f} h" for name, seconds in rows]


def main() -> None:
    """Prints or writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--hours", action="store_true")
    asked = parser.parse_args()
    if not asked.write:
        print("\n".join(hours(read_results(RESULTS))) if asked.hours else tables())
        return
    readme = README.read_text("utf-8")
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        parser.error(f"{README} has no place for them: put {BEGIN.strip()} and {END.strip()} there, once each")
    before, _, rest = readme.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
