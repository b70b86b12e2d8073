"""Builds the distribution and tries the wheel as a user without extras has it: `make wheel`.

Not a test of pytest's, because it installs packages from the index. The wheel is built from the sdist, so this shows
that the sdist is complete, too.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = {"lmaas_sdk", "lmaas_backends"}
WHEEL_FILES = (
    "lmaas_sdk/py.typed",
    "lmaas_backends/py.typed",
    "lmaas_sdk/reporting/report.css",
    "lmaas_sdk/reporting/report.html.jinja",
    *(f"lmaas_sdk/cli/demo_reviews/{split}.tsv" for split in ("train", "dev", "test")),
    *(
        f"lmaas_backends/roberta/tiny/{name}"
        for name in (
            "MODEL_CARD.md",
            "SHA256SUMS",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        )
    ),
)
SDIST_FILES = ("README.md", "LICENSE", "CHANGELOG.md", "ARCHITECTURE.md", "pyproject.toml", "tests/check_wheel.py")

TUNE_THE_MOCK = """
import asyncio, sys
from lmaas_sdk import Budget, Task, Tuner, load_backend

task = Task("mood", template="{text} It was <mask> .", labels=["low", "high"], words=["bad", "great"])

async def main():
    async with load_backend("mock") as backend:
        train = task.examples([("Cold tea.", "low"), ("Warm soup.", "high")])
        return await Tuner(backend, budget=Budget(evaluations=100), preset="sep-tpa").fit(train)

result = asyncio.run(main())
assert (100, "budget") == (result.evaluations, result.stopped), result
assert "torch" not in sys.modules
"""
IMPORT_ALL_BUT_TORCH = """
import importlib.metadata, sys
import lmaas_sdk, lmaas_backends

assert lmaas_sdk.__file__.startswith(sys.prefix), lmaas_sdk.__file__
for group in ("lmaas_sdk.backends", "lmaas_sdk.servers"):
    for point in importlib.metadata.entry_points(group=group):
        point.load()
"""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="lmaas-wheel-") as folder:
        built = Path(folder, "dist")
        run(sys.executable, "-m", "build", "--outdir", str(built), str(ROOT))
        (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
        check_contents(wheel, sdist)
        check_installed(wheel, Path(folder))
        print(f"{wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB) and {sdist.name}: complete, and work without extras")
    return 0


def check_contents(wheel: Path, sdist: Path) -> None:
    """The files that make both archives whole are there with the bytes of the checkout, and nothing strange is."""
    with zipfile.ZipFile(wheel) as archive:
        for name in WHEEL_FILES:
            require(archive.read(name) == in_checkout(name).read_bytes(), f"{wheel.name} has another {name}")
        top_level = {name.partition("/")[0] for name in archive.namelist()}
    strange = {name for name in top_level - TOP_LEVEL if not name.endswith(".dist-info")}
    require(not strange, f"{wheel.name} would put {sorted(strange)} beside the packages")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {*SDIST_FILES, *(str(in_checkout(name).relative_to(ROOT)) for name in WHEEL_FILES)}
    require(expected <= names, f"{sdist.name} lacks {sorted(expected - names)}")


def check_installed(wheel: Path, folder: Path) -> None:
    """In a fresh environment without extras: the command, the mock, and a clear word on what the extras are for."""
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    bin_folder = folder / "venv" / "bin"
    python, lmaas = str(bin_folder / "python"), str(bin_folder / "lmaas")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel), cwd=folder)
    for command in ([lmaas, "--help"], [lmaas, "serve", "--help"], [lmaas, "tune", "--help"]):
        require("usage: lmaas" in run(*command, cwd=folder), f"{command} prints no usage")
    for program in (IMPORT_ALL_BUT_TORCH, TUNE_THE_MOCK):
        run(python, "-W", "error", "-c", program, cwd=folder)
    for arguments in (["serve"], ["demo"]):
        told = run(lmaas, *arguments, cwd=folder, exit_code=4)
        require("pip install 'lmaas-sdk[local]'" in told, f"`lmaas {arguments[0]}` without torch says only: {told}")
        require("Traceback" not in told, f"`lmaas {arguments[0]}` without torch ends in a traceback: {told}")


def in_checkout(name: str) -> Path:
    """The checkout's file behind a file of the wheel."""
    return ROOT / ("backends" if name.startswith("lmaas_backends") else "") / name


def run(*command: str, cwd: Path = ROOT, exit_code: int = 0) -> str:
    """What a command printed, or the end of this program when it did not exit as expected."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    require(
        done.returncode == exit_code,
        f"{command} exited with {done.returncode}, not {exit_code}:\n{done.stdout[-4000:]}",
    )
    return done.stdout


def require(holds: bool, otherwise: str) -> None:
    """Ends the program with a message where something does not hold."""
    if not holds:
        sys.exit(f"the wheel is not right: {otherwise}")


if __name__ == "__main__":
    sys.exit(main())
