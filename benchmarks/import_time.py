"""How long `import lmaas_sdk` takes, beside `import numpy`, which it needs itself.

    python -m benchmarks.import_time

Each is imported in fresh interpreters, in turn, and the interpreter's own start is taken off; the medians are printed
with their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = {"nothing": "pass", "numpy": "import numpy", "lmaas_sdk": "import lmaas_sdk"}


def seconds(statement: str) -> float:
    """Wall time of a fresh interpreter that runs one statement."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    for statement in STATEMENTS.values():
        seconds(statement)  # the first time reads the disk and compiles
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(repeats):
        for name, statement in STATEMENTS.items():
            taken[name].append(seconds(statement))
    start = statistics.median(taken["nothing"])
    numpy, lmaas_sdk = (statistics.median(taken[name]) - start for name in ("numpy", "lmaas_sdk"))
    print(f"import numpy      {numpy:.3f} s\nimport lmaas_sdk  {lmaas_sdk:.3f} s, {lmaas_sdk / numpy:.2f} times numpy")


if __name__ == "__main__":
    main()
