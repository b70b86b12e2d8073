"""The report in a real browser: on a phone and on a desk, in the light and in the dark."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from browser import BrowserPage, browser_program, opened_page
from run_cases import ESTIMATE, WAITS, saved, tuned

from lmaas_sdk import Price
from lmaas_sdk.reporting.report_page import render_page
from lmaas_sdk.reporting.report_runs import read_runs

PHONE, DESK = 390, 1280
LOOKS = [(width, scheme) for width in (PHONE, DESK) for scheme in ("light", "dark")]
LEAST_LETTERS_PX = 11
LEAST_TEXT_CONTRAST, LEAST_CURVE_CONTRAST = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11
LONG_NAME = "a-name-without-any-break-" * 8

# Every box is as the eye has it, in pixels of the page.
BOX = "((e) => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; })"
TEXTS_OF_PICTURES = f"""
[...document.querySelectorAll('figure svg')].map((svg) => ({{
  box: {BOX}(svg),
  letters_px: svg.getScreenCTM().a * parseFloat(getComputedStyle(svg.querySelector('text')).fontSize),
  texts: [...svg.querySelectorAll('text')].map((text) => [text.textContent, {BOX}(text)]),
}}))
"""
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
OVERFLOW = "[document.documentElement.scrollWidth, window.innerWidth]"
OUTSIDE = """
[...document.querySelectorAll('body *')].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.right > window.innerWidth + 0.5 && !one.closest('.scroll') && box.width > 0;
}).map((one) => one.outerHTML.slice(0, 80))
"""
COLOURS = """
(() => {
  const style = (one) => getComputedStyle(one);
  const every = (chosen) => [...document.querySelectorAll(chosen)];
  const has_text = (one) => !one.closest('svg') && one.textContent.trim();
  return {
    page: style(document.body).backgroundColor,
    texts: every('body *').filter(has_text).map((one) => style(one).color),
    letters: every('figure text').map((one) => style(one).fill),
    curves: every('figure path').map((one) => style(one).stroke),
  };
})()
"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[BrowserPage]:
    """A tab, with nothing in it yet; it must have asked for nothing and complained of nothing when the test ends."""
    browser_program()
    async with opened_page(tmp_path / "profile") as tab:
        yield tab
        assert {tab.requests[0]} == set(tab.requests)
        assert tab.requests[0].startswith("file://")
        assert tab.requests[0].endswith("/report.html")
        assert [] == tab.complaints


def page_of(runs: list[Path], path: Path) -> Path:
    """The report of runs, without its PNGs."""
    path.write_bytes(render_page(read_runs(runs)))
    return path


@pytest.fixture
async def one_run(tmp_path: Path) -> Path:
    """The page of a run that has everything."""
    path = saved(await tuned(price=Price(400_000_000)), tmp_path / "a.run.json", waits=WAITS, estimate=ESTIMATE)
    return page_of([path], tmp_path / "report.html")


@pytest.fixture
async def several_runs(tmp_path: Path) -> Path:
    """The page of six runs with long names, one of which is a journal."""
    folder = tmp_path / "several"
    folder.mkdir()
    result = await tuned(price=Price(400_000_000), journal=folder / f"{LONG_NAME}.journal")
    paths = [
        saved(result, folder / f"{n}-{LONG_NAME}.run.json", task=LONG_NAME, warnings=[LONG_NAME]) for n in range(5)
    ]
    return page_of([*paths, folder / f"{LONG_NAME}.journal"], folder / "report.html")


async def test_nothing_is_wider_than_the_screen(page: BrowserPage, one_run: Path, several_runs: Path) -> None:
    """Neither with what is folded away nor with it unfolded; wide tables scroll in boxes of their own."""
    for path in (one_run, several_runs):
        for width in (320, PHONE, DESK):
            await page.show(path, width=width, scheme="light")
            for _ in range(2):
                scrolled, shown = await page.value(OVERFLOW)
                assert (width, width) == (max(scrolled, width), shown)
                assert [] == await page.value(OUTSIDE)
                await page.value(OPEN_ALL)
        page.requests.clear()
    await page.show(one_run, width=PHONE, scheme="light")


