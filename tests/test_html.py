"""Results in a notebook, and in a few lines."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tuning_cases import DEV, SMALL, TEST, TRAIN, examples, mock

from lmaas_sdk import (
    Budget,
    Limits,
    Price,
    RetryPolicy,
    Scenario,
    SyntheticLandscape,
    SyntheticTexts,
    Task,
    Tuner,
    TunerGroup,
    TuningJob,
    TuningResult,
    simulate,
    simulate_jobs,
    sweep,
)
from lmaas_sdk.reporting.html import html_lines, html_section, html_table
from lmaas_sdk.reporting.result_tables import accuracy_table
from lmaas_sdk.testing import Faults, run_virtual

VOID = {"br"}
NASTY = "<script>alert('1')</script> & \"co\""


class Reader(HTMLParser):
    """Checks that every element is closed, and notes what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.scopes: list[str | None] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        assert not {"src", "href", "onclick"} & named.keys()
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self.scopes.append(named.get("scope"))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def test_rows_become_a_table_with_headers() -> None:
    """Columns and rows have headers that say of what, and the caption names the table."""
    read = Reader(html_table(head=("model", "cost"), rows=[("ada", 1), ("davinci", "$20.00")], caption="prices"))
    assert [["model", "cost"], ["ada", "1"], ["davinci", "$20.00"]] == read.rows
    assert ["col", "col", "row", None, "row", None] == read.scopes
    assert "caption" in read.tags


def test_a_table_for_a_terminal_becomes_one_for_a_browser() -> None:
    """Without its markup; a row may be short."""
    table = Table(title="[bold]two[/] models", caption="as of today")
    table.add_column("model")
    table.add_column(Text("cost", style="red"), justify="right")
    table.add_row("[green]ada[/]", Text("$1.00"))
    table.add_row("b [1]")
    read = Reader(html_table(table))
    assert [["model", "cost"], ["ada", "$1.00"], ["b [1]", ""]] == read.rows
    assert read.text.startswith("two models")
    assert read.text.endswith("as of today")


def test_whatever_is_text_stays_text() -> None:
    """In cells, headers, captions, titles, names and lines."""
    table = html_table(head=(NASTY,), rows=[(NASTY,)], caption=NASTY)
    read = Reader(html_section(NASTY, table, html_lines([NASTY])))
    assert "script" not in read.tags
    assert 5 == read.text.count(NASTY)
    assert "" == html_lines([])


def result(*, name: str = "things", test: bool = True, dev: bool = True) -> TuningResult:
    task = Task(name, template="{text} It was <mask> .", labels=["negative", "positive"], words=["bad", "great"])
    train, held_out = examples(0, 16, task), examples(100, 12, task)
    backend = mock(price=Price(400_000_000), limits=Limits(requests_per_minute=4))
    tuner = Tuner(backend, budget=Budget(evaluations=40, usd="3.00"), preset=SMALL)
    return run_virtual(
        tuner.fit(train, held_out if dev else None, test=held_out if test else None, compare_manual=test)
    )


def test_a_result_as_text_says_the_essentials() -> None:
    """What was found, by what it was chosen, why it ended, what it cost and what it waited for."""
    found = result()
    lines = str(found).splitlines()
    assert "things on mock" == lines[0]
    assert found.test is not None
    assert lines[1].startswith(f"test accuracy: tuned prompt {100 * found.test.value:.1f} % (")
    assert ", manual prompt " in lines[1]
    assert lines[2].startswith("chosen by dev_metric: ")
    assert "stopped: budget, after 40 evaluations and 1 min" == lines[3]
    assert lines[4].startswith("spent 8 calls, ")
    assert lines[4].endswith(" of $3.00")
    assert "waited: quota 1 min" == lines[5]
    assert "as estimated: calls, evaluations, attempts, tokens, dollars" == lines[6]
    assert 7 == len(lines)


def test_what_an_estimate_did_not_foresee_is_said_in_a_line() -> None:
    """A run whose attempts fail makes more of them than one whose do not."""
    backend = mock(faults=Faults(plan=lambda attempt: "server_fault" if attempt.number == 0 else None))
    found = run_virtual(Tuner(backend, budget=Budget(evaluations=40), preset=SMALL).fit(TRAIN))
    (line,) = [line for line in str(found).splitlines() if "estimated" in line]
    assert line.startswith("as estimated: evaluations, tokens")
    assert line.endswith("; calls 6, estimated 5; attempts 6, estimated 5")


