"""`lmaas prices`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from lmaas_sdk.accounting import commercial_prices
from lmaas_sdk.cli import main

TABLE = """
[[price]]
model = "mine"
effective = 2022-01-01
source = "a letter"
input_usd_per_mtok = "0.40"
output_usd_per_mtok = "1.60"
usd_per_call = "0.001"

[[price]]
model = "mine"
effective = 2026-07-01
source = "another letter"
input_usd_per_mtok = "0.20"
output_usd_per_mtok = "0.80"
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(TABLE, encoding="utf-8")
    return str(path)


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """genai-prices is not installed."""
    commercial_prices._snapshot.cache_clear()
    commercial_prices._worked_out.cache_clear()
    monkeypatch.setitem(sys.modules, "genai_prices", None)


def test_a_model_is_shown_with_all_kinds_date_and_source(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On the day that was asked for."""
    assert main(["prices", "mine", "--table", table, "--on", "2026-03-01"]) == 0
    printed = capsys.readouterr().out
    kinds = ("input", "output", "cached", "batch input", "batch output", "call")
    assert [kind for kind in kinds if kind in printed] == list(kinds)
    assert [said in printed for said in ("$0.40", "$1.60", "$0.001", "from 2022-01-01 on; a letter")] == [True] * 4


def test_brackets_in_names_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are no markup of the terminal's."""
    path = tmp_path / "[bold].toml"
    path.write_text(TABLE.replace('"mine"', '"mine[red]"').replace("letter", "[blue] letter"), encoding="utf-8")
    assert [0, 0] == [main(["prices", *args, "--table", str(path)]) for args in ([], ["mine[red]"])]
    printed = capsys.readouterr().out
    assert [said in printed for said in ("[bold].toml", "mine[red]", "[blue] letter")] == [True] * 3


def test_a_model_as_json_is_whole_nano_dollars(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One object, with the field names of `Price`."""
    assert main(["prices", "mine", "--table", table, "--on", "2026-07-01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ("mine", 200_000_000, None, "2026-07-01") == tuple(
        told[key] for key in ("model", "input_nanousd_per_mtok", "cached_nanousd_per_mtok", "effective")
    )


def test_without_a_model_tables_and_sheets_are_listed(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One's own first; where there is more is said below."""
    assert main(["prices", "--table", table, "--on", "2022-03-01"]) == 0
    printed = capsys.readouterr().out
    assert 0 <= printed.index("mine.toml") < printed.index("gpt3-2022") < printed.index("--provider anthropic")
    assert [said in printed for said in ("davinci = text-davinci-001", "$60.00", "$0.40", "2022-01-01")] == [True] * 4


def test_a_sheet_that_has_ended_is_listed_with_its_last_day(capsys: pytest.CaptureFixture[str]) -> None:
    """Not as an empty table: what the prices were is what a sheet of 2022 is for."""
    assert main(["prices", "--on", "2026-01-01"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"davinci.*60\.00.*2022-01-\d\d.*2022-08-31", shown)
    assert main(["prices", "--on", "2021-01-01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sources"]["gpt3-2022"] == []


def test_the_list_as_json_has_the_sources(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its models."""
    assert main(["prices", "--table", table, "--on", "2022-08-31", "--json"]) == 0
    sources = json.loads(capsys.readouterr().out)["sources"]
    assert {table: ["mine"], "gpt3-2022": ["ada", "babbage", "curie", "davinci"]} == {
        name: [entry["model"] for entry in entries] for name, entries in sources.items()
    }


def test_a_provider_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Its models alone, from the package's data; with a model, its price."""
    assert main(["prices", "--provider", "openai", "--on", "2026-10-20", "--json"]) == 0
    (entries,) = json.loads(capsys.readouterr().out)["sources"].values()
    assert "openai/gpt-4o" in {entry["model"] for entry in entries}
    assert main(["prices", "gpt-4o", "--provider", "openai", "--json"]) == 0
    assert "openai/gpt-4o" in json.loads(capsys.readouterr().out)["source"]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["davinchi"], "near it: davinci"),
        (["davinci", "--on", "2021-01-01"], "from 2022-01-01 on, none on 2021-01-01"),
        (["davinci", "--on", "2022-09-01"], "until 2022-08-31, none on 2022-09-01"),
        (["--table", "absent.toml"], "absent.toml"),
        (["--provider", "nobody"], "the providers are"),
    ],
)
def test_what_has_no_price_ends_with_a_hint(args: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and nothing on stdout."""
    assert main(["prices", *args]) == 2
    printed = capsys.readouterr()
    assert ("", True) == (printed.out, why in printed.err)


def test_a_date_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """As any argument that cannot be read."""
    with pytest.raises(SystemExit, match="2"):
        main(["prices", "--on", "31.1.2026"])
    assert "a date is written as 2026-01-31, not '31.1.2026'" in capsys.readouterr().err


@pytest.mark.usefixtures("_bare")
def test_without_the_package_the_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the list; as a hint for an unknown model; and as what is missing where it was asked for."""
    extra = "pip install 'lmaas-sdk[prices]'"
    assert [0, 2, 4] == [main(["prices", *args]) for args in ([], ["gpt-4o"], ["--provider", "openai"])]
    printed = capsys.readouterr()
    assert (1, 2) == (printed.out.count(extra), printed.err.count(extra))
