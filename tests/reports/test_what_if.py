"""The sliders in a notebook's cell: the numbers of `predict`, and nothing from outside."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from reports.chromium import CHROMIUM, chromium

import qidbayes as qb

ANSWERS = ("median", "lower", "upper")


class Tags(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def few(unified: qb.Fit) -> qb.Fit:
    return unified.thinned(100)


def inner(cell: str) -> str:
    """Return the page inside the frame of a cell, as a browser reads it."""
    tags = Tags(cell).found
    assert [tag for tag, _ in tags] == ["div", "iframe"]
    assert tags[1][1]["sandbox"] == "allow-scripts"  # and not the notebook around it
    return tags[1][1]["srcdoc"] or ""


def payload(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json">(.*?)</script>', page)
    assert found
    data: dict[str, object] = json.loads(found[1])
    return data


def of_predict(fit: qb.Fit, data: dict, at: list[int]) -> tuple[list[float], list[float]]:
    """Return the numbers of a cell at one place of its sliders, and those of `predict`."""
    asked = {axis["name"]: axis["values"][i] for axis, i in zip(data["axes"], at, strict=True)}
    place = int(np.ravel_multi_index(at, [len(axis["values"]) for axis in data["axes"]]))
    band = fit.predict(pl.DataFrame([asked])).select(*ANSWERS).row(0)
    return [data["quantiles"][name][place] for name in ANSWERS], [float(f"{x:.4g}") for x in band]


def test_a_cell_holds_what_predict_says(few: qb.Fit) -> None:
    data = payload(inner(qb.what_if(few)._repr_html_()))
    for at in ([3, 8, 0], [12, 20, 2], [22, 30, 1]):
        shown, told = of_predict(few, data, at)
        assert shown == told


@pytest.mark.filterwarnings("ignore::qidbayes.errors.AssumptionWarning")
def test_a_cell_of_the_atlas_is_of_the_suite_and_method_that_are_held() -> None:
    atlas = qb.load_fit("atlas").thinned(200)
    held = {"suite": "pythia", "method": ["gptq", "rtn"], "n_params": "7B", "bits": 4}
    cell = qb.what_if(atlas, **held)
    data = payload(inner(cell._repr_html_()))
    sizes = {axis["name"]: len(axis["values"]) for axis in data["axes"]}
    assert sizes == {"tokens": sizes["tokens"], "suite": 1, "method": 2, "n_params": 1, "bits": 1}
    for at in ([3, 0, 0, 0, 0], [sizes["tokens"] - 1, 0, 1, 0, 0]):
        shown, told = of_predict(atlas, data, at)
        assert shown == told
    assert "Assumed: per channel, any data set." in inner(cell._repr_html_())


def test_nothing_comes_from_outside(few: qb.Fit) -> None:
    page = inner(qb.what_if(few)._repr_html_())
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\s\"']*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nobody asks for
    for tag, attributes in Tags(page).found:
        assert tag not in ("iframe", "object", "embed", "base", "form", "img"), tag
        assert "src" not in attributes and attributes.get("href", "data:,") == "data:,"
    assert "default-src 'none'" in page


def test_names_are_text_in_the_frame_and_in_its_page(few: qb.Fit) -> None:
    name = '"></iframe></script><b id=broken>&amp;'
    odd = replace(few, law=replace(few.law, title=name), data=few.data.with_columns(method=pl.lit(name)))
    page = inner(qb.what_if(odd)._repr_html_())
    assert not [tag for tag, attributes in Tags(page).found if tag == "b" or attributes.get("id") == "broken"]
    assert len(re.findall(r"</script>", page)) == 2


def test_what_a_law_does_not_take_is_refused(few: qb.Fit) -> None:
    with pytest.raises(qb.InputError, match="does not depend on 'metod'"):
        qb.what_if(few, metod="gptq")
    with pytest.raises(qb.InputError, match="ci_prob"):
        qb.what_if(few, ci_prob=90)
    with pytest.raises(qb.InputError, match="hold a value"):
        qb.what_if(few, bits=[float(bits) for bits in np.linspace(2, 4, 100)])


@pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED IN A BROWSER: no Chromium on the PATH")
def test_a_frame_is_as_high_as_its_page(few: qb.Fit, tmp_path: Path) -> None:
    cell = qb.what_if(few, bits=[3, 4])._repr_html_()
    (tmp_path / "cell.html").write_text(
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><body style="margin: 0">{cell}'
    )
    (tmp_path / "inner.html").write_text(inner(cell))
    with chromium() as tab:
        for width in (400, 640, 800, 1000, 1280):
            for scheme in ("light", "dark"):
                tab.open(tmp_path / "cell.html", width, scheme=scheme)
                height = tab.value("document.querySelector('iframe').clientHeight")
                tab.open(tmp_path / "inner.html", width, height=100, scheme=scheme)
                needed = tab.value("document.documentElement.scrollHeight")
                assert needed <= height <= needed + 250, width
                assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.said == []