def test_a_result_without_dev_and_test_as_text() -> None:
    """Nothing is said of what was not asked for."""
    lines = str(result(test=False, dev=False)).splitlines()
    assert lines[1].startswith("chosen by train_loss: best of generation ")
    assert "dev" not in lines[1]


def test_a_result_in_a_notebook() -> None:
    """The same lines and the spend as a table; a name of the user's stays text."""
    found = result(name="a <b> & c")
    read = Reader(found._repr_html_())
    assert "b" not in read.tags
    assert "a <b> & c on mock" in read.text
    assert ["purpose", "calls", "evaluations", "tokens", "cost"] == read.rows[0]
    assert ["calls", "evaluations", "attempts", "tokens", "dollars", "time"] == [row[0] for row in read.rows[-6:]]
    tokens = f"{found.spent.tokens:,}"
    assert ["tokens", tokens, tokens, tokens, tokens] == read.rows[-3]
    assert all(line in read.text for line in str(found).splitlines()[1:])


async def test_a_group_in_a_notebook() -> None:
    """A row a run and the error of the one that failed, as text."""
    no_patience = RetryPolicy(first_wait_s=0, outage_s=0, patience_s=0)
    group = TunerGroup(budget=Budget(evaluations=80))
    group.add("good", mock(), TRAIN, DEV, test=TEST, preset=SMALL)
    away = mock(faults=Faults(plan=lambda attempt: "server_fault"))
    group.add("bad", away, TRAIN, preset=replace(SMALL, name="other"), retry=no_patience)
    found = await group.fit()
    read = Reader(found._repr_html_())
    assert [row[0] for row in read.rows[1:]] == re.findall(r"^│ (\w+)", str(found), re.MULTILINE)
    assert ["good", "bad", "total"] == [row[0] for row in read.rows[1:]]
    assert "bad failed: " in read.text


async def test_an_estimate_in_a_notebook() -> None:
    """A row a quantity, and its notes; a name of the user's stays text."""
    found = await Tuner(mock(name="a <b> [c]"), budget=Budget(evaluations=80), preset=SMALL).estimate(TRAIN, DEV)
    read = Reader(found._repr_html_())
    assert "a run on a <b> [c]" in read.text
    assert ["calls", "evaluations", "attempts", "tokens", "dollars", "time"] == [row[0] for row in read.rows[1:7]]
    assert all(f"note: {note}" in read.text for note in found.notes)
    assert found.table().row_count == len(read.rows) - 1


def test_simulations_in_a_notebook() -> None:
    """The tables that are printed: a row a seed, a setting, a job."""
    scenario = Scenario(
        preset="small-model",
        population=8,
        landscape=SyntheticLandscape(hidden_size=16),
        train=SyntheticTexts(8, 5),
        budget=Budget(evaluations=16),
    )
    played = Reader(simulate(scenario, seeds=[1, 2], compare=False)._repr_html_())
    assert ["seed", "1", "2", "median", "range"] == [row[0] for row in played.rows]
    swept = Reader(sweep(scenario, compare=False, candidates_a_call=[1, 8])._repr_html_())
    assert ["setting", "candidates_a_call 1", "candidates_a_call 8"] == [row[0] for row in swept.rows]
    jobs = [TuningJob(name, TRAIN, preset=SMALL) for name in ("a", "b")]
    shared = Reader(simulate_jobs(jobs, budget=Budget(evaluations=32))._repr_html_())
    assert ["jobs", "a", "b", "all"] == [row[0] for row in shared.rows]
    assert shared.tags.count("br") == 2


def test_a_name_with_brackets_is_shown_as_it_is() -> None:
    """They are no markup of a table's."""
    found = result(name="a [/b] [red]c")
    shown = io.StringIO()
    Console(file=shown, width=100).print(accuracy_table(found))
    assert "a [/b] [red]c on mock" in shown.getvalue()
    assert "a [/b] [red]c on mock" in Reader(found._repr_html_()).text


@pytest.mark.parametrize("cell", ["", "<td>", "0"])
def test_any_cell_is_kept(cell: str) -> None:
    """Empty ones too."""
    assert [["x"], [cell]] == Reader(html_table(head=("x",), rows=[(cell,)])).rows
