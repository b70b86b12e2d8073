"""Pictures of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tuning_cases import DEV, SMALL, TEST, TRAIN, mock

from lmaas_sdk import Budget, Price, Task, Tuner, TuningResult
from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.reporting.curves import draw_run


async def result(price: Price | None) -> TuningResult:
    tuner = Tuner(mock(price=price), budget=Budget(evaluations=40, usd="1.00"), preset=SMALL)
    return await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True)


@pytest.mark.parametrize("price", [None, Price(400_000_000)])
async def test_run_is_drawn_as_a_png_of_three_panels(tmp_path: Path, price: Price | None) -> None:
    """The file is a PNG, three times as wide as high, and not blank."""
    from matplotlib.image import imread

    pixels = imread(draw_run(await result(price), tmp_path / "run.png"))
    height, width = pixels.shape[:2]
    assert 2.8 < width / height < 3.5
    assert pixels[..., :3].std() > 0.05


async def test_same_result_draws_the_same_picture(tmp_path: Path) -> None:
    """Nothing of the time or the machine is in the file."""
    found = await result(None)
    first, second = (draw_run(found, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


async def test_missing_matplotlib_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which extra to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"lmaas-sdk\[plot\]"):
        draw_run(await result(None), tmp_path / "run.png")


async def test_a_name_is_no_formula(tmp_path: Path) -> None:
    """Whatever a task is called, the run that was paid for is drawn."""
    task = Task(r"x $\frac{$ _", template="{text} It was <mask> .", labels=["0", "1"], words=["bad", "great"])
    train = task.examples([("dull", "0"), ("lovely", "1")])
    found = await Tuner(mock(), budget=Budget(evaluations=16), preset=SMALL).fit(train)
    assert draw_run(found, tmp_path / "run.png").exists()
