"""The report: its numbers are the runs', and whatever a run is called is text."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from html_pages import Element, HtmlTable, parse_page, tables_of
from run_cases import ESTIMATE, WAITS, saved, tuned

from lmaas_sdk import MissingExtra, Price, RunFileError, TuningResult, format_usd, read_run, write_report
from lmaas_sdk.cli import main
from lmaas_sdk.reporting.report_figures import dev_figure, loss_figure
from lmaas_sdk.reporting.report_page import render_page
from lmaas_sdk.reporting.report_runs import MOST_RUNS, NamedRun, read_runs
from lmaas_sdk.tuning.events import DevScored

PRICE = Price(400_000_000)
HOSTILE = "</style><script>alert(1)</script>"


def page_of(*runs: Path) -> Element:
    """The report's page."""
    return parse_page(render_page(read_runs(runs)).decode("utf-8"))


def table(page: Element, caption: str) -> HtmlTable:
    (found,) = [one for one in tables_of(page) if one.caption == caption]
    return found


async def test_the_numbers_behind_the_loss_are_the_run_s(tmp_path: Path) -> None:
    """A row a generation: evaluations, cost, seconds and losses of `result.generations`."""
    result = await tuned(price=PRICE)
    found = table(page_of(saved(result, tmp_path / "a.run.json")), "a: train loss by generation")
    assert ["generation", "evaluations", "cost", "seconds", "best loss", "median loss", "lowest loss"] == found.columns
    assert [
        [
            str(one.generation + 1),
            str(one.evaluations),
            format_usd(one.spent.nanousd),
            f"{one.elapsed_s:.1f}",
            *(f"{loss:.6g}" for loss in (one.best_loss, one.median_loss, one.lowest_loss)),
        ]
        for one in result.generations
    ] == found.rows
    assert 10 == len(found.rows)


async def test_the_numbers_behind_the_metric_are_the_run_s(tmp_path: Path) -> None:
    """A row for every candidate that was scored on dev."""
    result = await tuned(price=PRICE)
    found = table(page_of(saved(result, tmp_path / "a.run.json")), "a: every candidate scored on dev")
    looks = [one.choice for one in result.history if isinstance(one, DevScored)]
    assert [
        [str(one.generation + 1), one.kind, f"{one.dev.value:.6g}", f"{one.dev.cross_entropy:.6g}"]
        for one in looks
        if one.dev is not None
    ] == [[row[0], row[1], *row[5:]] for row in found.rows]


async def test_spend_by_purpose_adds_up(tmp_path: Path) -> None:
    """Every purpose with its own amounts, and the total of all; the parts are parts of the money."""
    result = await tuned(price=PRICE)
    found = table(page_of(saved(result, tmp_path / "a.run.json")), "a: spend by purpose")
    rows = (*sorted(result.spend.by_purpose.items()), ("total", result.spent))
    assert [
        [name, f"{paid.calls}", f"{paid.evaluations}", f"{paid.tokens:,}", format_usd(paid.nanousd)]
        for name, paid in rows
    ] == [row[:5] for row in found.rows]
    assert [f"{100 * paid.nanousd / result.spent.nanousd:.1f} %" for _, paid in rows] == [row[5] for row in found.rows]
    assert ["dev", "test", "train", "total"] == [row[0] for row in found.rows]


async def test_the_summary_is_the_result_s(tmp_path: Path) -> None:
    """Cost, evaluations, scores with their intervals, budget and end."""
    result = await tuned(price=PRICE)
    page = page_of(saved(result, tmp_path / "a.run.json"))
    facts = {pair.all("dt")[0].text: pair.all("dd")[0].text for pair in page.all("dl")[0].all("div")}
    assert result.test is not None
    assert result.test.interval is not None
    low, high = (100 * end for end in result.test.interval)
    expected = {
        "task": "things",
        "seed": "7",
        "evaluations": "80",
        "calls": str(result.spent.calls),
        "tokens": f"{result.spent.tokens:,}",
        "cost": format_usd(result.spent.nanousd),
        "budget": "80 evaluations, $1.00",
        "tuned prompt, on the test set": f"{100 * result.test.value:.1f} % ({low:.1f} .. {high:.1f})",
        "lowest train loss": f"{result.generations[-1].lowest_loss:.4f}",
        "ended by": "budget",
    }
    assert expected == {name: facts[name] for name in expected}


