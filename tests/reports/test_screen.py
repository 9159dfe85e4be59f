"""A page as Chromium shows it: printed, in the dark, on a phone, by keyboard. Skipped where there is no Chromium."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from reports.chromium import CHROMIUM, Tab, chromium

import qidbayes as qb

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED IN A BROWSER: no Chromium on the PATH")
TABLES = "[...document.querySelectorAll('.table')]"
ANSWERS = ("median", "lower", "upper")


@pytest.fixture(scope="module")
def few(unified: qb.Fit) -> qb.Fit:
    return unified.thinned(100)


@pytest.fixture(scope="module")
def file(few: qb.Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    qb.report(few, path)
    return path


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium() as opened:
        yield opened
        assert opened.said == []  # neither an error nor a word on the console


def rgb(tab: Tab, selector: str, what: str) -> list[int]:
    style = tab.value(f"getComputedStyle(document.querySelector({selector!r})).{what}")
    return [int(part) for part in re.findall(r"\d+", style)[:3]]


def luminance(colour: list[int]) -> float:
    """The relative luminance of WCAG 2."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_reader_prefers_and_can_be_read(tab: Tab, file: Path, scheme: str) -> None:
    tab.open(file, 1280, scheme=scheme)
    paper = luminance(rgb(tab, "body", "backgroundColor"))
    assert (paper < 0.02) == (scheme == "dark")
    for selector in ("body", ".note", "a", "summary", "td"):
        ink = luminance(rgb(tab, selector, "color"))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, selector  # WCAG 2 AA
    assert rgb(tab, "figure", "backgroundColor") == [255, 255, 255]  # figures are drawn on white


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_no_page_is_wider_than_its_window(tab: Tab, file: Path, width: int) -> None:
    tab.open(file, width)
    assert tab.value("document.documentElement.scrollWidth") <= width
    whole = tab.value("[...document.querySelectorAll('figure')].every((f) => f.scrollWidth <= f.clientWidth)")
    said = tab.value("getComputedStyle(document.querySelector('.narrow')).display") == "block"
    assert whole == (not said) == (width > 390)  # figures are whole, or it is said that they scroll
    scales = tab.value("[...document.querySelectorAll('figure svg')].map((s) => s.getScreenCTM().a)")
    assert 7.0 * min(scales) >= 9.9  # pixels of the smallest letters of axes, 7 points
    if width == 1280:  # so are tables, where there is room
        assert tab.value("[...document.querySelectorAll('.scroll')].every((f) => f.scrollWidth <= f.clientWidth)")


def test_a_phone_shows_median_and_interval(tab: Tab, file: Path) -> None:
    tab.open(file, 390)
    for name in ("r_hat", "never", "worse_than_random"):
        edges = tab.value(
            f"{TABLES}.filter((t) => t.querySelector('th[title={name}]')).map((t) => "
            "[...t.querySelectorAll('th[title=median], th[title=lower], th[title=upper]')]"
            ".map((th) => th.getBoundingClientRect().right))"
        )
        assert edges and all(edge <= 390 for table in edges for edge in table), (name, edges)


@pytest.mark.parametrize("width", [390, 1280])
def test_no_word_of_a_heading_is_broken(tab: Tab, file: Path, width: int) -> None:
    tab.open(file, width)
    broken = tab.value("""[...document.querySelectorAll('th')].flatMap((th) => {
        const text = th.firstChild, range = document.createRange();
        return [...text.data.matchAll(/[^\\s-]+/g)].filter((word) => {
            range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length);
            return range.getClientRects().length > 1;
        }).map((word) => word[0]);
    })""")
    assert broken == []


def test_figures_stand_before_long_tables(tab: Tab, file: Path) -> None:
    tab.open(file, 1280)
    last, first = tab.value(
        "[Math.max(...[...document.querySelectorAll('figure')].map((f) => f.getBoundingClientRect().bottom)), "
        "Math.min(...[...document.querySelectorAll('table')].map((t) => t.getBoundingClientRect().top || Infinity))]"
    )
    assert last < first
    order = tab.value("[...document.querySelectorAll('h3')].map((h) => h.textContent)")
    assert order.index("Figures") < order.index("Posterior") < order.index("Projections")


