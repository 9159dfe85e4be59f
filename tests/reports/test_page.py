"""What a page holds: the numbers of `predict`, everything it needs, and nothing that runs but its own script."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import qidbayes as qb
from qidbayes.reports.sections import backtest_section, posterior_section
from qidbayes.reports.sliders import payload


class Page(HTMLParser):
    """The parts of a page that tests ask for."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.tables: list[pl.DataFrame] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        csv = dict(attrs).get("data-csv")
        if csv:
            self.tables.append(pl.read_csv(io.StringIO(csv), infer_schema_length=None))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)
        self.text += data


@pytest.fixture(scope="module")
def few(unified: qb.Fit) -> qb.Fit:
    """A hundred draws answer as four thousand do, and faster."""
    return unified.thinned(100)


@pytest.fixture(scope="module")
def few_per_bit(per_bit: qb.Fit) -> qb.Fit:
    return per_bit.thinned(100)


@pytest.fixture(scope="module")
def page(few: qb.Fit, few_per_bit: qb.Fit, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    qb.report([few, few_per_bit], path)
    return path, Page(path.read_text())


@pytest.mark.parametrize("which", ["few", "few_per_bit"])
@pytest.mark.parametrize("ci_prob", [0.9, 0.5])
def test_every_number_of_the_sliders_is_predicts(which: str, ci_prob: float, request: pytest.FixtureRequest) -> None:
    fit: qb.Fit = request.getfixturevalue(which)
    data = payload(fit, ci_prob, {})
    places = [range(len(axis["values"])) for axis in data["axes"]]
    size = int(np.prod([len(p) for p in places]))
    assert all(len(values) == size for values in data["quantiles"].values())
    rng = np.random.default_rng(0)
    at = [[int(rng.choice(p)) for p in places] for _ in range(60)] + [[axis["start"] for axis in data["axes"]]]
    asked = pl.DataFrame(
        [{axis["name"]: axis["values"][i] for axis, i in zip(data["axes"], one, strict=True)} for one in at]
    )
    band, inner = fit.predict(asked, ci_prob=ci_prob), fit.predict(asked, ci_prob=0.5)
    index = np.ravel_multi_index(np.array(at).T, [len(p) for p in places])
    for name, frame in (("median", band), ("lower", band), ("upper", band), ("inner_lower", inner)):
        expected = [float(f"{x:.4g}") for x in frame[name.removeprefix("inner_")]]
        assert [data["quantiles"][name][i] for i in index] == expected


def test_sliders_reach_from_the_data_to_100t(few: qb.Fit) -> None:
    axes = {axis["name"]: axis for axis in payload(few, 0.9, {})["axes"]}
    assert axes["tokens"]["values"][-1] == 100e12
    assert {1e9, 7e9, 70e9} <= set(axes["n_params"]["values"])
    assert axes["bits"]["values"] == [2, 3, 4]
    assert axes["tokens"]["texts"][-1] == "100T"


def test_measured_points_are_the_tables(few: qb.Fit) -> None:
    rows = payload(few, 0.9, {})["measured"]
    expected = few.data.select("n_params", "tokens", "bits", pl.col("qid").round_sig_figs(4)).rows()
    assert [tuple(row) for row in rows] == expected


def test_a_page_needs_nothing_but_itself(page: tuple[Path, Page]) -> None:
    path, found = page
    assert path.stat().st_size < 2_000_000
    for tag, attributes in found.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form"), tag
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:,")), (tag, value)
    policies = [a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")
    assert not re.search(r"@import|url\((?!#)", path.read_text())
    assert len([s for s in found.scripts if not s.startswith("{")]) == 1


def test_ids_of_figures_do_not_clash(page: tuple[Path, Page]) -> None:
    path, found = page
    ids = [attributes["id"] for _, attributes in found.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(#|xlink:href="#)([^)"]+)', path.read_text()))
    assert used
    assert used <= set(ids)


def test_tables_hold_every_digit_of_the_answers(page: tuple[Path, Page], few: qb.Fit) -> None:
    tables = page[1].tables
    posterior = next(t for t in tables if "r_hat" in t.columns)
    summary = few.summary()
    assert posterior["name"].to_list() == summary["name"].to_list()
    np.testing.assert_array_equal(posterior["upper"].to_numpy(), summary["upper"].to_numpy())
    reached = next(t for t in tables if "never" in t.columns)
    asked = {"n_params": [1e9, 7e9, 70e9, 405e9], "bits": [2, 3, 4]}
    expected = few.tokens_to_threshold([0.1, 0.2, 0.5], **asked)
    np.testing.assert_array_equal(reached["tokens"].to_numpy(), expected["tokens"].to_numpy())
    far = next(t for t in tables if "worse_than_random" in t.columns)
    assert far.height == 3 * 3 * 3


def test_a_page_says_what_was_fitted_and_how_it_went(page: tuple[Path, Page]) -> None:
    text = page[1].text
    assert "360" in text
    assert "All checks passed" in text
    assert "how bands of this law hold outside the data has not been tried" in text
    spans = next(t for t in page[1].tables if "n_params from" in t.columns)
    assert spans.select("rows", "n_params from", "tokens to").row(0) == (360, 85056000, 205520896000)


def test_a_failed_check_is_told(few: qb.Fit) -> None:
    failed = replace(few, diagnostics=replace(few.diagnostics, divergences=7))
    text = posterior_section(failed, 0.9)
    assert "FAILED: 7 divergent transitions" in text
    assert "All checks passed" not in text


def test_the_backtest_is_counted_by_distance(few: qb.Fit) -> None:
    outside = ["tokens up to 2× above"] * 20 + ["inside"] * 40 + ["bits up to 4× above"] * 5
    pit = [0.5] * 10 + [0.999] * 10 + [0.5] * 30 + [0.96] * 10 + [0.5] * 5
    run = [i % 4 for i in range(20)] + [i % 5 for i in range(40)] + [0] * 5
    kept = {"splits": ["tokens > 100B"], "outside": outside, "pit": pit, "run": run, "checkpoint": list(range(65))}
    tested = replace(few, attributes={**few.attributes, "backtest": kept})
    (found,) = Page(backtest_section(tested)).tables
    assert found.select(pl.exclude("^±.*$")).rows() == [
        ("inside", 40, 40, 5, 0.75, 0.75, 0.75, 1.0),
        ("tokens up to 2× above", 20, 20, 4, 0.5, 0.5, 0.5, 0.5),
        ("bits up to 4× above", 5, 5, 1, None, None, None, None),
    ]
    assert found["± (90%)"].null_count() == 1


def test_names_from_outside_are_text_and_never_run(few: qb.Fit, tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    law = replace(few.law, title=hostile, source=hostile)
    data = few.data.with_columns(suite=pl.lit(hostile), source=pl.lit(hostile))
    qb.report(replace(few, law=law, data=data), tmp_path / "hostile.html")
    found = Page((tmp_path / "hostile.html").read_text())
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert len([tag for tag, _ in found.tags if tag == "script"]) == 2
    assert hostile in found.text


def test_what_the_data_do_not_tell_is_said_once(one_width: qb.Fit) -> None:
    text = posterior_section(one_width, 0.9)
    assert "gamma is not identified by these data" in text
    (row,) = Page(text).tables[0].filter(name="gamma").rows(named=True)
    assert row["median"] is None


def test_a_law_that_no_slider_can_ask_is_still_reported(
    few: qb.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qidbayes.reports.sliders._MOST_POINTS", 10)
    monkeypatch.setattr("qidbayes.reports.sections._FIGURES", {"qid": {}})
    qb.report(few, tmp_path / "report.html")
    assert "Not for this law" in Page((tmp_path / "report.html").read_text()).text


def test_refusals(few: qb.Fit, tmp_path: Path) -> None:
    with pytest.raises(qb.InputError, match=r"ends in \.html"):
        qb.report(few, tmp_path / "report.pdf")
    with pytest.raises(qb.InputError, match="at least one fit"):
        qb.report([], tmp_path / "report.html")
    with pytest.raises(qb.InputError, match="ci_prob"):
        qb.report(few, tmp_path / "report.html", ci_prob=1.0)
