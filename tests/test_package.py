"""The package as a whole: its public face, what importing it costs, where its boundaries run, and its house rules."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import pytest

import lmaas_sdk
from lmaas_sdk.cli.demo import demo_splits

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "lmaas_sdk", ROOT / "backends" / "lmaas_backends")
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".tsv", ".csv", ".json", ".cff", ""}
OURS = ("lmaas_sdk", "backends", "tests", "examples", "benchmarks", "docs", ".ci")

PUBLIC = [
    "MASK",
    "PRESETS",
    "QUOTA_PRESETS",
    "Amounts",
    "ArrayStore",
    "AskTell",
    "AttemptTimeout",
    "AuthenticationFailed",
    "Backend",
    "BackendError",
    "BackendUnavailable",
    "Batch",
    "Budget",
    "BudgetExceeded",
    "BudgetTooSmall",
    "BudgetWarning",
    "Call",
    "Capabilities",
    "Choice",
    "CircuitOpen",
    "Client",
    "Conditions",
    "CorruptModel",
    "Dataset",
    "DeepSubspace",
    "DevScored",
    "Durability",
    "EmptyClass",
    "Estimate",
    "Evaluation",
    "Event",
    "Failures",
    "FeatureQuery",
    "FeatureReply",
    "FileCache",
    "FrozenPrompt",
    "GenerationDone",
    "GroupResult",
    "History",
    "InvalidQuery",
    "JobsSimulation",
    "JournalCorrupt",
    "JournalError",
    "JournalInUse",
    "JournalMismatch",
    "Label",
    "LabelWords",
    "Latency",
    "Ledger",
    "LedgerConflict",
    "LedgerError",
    "LedgerReader",
    "Limits",
    "Listener",
    "LmaasError",
    "MakeOptimizer",
    "MemoryCache",
    "MemoryLedger",
    "MissingExtra",
    "ModelCard",
    "ModelLoadError",
    "NoLanguageModelHead",
    "NotFinite",
    "OnPaper",
    "Optimizer",
    "Outage",
    "OutcomeUnknown",
    "PaymentRequired",
    "Piece",
    "Predictor",
    "PredictorFileError",
    "Preset",
    "Price",
    "PriceTable",
    "PriceTier",
    "PromptFileError",
    "ProtocolError",
    "QuotaExceeded",
    "Range",
    "RateLimited",
    "RecordedLandscape",
    "Registration",
    "ReplyCache",
    "Reservation",
    "Resumed",
    "RetryBudgetExhausted",
    "RetryPolicy",
    "Retryable",
    "RunEvents",
    "RunFileError",
    "RunPlanned",
    "RunRecord",
    "Scenario",
    "Scheduling",
    "ScoreQuery",
    "ScoreReply",
    "ServerFault",
    "ServerUntrusted",
    "SimulatedMoment",
    "Simulation",
    "SqliteLedger",
    "Subspace",
    "Sweep",
    "SyntheticLandscape",
    "SyntheticTexts",
    "Task",
    "TaskError",
    "Template",
    "Text",
    "TextRegistry",
    "TextSet",
    "TokenCounts",
    "TunedPrompt",
    "Tuner",
    "TunerGroup",
    "TuningJob",
    "TuningResult",
    "UnknownDataset",
    "UnknownPrice",
    "UnknownTask",
    "Unsupported",
    "Usage",
    "Verbalizer",
    "VerbalizerError",
    "Waiting",
    "count_tokens",
    "estimate",
    "few_shot",
    "find_price",
    "format_usd",
    "get_task",
    "load_backend",
    "open_cache",
    "open_ledger",
    "price_named",
    "read_dataset",
    "read_folder",
    "read_history",
    "read_price_table",
    "read_run",
    "recorded_landscape",
    "register_metric",
    "simulate",
    "simulate_async",
    "simulate_jobs",
    "state_ledger",
    "subsample",
    "sweep",
    "sweep_async",
    "verify_ledger",
    "write_report",
]
HEAVY = {
    "torch",
    "transformers",
    "matplotlib",
    "jinja2",
    "scipy",
    "aiohttp",
    "cma",
    "cmaes",
    "rich",
    "tiktoken",
    "lmaas_backends",
}
MOST_LINES, USUAL_BODY, MOST_BODY = 400, 20, 40
MACHINE_PATH = re.compile(r"(?<![\w.:/-])(?:/(?:root|home|work|Users|opt|srv|mnt)/\w|[A-Z]:\\Users)")


def test_the_public_face_is_pinned() -> None:
    """A name comes or goes on purpose."""
    assert lmaas_sdk.__all__ == PUBLIC


def test_the_public_face_is_sorted() -> None:
    """Constants, classes, functions; each by the alphabet."""
    assert sorted(lmaas_sdk.__all__, key=_kind_and_name) == lmaas_sdk.__all__


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name: str) -> None:
    """Every public class and function says what it is, in words of its own."""
    value = getattr(lmaas_sdk, name)
    if isinstance(value, Mapping):
        return  # a table; its entries are documented by their class
    is_alias = getattr(value, "__module__", "lmaas_sdk").split(".")[0] != "lmaas_sdk"
    written = (said_of_aliases().get(name) if is_alias else value.__doc__) or ""
    assert len(written) > 20
    assert not written.startswith(f"{name}(")  # what a dataclass without a docstring gets


def test_a_public_name_is_on_a_page() -> None:
    """Whoever meets it in a signature or a program finds it in the docs."""
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert [] == [name for name in PUBLIC if not re.search(rf"\b{name}\b", pages)]


def test_pages_import_from_the_public_face() -> None:
    """And from nowhere inside of it."""
    pages = (*(ROOT / "docs").glob("*.md"), ROOT / "README.md")
    assert [] == [page.name for page in pages if re.search(r"from lmaas_sdk\.planning", page.read_text("utf-8"))]


def test_whatever_a_run_tells_is_public() -> None:
    """A callback can be annotated, and can tell events apart, by names of the public face alone."""
    assert {kind.__name__ for kind in get_args(lmaas_sdk.Event)} <= set(PUBLIC)


@functools.cache
def said_of_aliases() -> dict[str, str]:
    """What the SDK's modules say below an assignment, by name: a type alias has no docstring of its own."""
    said = {}
    for path in (ROOT / "lmaas_sdk").rglob("*.py"):
        for before, after in itertools.pairwise(ast.parse(path.read_text("utf-8")).body):
            match before, after:
                case ast.Assign(targets=[ast.Name(name)]), ast.Expr(ast.Constant(str(text))):
                    said[name] = text
    return said


