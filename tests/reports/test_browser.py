"""A page in headless Chromium: no error, no request, sliders that move the band, a phone's width.

Skipped where there is no Chromium or no playwright; `make check-report` runs it.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import qidbayes as qb

playwright = pytest.importorskip(
    "playwright.sync_api", reason="NOT TESTED IN A BROWSER: playwright is not installed; `make check-report` does it"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT TESTED IN A BROWSER: no Chromium on the PATH; install one"
)
WIDTHS = {"desk": 1100, "phone": 390}


@pytest.fixture(scope="module")
def file(unified: qb.Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    qb.report(unified, path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # Containers and CI machines seldom let Chromium make its sandbox; the page is ours.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=list(WIDTHS))
def page(request: pytest.FixtureRequest, browser: Any, file: Path) -> Iterator[Any]:
    """The page, opened from the disk; whatever it says on the console or asks for is a failure."""
    opened = browser.new_page(viewport={"width": WIDTHS[request.param], "height": 844})
    said: list[str] = []
    opened.on("console", lambda message: said.append(f"console: {message.text}"))
    opened.on("pageerror", lambda error: said.append(f"error: {error}"))
    opened.on("request", lambda sent: said.append(f"request: {sent.url}"))
    opened.goto(file.as_uri())
    yield opened
    assert said == [f"request: {file.as_uri()}"]
    opened.close()


def shown(page: Any) -> list[float]:
    return [float(page.locator(f".{name}-shown").inner_text()) for name in ("median", "lower", "upper")]


def slide(page: Any, name: str, place: int) -> None:
    """Move a slider as a keyboard does, step by step."""
    slider = page.locator(f"input[name={name}]")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(place):
        page.keyboard.press("ArrowRight")


def test_numbers_shown_are_predicts_wherever_the_sliders_stand(page: Any, unified: qb.Fit) -> None:
    axes = json.loads(page.locator(".what-if script").text_content())["axes"]
    before = shown(page)
    for places in ((3, 8, 0), (12, 20, 2), (22, 30, 1)):
        for axis, place in zip(axes, places, strict=True):
            slide(page, axis["name"], place)
        asked = {axis["name"]: axis["values"][place] for axis, place in zip(axes, places, strict=True)}
        band = unified.predict(pl.DataFrame([asked])).select("median", "lower", "upper").row(0)
        assert shown(page) == [float(f"{x:.4g}") for x in band]
        assert shown(page) != before
        for axis, place in zip(axes, places, strict=True):
            assert page.locator(f"label:has(input[name={axis['name']}]) b").inner_text() == axis["texts"][place]


def test_a_slider_moves_the_band(page: Any) -> None:
    def points(name: str) -> str:
        return str(page.locator(f".chart .{name}").get_attribute("points"))

    before, answer = {name: points(name) for name in ("outer", "inner", "median")}, shown(page)
    slide(page, "n_params", 2)
    assert all(points(name) != before[name] for name in before)
    assert shown(page)[0] > answer[0]  # a smaller model loses more
    here = page.locator(".chart .here").get_attribute("x1")
    slide(page, "tokens", 0)
    assert float(page.locator(".chart .here").get_attribute("x1")) < float(here)
    assert "outside the data" in page.locator(".what-if").inner_text()


def test_it_reads_on_the_screen(page: Any) -> None:
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= page.viewport_size["width"]  # no sideways scrolling of the page; tables scroll by themselves
    size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('.chart text')).fontSize)")
    scale = page.evaluate("(() => { const s = document.querySelector('.chart'); "
                          "return s.getBoundingClientRect().width / s.viewBox.baseVal.width; })()")  # fmt: skip
    assert size * scale >= 11  # letters of the chart, in pixels
    for slider in page.locator("input[type=range]").all():
        box = slider.bounding_box()
        assert box["height"] >= 24
        assert box["width"] >= 150


def test_a_table_can_be_copied(browser: Any, file: Path, unified: qb.Fit) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.goto(file.as_uri())
    button = opened.locator(".table:has(th[title='r_hat']) .copy")
    button.click()
    opened.wait_for_function("document.querySelector('.copy') && [...document.querySelectorAll('.copy')]"
                             ".some((b) => b.textContent === 'Copied')")  # fmt: skip
    found = pl.read_csv(opened.evaluate("navigator.clipboard.readText()").encode(), infer_schema_length=None)
    assert found["median"].to_list() == unified.summary()["median"].to_list()
    context.close()