async def test_the_letters_of_a_picture_are_large_apart_and_inside(page: BrowserPage, one_run: Path) -> None:
    """No number beside an axis touches another one or is cut off, at any width; none is smaller than 11 pixels."""
    for width in (320, PHONE, 700, DESK):
        await page.show(one_run, width=width, scheme="light")
        pictures = await page.value(TEXTS_OF_PICTURES)
        assert 6 == len(pictures)
        for picture in pictures:
            assert picture["letters_px"] >= (LEAST_LETTERS_PX if width >= PHONE else 9)
            boxes = [box for _, box in picture["texts"]]
            assert len(boxes) >= 6
            assert [] == [box for box in boxes if not _is_inside(box, picture["box"])]
            assert [] == [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if _touch(a, b)]


async def test_the_pictures_stand_side_by_side_where_there_is_room(page: BrowserPage, one_run: Path) -> None:
    """One below the other on a phone, three in a row on a desk."""
    for width, in_a_row in ((PHONE, 1), (DESK, 3)):
        await page.show(one_run, width=width, scheme="light")
        tops = [picture["box"][1] for picture in await page.value(TEXTS_OF_PICTURES)]
        assert 6 / in_a_row == len(set(tops))


async def test_everything_can_be_told_from_the_ground(page: BrowserPage, one_run: Path) -> None:
    """Text has a contrast of 4.5 at least, curves of 3; the ground is light or dark as the reader likes it."""
    for width, scheme in LOOKS:
        await page.show(one_run, width=width, scheme=scheme)
        colours = await page.value(COLOURS)
        ground = _luminance(colours["page"])
        assert (scheme == "dark") == (ground < 0.1)
        texts, curves = {*colours["texts"], *colours["letters"]}, set(colours["curves"])
        assert len(texts) >= 3
        assert len(curves) >= 4
        assert [] == [one for one in texts if _contrast(_luminance(one), ground) < LEAST_TEXT_CONTRAST]
        assert [] == [one for one in curves if _contrast(_luminance(one), ground) < LEAST_CURVE_CONTRAST]


async def test_the_page_can_be_heard(page: BrowserPage, one_run: Path, several_runs: Path) -> None:
    """Each picture says what it shows, headings go down a step at a time, boxes that scroll have a name and a key."""
    for path in (one_run, several_runs):
        page.requests.clear()
        await page.show(path, width=PHONE, scheme="light")
        nodes = await page.accessible()
        pictures = [node["name"] for node in nodes if node["role"] in ("img", "image")]
        assert 6 == len(pictures)
        assert [] == [name for name in pictures if not re.match(r"\w.* over \w+\. .*: \S+ at \S+, ", name)]
        levels = [node["level"] for node in nodes if node["role"] == "heading"]
        assert [1] + [2] * (len(levels) - 1) == levels
        regions = [node for node in nodes if node["role"] == "region"]
        assert [] == [node for node in regions if not node["name"]]
        assert {"table", "list", "main", "DisclosureTriangle"} <= {node["role"] for node in nodes}
        assert [] == await page.value("[...document.querySelectorAll('.scroll')].filter((one) => one.tabIndex !== 0)")
    assert "en" == await page.value("document.documentElement.lang")
    assert "Report of 6 runs" == await page.value("document.title")


async def test_what_is_folded_away_is_unfolded_by_a_key(page: BrowserPage, one_run: Path) -> None:
    """Without a script: the summary takes the focus, and Enter shows the numbers behind the pictures."""
    await page.show(one_run, width=PHONE, scheme="light")
    shown = "document.querySelector('details table').checkVisibility()"
    assert not await page.value(shown)
    await page.value("document.querySelector('summary').focus()")
    for kind in ("keyDown", "keyUp"):
        key: dict[str, Any] = {"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await page.call("Input.dispatchKeyEvent", **key, text="\r" if kind == "keyDown" else "")
    assert await page.value(shown)


def _is_inside(box: list[float], outer: list[float]) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _touch(one: list[float], other: list[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    channels = [int(one) / 255 for one in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: float, other: float) -> float:
    lighter, darker = max(one, other), min(one, other)
    return (lighter + 0.05) / (darker + 0.05)