def test_importing_is_light() -> None:
    """`import lmaas_sdk` pulls in nothing heavy and no backend."""
    assert set() == loaded_by("import lmaas_sdk") & HEAVY


@pytest.mark.parametrize("module", ["", ".mock", ".remote", ".local", ".server_process", ".roberta.server"])
def test_torch_waits_until_something_is_computed(module: str) -> None:
    """The backends, and the server's command line, are there without torch."""
    assert set() == loaded_by(f"import lmaas_backends{module}") & {"torch", "transformers", "matplotlib", "scipy"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after a statement."""
    program = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


TRAINS = {"feature_bilstm.py", "feature_linear.py", "local_training.py"}  # on the user's side, with torch


def test_the_sdk_imports_no_backend() -> None:
    """Nothing in lmaas_sdk imports transformers or a backend, not even inside a function; torch is for what trains."""
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in MODULES
        if path.is_relative_to(ROOT / "lmaas_sdk")
        for name in imported(path)
        if name.partition(".")[0] in {"torch", "transformers", "lmaas_backends"}
        and not (name == "torch" and path.parent.name == "methods" and path.name in TRAINS)
    }
    assert set() == found


def test_torch_is_imported_in_one_place() -> None:
    """Of the backends, only modules under roberta/ import torch or transformers; of the SDK, what trains."""
    users = {path for path in MODULES for name in imported(path) if name.partition(".")[0] in {"torch", "transformers"}}
    roberta = ROOT / "backends" / "lmaas_backends" / "roberta"
    assert users  # else this test looks at nothing
    elsewhere = {path for path in users if not path.is_relative_to(roberta)}
    assert {ROOT / "lmaas_sdk" / "methods" / name for name in TRAINS} == elsewhere


def imported(path: Path) -> Iterator[str]:
    """Names of all modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_entry_points_resolve() -> None:
    """Every command, backend and server that the distribution names is there and can be called."""
    points = importlib.metadata.distribution("lmaas-sdk").entry_points
    groups = Counter(point.group for point in points)
    assert {"console_scripts": 1, "lmaas_sdk.backends": 4, "lmaas_sdk.servers": 1} == groups
    for point in points:
        found = point.load()
        assert callable(found.run if point.group == "lmaas_sdk.servers" else found)


def test_the_version_is_the_same_everywhere() -> None:
    """pyproject.toml, the installed distribution and the changelog's latest entry agree."""
    written = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert latest is not None
    assert [written, written] == [importlib.metadata.version("lmaas-sdk"), latest[1]]


def test_modules_are_small() -> None:
    """A module is about one thing."""
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {} == {name: count for name, count in lines.items() if count > MOST_LINES}


def test_functions_are_short() -> None:
    """85 of 100 functions have at most 20 lines below their docstring, and none has more than 40."""
    bodies = {f"{path.relative_to(ROOT)}: {name}": lines for path in MODULES for name, lines in function_bodies(path)}
    assert {} == {name: lines for name, lines in bodies.items() if lines > MOST_BODY}
    assert sum(lines <= USUAL_BODY for lines in bodies.values()) / len(bodies) >= 0.85


def function_bodies(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a module by name and line, with the lines of its body below the docstring."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[ast.get_docstring(node) is not None :]
            yield f"{node.name} ({node.lineno})", (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_the_tree_names_no_machine() -> None:
    """No file holds a path of the machine it was made on."""
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}" for path in our_texts() for match in MACHINE_PATH.finditer(read(path))
    }
    assert set() == found


def our_texts() -> Iterator[Path]:
    """The text files of the tree: those in the root, and those in our folders."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT_SUFFIXES)
    for folder in OURS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts:
                yield path


def read(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")  # whatever else lies about in the root


def test_demo_reviews_are_enough_and_balanced() -> None:
    """At least 32 to train on, 32 to choose by and 400 to test on, half of each kind."""
    splits = demo_splits()
    assert splits.dev is not None
    assert splits.test is not None
    counts = [split.class_counts for split in (splits.train, splits.dev, splits.test)]
    assert all(negative == positive for negative, positive in counts)
    assert all(sum(count) >= least for count, least in zip(counts, (32, 32, 400), strict=True))


def test_demo_reviews_differ() -> None:
    """No two reviews, of whatever split, share six words in a row, so none is another's copy."""
    owners: dict[tuple[str, ...], int] = {}
    shared = []
    for number, text in enumerate(demo_texts()):
        words = re.findall(r"[\w']+", text.casefold())
        sixes = {tuple(words[start : start + 6]) for start in range(len(words) - 5)} or {tuple(words)}
        shared += [" ".join(six) for six in sixes if owners.setdefault(six, number) != number]
    assert [] == shared


def demo_texts() -> list[str]:
    """The texts of all splits."""
    splits = demo_splits()
    return [example.fields[0] for split in (splits.train, splits.dev, splits.test) if split for example in split]


def test_the_bundled_card_says_what_the_model_is() -> None:
    """The model card names the sizes of the configuration beside it."""
    folder = ROOT / "backends" / "lmaas_backends" / "roberta" / "tiny"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    card = (folder / "MODEL_CARD.md").read_text("utf-8")
    assert f"{config['num_hidden_layers']} layers, hidden size {config['hidden_size']}" in card
    assert f"{config['vocab_size']:,} tokens" in card


def _kind_and_name(name: str) -> tuple[int, str]:
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name