async def test_waits_and_estimate_are_told(tmp_path: Path) -> None:
    """The longest wait first; an estimate that did not hold says on which side."""
    path = saved(await tuned(16), tmp_path / "a.run.json", waits=WAITS, estimate=ESTIMATE, wall_s=180.0)
    page = page_of(path)
    assert [
        ["the client's own quota", "2 min 11 s", "73.0 %"],
        ["the provider refused (429)", "3.6 s", "2.0 %"],
    ] == table(page, "a: waits by cause").rows
    assert [
        ["calls", "6", "7", "8", "7", "yes", ""],
        ["attempts", "6", "7", "9", "not known", "not known", ""],
        ["tokens", "100", "120", "130", "140", "no, above", ""],
        ["cost", "$0.0512", "$0.0512", "$0.0512", "$0.0512", "yes", ""],
        ["time", "not estimated", "", "", "", "", ""],
    ] == table(page, "a: estimate (90 %) against actual").rows


async def test_what_was_not_waited_for_takes_no_room(tmp_path: Path) -> None:
    """One run says so in a line; of several, those that have not waited are named."""
    waits = dict.fromkeys(WAITS, 0.0)
    paths = [saved(await tuned(16), tmp_path / f"{name}.run.json", waits=waits) for name in "ab"]
    paths.append(saved(await tuned(16), tmp_path / "c.run.json", waits=WAITS))
    assert "Nothing was waited for." in page_of(paths[0]).text
    assert "the backend was away" not in page_of(paths[0]).text
    several = page_of(*paths)
    assert "Nothing was waited for: a, b." in several.text
    assert 2 == len(table(several, "c: waits by cause").rows)


async def test_a_run_of_one_generation_is_a_point_that_can_be_seen(tmp_path: Path) -> None:
    """A line through one point would not be drawn."""
    page = render_page(read_runs([saved(await tuned(8), tmp_path / "a.run.json")])).decode()
    assert 1 == len(read_run(tmp_path / "a.run.json").generations)
    losses = page.split("Train loss over evaluations</figcaption>")[1].split("</svg>")[0]
    assert 3 == losses.count("<circle")


async def test_a_run_that_tells_neither_says_so(tmp_path: Path) -> None:
    """Nothing is made up for a file without waits and estimate."""
    text = page_of(saved(await tuned(16), tmp_path / "a.run.json", waits=None, estimate=None)).text
    assert "How long was waited, and for what, was not recorded." in text
    assert "The run was not estimated before it began" in text


def path_ends(curve: str) -> tuple[float, float]:
    """The x of a path's first and last point."""
    points = re.findall(r"[ML](\S+) \S+?(?=L|$)", curve)
    return float(points[0]), float(points[-1])


async def test_the_curves_are_where_their_numbers_are(tmp_path: Path) -> None:
    """Three pictures of the loss, one point a generation, the last at the right edge; lower losses stand lower."""
    result = await tuned(price=PRICE)
    pictures = [one for one in page_of(saved(result, tmp_path / "a.run.json")).all("svg") if "role" in one.attributes]
    assert 6 == len(pictures)
    for picture in pictures[:3]:
        median, lowest, best = (one.attributes["d"] for one in picture.all("path"))
        assert [10, 10, 10] == [curve.count("L") + 1 for curve in (median, lowest, best)]
        assert 338.0 == path_ends(lowest)[1]
        heights = [float(y) for y in re.findall(r"[ML]\S+? (\d+\.?\d*)", lowest)]
        assert heights == sorted(heights)
        assert 10 <= min(heights) < max(heights) <= 184
    first, last = result.generations[0], result.generations[-1]
    assert pictures[0].attributes["aria-label"].startswith("Train loss over evaluations. median of a generation: ")
    said = f"lowest so far: {first.lowest_loss:.4g} at 8, {last.lowest_loss:.4g} at 80 evaluations"
    assert said in pictures[0].attributes["aria-label"]


async def test_a_free_model_is_shown_over_tokens(tmp_path: Path) -> None:
    """Where nothing costs money, tokens are in its place, in pictures and in numbers."""
    path = saved(await tuned(), tmp_path / "a.run.json")
    page, run = page_of(path), read_run(path)
    assert ["evaluations", "tokens", "time"] == [panel.over for panel in loss_figure([NamedRun("a", run)]).panels]
    assert f"{run.generations[-1].spent.tokens:,}" == table(page, "a: train loss by generation").rows[-1][2]


