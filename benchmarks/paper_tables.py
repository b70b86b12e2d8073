"""The README's tables of methods and tasks, from the results file of `lmaas bench`.

    python -m benchmarks.paper_tables            # prints them
    python -m benchmarks.paper_tables --write    # puts them into the README

benchmarks/results/tables/README.md has the commands that fill the results file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

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


def main() -> None:
    """Prints or writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if not parser.parse_args().write:
        print(tables())
        return
    readme = README.read_text("utf-8")
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        parser.error(f"{README} has no place for them: put {BEGIN.strip()} and {END.strip()} there, once each")
    before, _, rest = readme.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
