"""`qidbayes plot` draws every figure there is; docs/figures.md shows each, by commands that it would accept."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from qidbayes import plots
from qidbayes.cli import cli
from qidbayes.cli.plot import _FIGURES, plot
from qidbayes.errors import InputError
from qidbayes.posterior import Fit

DOCS = Path(__file__).parents[2] / "docs"
FITS = {"qid-by-tokens": "by_model", "qid-by-size": "by_size", "qid-by-bits": "by_checkpoint", "loss-16bit": "kaplan"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    for name in {*FITS.values(), "unified", "kaplan"}:
        request.getfixturevalue(name).save(tmp_path / f"{name}.nc")
    unified: Fit = request.getfixturevalue("unified")
    other = unified.data.with_columns(method=pl.lit("awq"), dataset=pl.lit("wiki"))
    replace(unified, data=other).save(tmp_path / "other.nc")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_figure_has_a_name_and_says_which_of_the_paper_it_is() -> None:
    drawn = {name.replace("_", "-") for name in plots.__all__} - {"backtest", "save"}
    assert set(_FIGURES) == drawn
    shown = CliRunner().invoke(plot, ["--help"]).output
    for name, figure in _FIGURES.items():
        number = figure.what[figure.what.index("(") + 1 : -2].split(" and")[0].rstrip("s")
        drawn = getattr(plots, name.replace("-", "_"))
        said = f"{sys.modules[drawn.__module__].__doc__} {drawn.__doc__}"
        assert number.split()[1] in said, name
        assert f"{name} " in shown


@pytest.mark.parametrize("name", list(_FIGURES))
def test_every_figure_is_drawn(name: str, folder: Path) -> None:
    figure = _FIGURES[name]
    source = "nano-drift" if figure.of_drift else f"{FITS.get(name, 'unified')}.nc"
    arguments = [name, *([source] if figure.fits else [])]
    arguments += ["-o", "made.svg", "--ci-prob", "0.5"]
    arguments += ["other.nc"] if figure.several else []
    arguments += ["--loss-16bit", "kaplan.nc"] if "loss-16bit" in figure.takes else []
    arguments += ["--published", "unified"] if "published" in figure.takes else []
    done = CliRunner().invoke(cli, ["plot", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout == "" and "drawn in made.svg" in done.stderr
    assert (folder / "made.svg").stat().st_size > 10_000
    # The fit is of 3 and 4 bits, and these draw 2 as well unless they are told otherwise.
    named = "warning: 2 bits lie outside the bit widths that were fitted (3 to 4)" in done.stderr
    assert named == (name in ("projection", "qid-map", "tokens-to-threshold"))


def test_the_options_reach_the_figure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.append((figure, path)))
    arguments = ["predicted-against-measured", "unified.nc", "--table", "spectra", "--table", "llama-qwen"]
    CliRunner().invoke(plot, [*arguments, "--kind", "response_params", "--ci-prob", "0.8"], catch_exceptions=False)
    ((figure, path),) = kept
    assert path == Path("predicted-against-measured.png")
    assert "bars: 80% of the law alone" in figure.texts[1].get_text()
    assert "56 measured" in figure.axes[0].get_title()  # 18 and 38


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["qid", "unified.nc", "--published", "eq8"],
            "--published has no place in qid; it is for projection, tokens-to",
        ),
        (
            ["projection", "unified.nc", "--table", "spectra"],
            "--table has no place in projection; it is for loss, qid-by",
        ),
        (["qid", "unified.nc", "--loss-16bit", "kaplan.nc"], "--loss-16bit has no place in qid"),
        (["qid", "unified.nc", "other.nc"], "qid is drawn from one fit, not 2; datasets, methods, predicted-against"),
        (["qid"], "qid is drawn from a saved FIT"),
    ],
)
def test_options_that_have_no_place(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(plot, arguments)
    assert done.exit_code == 2 and says in done.output


def test_a_fit_of_the_wrong_response(folder: Path) -> None:
    with pytest.raises(InputError, match="qid_map is for laws of QiD with N and D"):
        CliRunner().invoke(plot, ["qid-map", "kaplan.nc"], catch_exceptions=False)
    assert not list(folder.glob("*.png"))


def test_the_page_of_figures_shows_each_by_its_command() -> None:
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    assert spec and spec.loader
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    written, drawn = set(), {}
    for command in page.commands():
        if command[0] == "fit":
            written.add(page.output(command))
            continue
        context = plot.make_context("plot", command[1:])  # refuses what it does not know
        of_drift = _FIGURES[context.params["name"]].of_drift
        assert set(context.params["fits"]) <= ({"nano-drift"} if of_drift else written)
        drawn[page.output(command)] = context.params["name"]
    assert set(drawn.values()) == set(_FIGURES)
    text = (DOCS / "figures.md").read_text()
    for picture in drawn:
        assert f"(images/{picture})" in text
        assert 10_000 < (DOCS / "images" / picture).stat().st_size <= 150_000, picture