async def test_several_runs_are_compared(tmp_path: Path) -> None:
    """A column each, a curve each over each thing, tables each; one without a metric is named as such."""
    journal = tmp_path / "b.journal"
    first, _ = await tuned(price=PRICE), await tuned(40, price=PRICE, journal=journal)
    path = saved(first, tmp_path / "a.run.json")
    page = page_of(path, journal)
    summary = table(page, "What the runs were, found and cost")
    assert ["run", "a", "b"] == summary.columns
    assert ["evaluations", "80", "40"] == next(row for row in summary.rows if row[0] == "evaluations")
    assert [2, 2, 2, 1, 1, 1] == [len(one.all("path")) for one in page.all("figure")]
    assert "Without such a curve: b." in page.text
    named = [NamedRun("a", read_run(path)), NamedRun("b", read_run(journal))]
    (a, b) = loss_figure(named).panels[1].curves
    assert [one.lowest_loss for one in named[1].run.generations] == list(b.y)
    assert a.look != b.look
    assert ["a"] == [curve.label for curve in dev_figure(named).panels[0].curves]


async def test_every_run_of_a_report_looks_different(tmp_path: Path) -> None:
    """As many as a report may have, each with another colour or kind of line."""
    run = read_run(saved(await tuned(16), tmp_path / "a.run.json"))
    curves = loss_figure([NamedRun(str(n), run) for n in range(MOST_RUNS)]).panels[0].curves
    assert MOST_RUNS == len({(curve.look.colour, curve.look.dash) for curve in curves})


async def test_names_are_text(tmp_path: Path) -> None:
    """A run, task, model, purpose or warning with markup in it is shown letter by letter; none of it is markup."""
    folder = tmp_path / "x"
    folder.mkdir()
    path = folder / f"{HOSTILE.replace('/', '_')} $x$.run.json"
    result = await tuned(price=PRICE)
    spend = result.spend.to_dict()
    spend[HOSTILE] = spend.pop("dev")
    more = {"task": HOSTILE, "model": f"{HOSTILE}\0\ud800", "metric": HOSTILE, "warnings": [HOSTILE], "spend": spend}
    saved(result, path, **more, waits={HOSTILE: 1.0}, versions={HOSTILE: HOSTILE}, stopped=HOSTILE)
    written = write_report([path, saved(result, folder / "_b.run.json")], folder / "report")
    page = parse_page(written.page.read_text("utf-8"))
    assert [] == page.all("script")
    assert 1 == len(page.all("style"))
    assert page.text.count(HOSTILE) >= 6
    assert f"{HOSTILE}\ufffd\ufffd" in page.text
    assert 2 == len(written.pictures)


async def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """No script, no link, no picture from elsewhere; its policy allows no more than its own style sheet."""
    page = page_of(saved(await tuned(price=PRICE), tmp_path / "a.run.json"))
    assert [] == [one.tag for tag in ("script", "link", "img", "iframe", "object", "a") for one in page.all(tag)]
    assert "url(" not in page.all("style")[0].text
    (policy,) = [
        one.attributes["content"]
        for one in page.all("meta")
        if one.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    style = "".join(child for child in page.all("style")[0].children if isinstance(child, str))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" == policy
    assert [] == [
        one for tag in ("td", "rect", "path", "svg", "div") for one in page.all(tag) if "style" in one.attributes
    ]


async def test_the_page_is_well_formed(tmp_path: Path) -> None:
    """A language, a title, one h1 before all h2, a heading for each section, a header for each row and column."""
    page = page_of(saved(await tuned(price=PRICE), tmp_path / "a.run.json", waits=WAITS, estimate=ESTIMATE))
    assert "en" == page.all("html")[0].attributes["lang"]
    assert "Report of the run a" == page.all("title")[0].text == page.all("h1")[0].text
    sections = page.all("section")
    assert [one.attributes["aria-labelledby"] for one in sections] == [
        one.all("h2")[0].attributes["id"] for one in sections
    ]
    assert len(page.all("tr")) == sum(
        {"col", "row"} >= {cell.attributes.get("scope") for cell in row.all("th")} and bool(row.all("th"))
        for row in page.all("tr")
    )
    ids = [one.attributes["id"] for one in page.all("h2")]
    assert len(set(ids)) == len(ids)


def test_the_same_runs_make_the_same_bytes(tmp_path: Path) -> None:
    """Page and pictures, also in another process with another hash seed."""
    path = saved(asyncio.run(tuned(price=PRICE)), tmp_path / "a.run.json", waits=WAITS, estimate=ESTIMATE)
    first = write_report([path], tmp_path / "here")
    program = f"import lmaas_sdk; lmaas_sdk.write_report([{str(path)!r}], {str(tmp_path / 'there')!r})"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONHASHSEED": "5"} | _environment())
    for one in (first.page, *first.pictures):
        assert one.read_bytes() == (tmp_path / "there" / one.name).read_bytes()


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path), "PATH": ""}