def test_contents_lead_to_each_heading(tab: Tab, file: Path) -> None:
    tab.open(file, 1280)
    links = tab.value("[...document.querySelectorAll('nav a')].map((a) => [a.textContent, a.getAttribute('href')])")
    for text, target in links:
        assert tab.value(f"document.querySelector({target!r}).textContent").startswith(text)
    headings = tab.value("[...document.querySelectorAll('h3')].map((h) => h.textContent)")
    assert [text for text, _ in links] == ["Unified QiD law", *headings]


def test_columns_have_names_for_people_and_keep_their_own_for_programs(tab: Tab, file: Path) -> None:
    tab.open(file, 1280)
    heads = tab.value("[...document.querySelectorAll('th')].map((th) => [th.title, th.textContent])")
    assert not [shown for _, shown in heads if re.search(r"[a-z]_[a-z]", shown)]
    assert {"n_params_beyond", "worse_than_random", "r_hat"} <= {name for name, _ in heads}
    assert ["r_hat", "R-hat"] in heads


def test_the_chart_says_what_its_axes_are(tab: Tab, file: Path) -> None:
    tab.open(file, 1280)
    texts = tab.value("[...document.querySelectorAll('.chart text')].map((t) => t.textContent)")
    assert {"QiD (nats/token)", "Training tokens D"} <= set(texts)
    box = tab.value("(() => { const label = document.querySelector('.y-label').getBoundingClientRect(); "
                    "const chart = document.querySelector('.chart').getBoundingClientRect(); "
                    "return [label.left - chart.left, label.height, label.width]; })()")  # fmt: skip
    assert box[0] >= 0 and box[1] > box[2]  # inside the picture, and upright


def test_keys_alone_move_sliders_open_details_and_copy(tab: Tab, file: Path, few: qb.Fit) -> None:
    tab.open(file, 1280)
    axes = json.loads(tab.value("document.querySelector('.what-if script').textContent"))["axes"]
    reached: list[str] = []
    for _ in range(60):
        tab.press("Tab", 9)
        where = "document.activeElement"
        name = tab.value(f"{where}.name || {where}.className || {where}.tagName")
        if name in ("n_params", "tokens", "bits"):
            assert tab.value(f"getComputedStyle({where}).outlineStyle") == "solid"  # the focus is seen
            for key, code in (("Home", 36), ("ArrowRight", 39)):
                tab.press(key, code)
        elif name == "SUMMARY" or (name == "copy" and "copy" not in reached):
            tab.press("Enter", 13)
        reached.append(name)
    assert {"n_params", "tokens", "bits", "SUMMARY", "copy", "A"} <= set(reached)
    assert tab.value("[...document.querySelectorAll('details')].every((d) => d.open)")
    asked = {axis["name"]: axis["values"][1] for axis in axes}
    band = few.predict(pl.DataFrame([asked])).select(*ANSWERS).row(0)
    assert [float(tab.value(f"document.querySelector('.{n}-shown').textContent")) for n in ANSWERS] == [
        float(f"{x:.4g}") for x in band
    ]


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext on the PATH")
def test_paper_has_every_column_and_what_is_folded(tab: Tab, file: Path, tmp_path: Path) -> None:
    tab.open(file, 1280)
    printed = tab.do("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
    (tmp_path / "page.pdf").write_bytes(base64.b64decode(printed["data"]))
    text = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "page.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    words = set(text.split())
    assert "Prior('LogNormal'," in words and "random_seed" in words  # what is folded on the screen
    assert "Copy" not in words
    for frame in tab.value(f"{TABLES}.map((t) => t.dataset.csv)"):
        for row in pl.read_csv(frame.encode(), infer_schema_length=None).iter_rows():
            numbers = [f"{value:.4g}" for value in row if isinstance(value, float) and 1e-3 < value < 1e3]
            missing = [n for n in numbers if not {n, f"{float(n):.3f}", f"{float(n):.0f}"} & words]
            assert not missing, (frame.splitlines()[0], missing)


def test_a_page_has_a_title_of_its_own(
    few: qb.Fit, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qidbayes.reports.sliders._MOST_POINTS", 10)
    monkeypatch.setattr("qidbayes.reports.sections._FIGURES", {"qid": {}})
    assert "<h1>Unified QiD law, fitted to pythia</h1>" in file.read_text()
    qb.report(few, tmp_path / "own.html", title="Ours & theirs")
    assert "<title>Ours &amp; theirs</title>" in (tmp_path / "own.html").read_text()
