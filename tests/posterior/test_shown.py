"""What a prompt and a notebook show: short texts, tables of HTML, and frames whose interval is not hidden."""

import functools
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from html import escape as html_escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from faults.artifacts import fit as made_fit
from faults.artifacts import sound_fit
from made import SMOOTH, unified_fit

import qidbayes as qb
from qidbayes.errors import UnfittedWarning
from qidbayes.law import law_names

pytestmark = [
    pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning"),
    pytest.mark.filterwarnings("ignore::qidbayes.errors.AssumptionWarning"),
    pytest.mark.filterwarnings("ignore::qidbayes.errors.ExtrapolationWarning"),
]


@functools.cache
def judged(make: Callable[[], qb.Fit]) -> qb.Fit:
    """A fit whose diagnostics have been worked out from its draws."""
    with tempfile.TemporaryDirectory() as folder:
        make().save(Path(folder) / "fit.nc")
        return qb.load_fit(Path(folder) / "fit.nc")


def sound() -> qb.Fit:
    return judged(sound_fit)


def failed() -> qb.Fit:
    return judged(made_fit)


SHOWN: dict[str, Callable[[], Any]] = {
    "fit": sound,
    "failed fit": failed,
    "diagnostics": lambda: sound().diagnostics,
    "failed diagnostics": lambda: failed().diagnostics,
    "point": lambda: qb.published("per-bit"),
    **{law: lambda law=law: qb.load_law(law) for law in law_names()},  # type: ignore[misc]
}


def texts(html: str) -> list[str]:
    return [text for text in re.split(r"<[^>]*>", html) if text]


@pytest.mark.parametrize("name", SHOWN)
def test_a_repr_fits_a_screen_and_html_is_well_formed(name: str) -> None:
    shown = SHOWN[name]()
    assert len(repr(shown)) < 3 * 100 and "mappingproxy" not in repr(shown)
    html = shown._repr_html_()
    for tag in ("table", "tr", "td", "th", "p", "ul", "li", "b", "thead", "tbody"):
        assert html.count(f"<{tag}>") == html.count(f"</{tag}>"), tag
    assert not re.search(r"<(?!/?(table|tr|td|th|p|ul|li|b|thead|tbody)>)", html)


def test_a_fit_shows_its_intervals_and_what_failed() -> None:
    fit = sound()
    html = texts(fit._repr_html_())
    assert f"$${fit.law.latex()}$$" in html
    for row in fit.summary().iter_rows(named=True):
        at = html.index(row["name"])
        assert html[at + 1 : at + 4] == [f"{row[end]:.4g}" for end in ("median", "lower", "upper")]
    problems = failed().diagnostics.problems()
    assert problems and f"{len(problems)} checks failed" in repr(failed().diagnostics)
    assert {f"FAILED: {html_escape(problem)}" for problem in problems} <= set(texts(failed()._repr_html_()))


def test_diagnostics_show_the_worst_of_each() -> None:
    found = sound().diagnostics
    cells = texts(found._repr_html_())
    worst = max(c.r_hat for c in found.convergence.values())
    assert cells[cells.index("R-hat") + 2] == f"{worst:.4f}"
    assert cells[cells.index("ESS, tail") + 2] == f"{min(c.ess_tail for c in found.convergence.values()):.0f}"
    stuck = replace(found, convergence={**found.convergence, "beta": qb_convergence(float("nan"))})
    assert "R-hat at most nan" in repr(stuck) and "1 check" in repr(stuck)
    assert repr(replace(found, convergence={}, bfmi=())).startswith("<Diagnostics of 0 numbers")


def qb_convergence(r_hat: float) -> Any:
    from qidbayes.posterior.diagnostics import Convergence

    return Convergence(r_hat, 1000.0, 1000.0)


def test_a_law_shows_its_equation_priors_and_points() -> None:
    law = qb.load_law("unified")
    html = texts(law._repr_html_())
    assert f"$${law.latex()}$$" in html and law._repr_latex_() in html
    assert html[html.index("gamma") + 1].replace("&#x27;", "'") == repr(law.priors["gamma"])
    assert any(text.startswith("published eq8: k = 0.017, beta = 0.5251") for text in html)
    assert texts(qb.load_law("joint")._repr_html_()).count("parameter") == 2  # its own, and the 16-bit law's


def test_what_stands_in_a_file_of_somebody_else_is_text() -> None:
    fit = made_fit()
    hostile = replace(fit, law=replace(fit.law, title="<script>alert(1)</script>", source="<b>"))
    assert "<script" not in hostile._repr_html_() + hostile.law._repr_html_()


@pytest.mark.parametrize("wide", ["summary", "project", "predict", "tokens"])
def test_a_plain_print_shows_the_interval(wide: str) -> None:
    fit = sound()
    frame, wanted = {
        "summary": (fit.summary(published="eq8"), ["name", "median", "lower", "upper"]),
        "project": (fit.project(n_params=7e9, bits=[2, 4]), ["n_params", "tokens", "bits", "median", "lower", "upper"]),
        "predict": (fit.predict(n_params=7e9, tokens=1e12, bits=4), ["bits", "median", "lower", "upper"]),
        "tokens": (fit.tokens_to_threshold(0.2, n_params=7e9, bits=4), ["bits", "tokens", "lower", "upper"]),
    }[wide]
    with pl.Config(set_tbl_cols=8, set_tbl_width_chars=100):  # as they are by default
        head = [cell.strip() for cell in str(frame).splitlines()[2].split("┆")]
    assert set(wanted) <= {name.strip("│ ") for name in head}


def test_no_column_says_nothing() -> None:
    fit = sound()
    assert "group" not in fit.summary().columns and "group" not in fit.interval("beta").columns
    assert "not_fitted" not in fit.project(n_params=7e9, bits=4).columns
    rows = qb.load_table("pythia").filter(pl.col("n_params") < 4e8, pl.col("tokens") > 1e11)
    constants = {"k_ref": np.exp([-3.0, -2.9, -3.1, -3.05]), "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
    smooth = unified_fit(constants, SMOOTH, pl.concat([rows, rows.with_columns(suite=pl.lit("mine"))]))
    with pytest.warns(UnfittedWarning):
        told = smooth.project(n_params=7e9, bits=4, suite="another")
    assert "suite" in told["not_fitted"].item()


def test_groups_are_told_where_there_are_some(per_bit: qb.Fit) -> None:
    assert per_bit.summary().filter(name="alpha")["group"].to_list() == ["2", "3", "4"]
    assert per_bit.interval("alpha")["group"].to_list() == ["2", "3", "4"]
    assert {"2", "3", "4"} <= set(texts(per_bit._repr_html_()))