async def test_the_pictures_are_drawn(tmp_path: Path) -> None:
    """Two PNGs of three panels, wider than high, not blank; one where nothing was scored on dev."""
    from matplotlib.image import imread

    journal = tmp_path / "b.journal"
    path = saved(await tuned(price=PRICE, journal=journal), tmp_path / "a.run.json")
    written = write_report([path], tmp_path / "r")
    assert ["report-train-loss.png", "report-dev-metric.png"] == [one.name for one in written.pictures]
    for picture in written.pictures:
        pixels = imread(picture)
        assert 2.8 < pixels.shape[1] / pixels.shape[0] < 3.6
        assert pixels[..., :3].std() > 0.05
    assert ["report-train-loss.png"] == [one.name for one in write_report([journal], tmp_path / "s").pictures]


async def test_a_run_without_a_generation_has_a_page(tmp_path: Path) -> None:
    """A journal of a run that was killed before its first generation was told."""
    await tuned(16, journal=tmp_path / "a.journal")
    lines = (tmp_path / "a.journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "begun.journal").write_bytes(lines[0])
    written = write_report([tmp_path / "begun.journal"], tmp_path / "r")
    assert "No generation was finished." in parse_page(written.page.read_text("utf-8")).text
    assert () == written.pictures


async def test_the_command_writes_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paths, a line each, or one JSON object."""
    result: TuningResult = await tuned(16, price=PRICE)
    path = saved(result, tmp_path / "a.run.json")
    assert 0 == run_command(str(path), "--out", str(tmp_path / "r"))
    assert [str(tmp_path / "r" / name) for name in NAMES] == capsys.readouterr().out.splitlines()
    assert 0 == run_command(str(path), "--out", str(tmp_path / "r"), "--json")
    told = json.loads(capsys.readouterr().out)
    assert [str(tmp_path / "r" / name) for name in NAMES] == [told["page"], *told["pictures"]]
    assert [("a", "run file", result.spend.to_dict()["train"])] == [
        (one["name"], one["read_from"], one["spend"]["train"]) for one in told["runs"]
    ]


NAMES = ("report.html", "report-train-loss.png", "report-dev-metric.png")


def run_command(*more: str) -> int:
    """The command in a thread of its own: it is no part of a program that runs a loop."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(main, ["report", *more]).result()


def test_mistakes_end_with_a_message_and_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no run, one that is missing, one given twice, too many: nothing is written."""
    (tmp_path / "other.json").write_text("{}")
    for runs, said in (
        ([tmp_path / "other.json"], "no run file"),
        ([tmp_path / "none.run.json"], "cannot read the run"),
        ([tmp_path / "a", tmp_path / "b" / ".." / "a"], "given twice"),
        ([tmp_path / str(n) for n in range(MOST_RUNS + 1)], f"1 to {MOST_RUNS} runs, not {MOST_RUNS + 1}"),
    ):
        assert 2 == main(["report", *map(str, runs), "--out", str(tmp_path / "r")])
        assert said in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str) -> None:
    """It is left as it is, and so is one above the folder that was named."""
    there = tmp_path / "notes.txt"
    there.write_text("mine")
    assert 2 == main(["report", str(tmp_path / "a.run.json"), "--out", str(there / below)])
    assert f"--out is a folder, and {there} is a file: name another" in capsys.readouterr().err
    assert "mine" == there.read_text()


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib.figure"])
def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """The message says which extra to install, before anything is read."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=r"lmaas-sdk\[report\]"):
        write_report([tmp_path / "none.run.json"], tmp_path)


def test_the_extra_comes_before_the_file(tmp_path: Path) -> None:
    """With the extra it is the file that is missing."""
    with pytest.raises(RunFileError):
        write_report([tmp_path / "none.run.json"], tmp_path)
