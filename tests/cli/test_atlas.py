"""The shipped fit answers where no other is given, and rows of one's own are taken in without a fit."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from made import NESTED, SMOOTH, log_unified, unified_fit

import qidbayes as qb
from qidbayes import resources
from qidbayes.cli import cli
from qidbayes.posterior import Fit

ONE = {"k_ref": 0.05, "beta": 0.5, "alpha": 0.3, "gamma": 5.0}


def fit(draws: int = 400) -> Fit:
    constants = {**ONE, "k_ref": 0.05 * np.exp(np.random.default_rng(0).normal(0, 0.2, draws))}
    table = qb.load_table("pythia").filter(pl.col("n_params") < 4e8, pl.col("tokens") > 1e11)
    return unified_fit(constants, SMOOTH, table.drop("learning_rate", "seconds_quantize", "seconds_evaluate"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a fit called atlas, which comes before the shipped one."""
    monkeypatch.chdir(tmp_path)
    fit().save("atlas")
    rows = pl.DataFrame({"n_params": [7e9, 7e9, 7e9], "tokens": [2e12, 2e12, 1e12], "bits": [3.0, 4.0, 4.0]})
    qid = 1.5 * np.exp(log_unified(ONE, rows))
    own = rows.with_columns(suite=pl.lit("mine"), model=pl.lit("my-7b"), method=pl.lit("gptq"), qid=qid)
    own.with_columns(dataset=pl.lit("refinedweb")).write_csv("mine.csv")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words])


def test_the_shipped_fit_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped, own = fit(10), fit(20)
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "package")
    with pytest.raises(qb.InputError, match=r"comes without the fit of that name.*qidbayes fit atlas --law atlas"):
        qb.load_fit("atlas")
    (tmp_path / "measurements" / "atlas").mkdir(parents=True)
    shipped.save(tmp_path / "measurements" / "atlas" / "atlas.nc")
    np.testing.assert_array_equal(qb.load_fit("atlas").draws["k_ref"], shipped.draws["k_ref"])
    own.save("atlas")
    assert qb.load_fit("atlas").draws["k_ref"].size == 20, "a file of that name comes first"
    with pytest.raises(qb.InputError, match="there is no such file"):
        qb.load_fit("another")


@pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning")
@pytest.mark.parametrize(
    "command",
    [
        ["advise", "--params", "8B", "--tokens", "1T", "--max-qid", "10"],
        ["advise", "--memory", "8GB", "--tokens", "1T"],
        ["project", "--params", "7B"],
        ["tokens", "--params", "7B"],
        ["training-level", "--qid", "0.05", "--params", "7B", "--bits", "4"],
        ["next-measurements", "tiny", "--params", "7B", "--tokens", "1T", "--bits", "4", "--picks", "1"],
        ["summary"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_command_without_a_fit_asks_the_atlas(command: list[str], here: Path) -> None:
    name, *options = command
    alone, named = run(*command, "--format", "json"), run(name, "atlas", *options, "--format", "json")
    assert alone.exit_code == named.exit_code == 0, alone.output
    assert json.loads(alone.stdout) == json.loads(named.stdout)


@pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning")
def test_own_rows_are_taken_in_and_the_answer_is_about_their_suite(here: Path) -> None:
    asked = ("project", "--params", "7B", "--tokens", "3T", "--bits", "4", "--format", "json")
    bare, given = run(*asked), run(*asked, "--with", "mine.csv")
    assert given.exit_code == 0, given.output
    assert "taken in: 3 rows of suite mine (Pareto k " in given.stderr
    assert "effective draws); the answer is about suite mine" in given.stderr
    assert "a suite that was not fitted" in bare.stderr and "a suite that was not fitted" not in given.stderr
    (before,), (after,) = json.loads(bare.stdout), json.loads(given.stdout)
    python = qb.load_fit("atlas").condition(qb.load_table("mine.csv"))
    band = python.predict(n_params=7e9, tokens=3e12, bits=4.0, suite="mine")
    assert (after["lower"], after["upper"]) == pytest.approx(band.select("lower", "upper").row(0))
    assert after["upper"] / after["lower"] < before["upper"] / before["lower"]


@pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning")
def test_a_suite_that_is_named_is_not_replaced_by_that_of_own_rows(here: Path) -> None:
    asked = ("tokens", "--params", "7B", "--qid", "0.2", "--bits", "4", "--with", "mine.csv", "--format", "json")
    named = run(*asked, "--suite", "pythia")
    assert "the answer is about" not in named.stderr
    assert json.loads(named.stdout)[0]["suite"] == "pythia"
    law = run(*asked, "--kind", "response_params")
    assert law.exit_code == 0 and "suite" not in json.loads(law.stdout)[0], "the law alone has no suite"


def test_what_takes_in_no_rows_says_so(here: Path) -> None:
    refused = run("tokens", "--published", "per-bit", "--with", "mine.csv")
    assert refused.exit_code == 2 and "--with goes with a fit" in refused.stderr
    both = run("tokens", "atlas", "--published", "per-bit")
    assert both.exit_code == 2 and "give either a saved FIT or --published LAW" in both.stderr
    unified_fit(ONE, NESTED, fit(4).data).save("plain.nc")
    unknown = run("tokens", "plain.nc", "--suite", "pythia")
    assert isinstance(unknown.exception, qb.InputError) and "does not depend on 'suite'" in str(unknown.exception)


def test_a_figure_of_points_needs_a_fit(here: Path) -> None:
    refused = run("plot", "qid")
    assert refused.exit_code == 2
    assert "qid is drawn from a saved FIT; projection, qid-map, tokens-by-year, tokens-to-threshold" in " ".join(
        refused.stderr.split()
    )


def test_the_answer_about_a_model_that_was_measured_again_is_of_its_own_rows(here: Path) -> None:
    model = qb.load_fit("atlas").data["model"][0]
    rows = pl.read_csv("mine.csv").with_columns(model=pl.lit(model))
    rows.write_csv("mine.csv")
    words = ("project", "--params", "7B", "--tokens", "2T", "--bits", "4", "--with", "mine.csv", "--model", model)
    told = run(*words)
    assert told.exit_code == 0, told.stderr
    assert "the answer is about suite mine" in told.stderr


def test_a_file_called_after_a_fitted_suite_is_of_a_new_one(here: Path) -> None:
    """Rows that name no suite join a fitted one only by --suite."""
    rows = pl.read_csv("mine.csv").drop("suite")
    rows.write_csv("pythia.csv")
    words = ("project", "--params", "7B", "--tokens", "2T", "--bits", "4", "--format", "json", "--with", "pythia.csv")
    alone, named, mine = run(*words), run(*words, "--suite", "pythia"), run(*words, "--suite", "mine")
    assert alone.exit_code == named.exit_code == mine.exit_code == 0, (alone.output, named.output, mine.output)
    assert "'pythia (own rows)', and not of the fitted suite 'pythia'" in alone.stderr
    assert "3 rows of suite pythia (own rows)" in alone.stderr
    assert "3 rows of suite pythia (Pareto" in named.stderr and "(own rows)" not in named.stderr
    assert "3 rows of suite mine (Pareto" in mine.stderr
    # Whatever it is called, a new suite has the same answer.
    assert json.loads(alone.stdout)[0]["median"] == json.loads(mine.stdout)[0]["median"]
    with pytest.warns(qb.errors.TableWarning, match="not of the fitted suite 'pythia'"):
        given = fit().condition("pythia.csv")
    assert given.attributes["conditioned_on"][-1]["suite"] == "pythia (own rows)"
    rows.with_columns(suite=pl.lit("pythia")).write_csv("pythia.csv")
    assert "3 rows of suite pythia (Pareto" in run(*words).stderr, "a column names it"


def test_a_row_without_a_logarithm_is_named_and_the_others_are_used(here: Path) -> None:
    rows = pl.read_csv("mine.csv").with_columns(qid=pl.when(pl.col("bits") == 3).then(-0.01).otherwise("qid"))
    rows.write_csv("mine.csv")
    done = run("project", "--params", "7B", "--tokens", "2T", "--bits", "4", "--with", "mine.csv")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("1 of 3 rows of suite 'mine' have a QiD of 0 or below") == 1
    assert "taken in: 2 rows of suite mine" in done.stderr and "; 1 left out)" in done.stderr


def test_measured_gguf_files_are_taken_in_as_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `measure` writes of GGUF files, now and by older plans, is of the method that the atlas knows them by."""
    monkeypatch.chdir(tmp_path)
    asked = {"n_params": [1.06e8] * 2, "tokens": [2e12] * 2, "qid": [0.2, 0.7], "dataset": ["text"] * 2}
    rows = pl.DataFrame({**asked, "model": "smol", "suite": "mine", "bits": [4.5, 3.4]})
    rows = rows.with_columns(method=pl.lit("gguf"), settings=pl.Series(["Q4_0", "Q3_K_S"]))
    rows.write_csv("measured.csv")
    old = rows.with_columns(method=pl.Series(["gguf-q4-0", "gguf-q3-k-s"]), bits=pl.Series([4, 3]))
    old.with_columns(group_size=pl.Series([32, 16]), settings=pl.lit(None, pl.String)).write_csv("old.csv")
    words = ("advise", "--params", "106M", "--tokens", "2T", "--method", "gguf", "--bits", "4", "--max-qid", "1")
    found = {name: run(*words, "--with", f"{name}.csv", "--format", "json") for name in ("measured", "old")}
    for done in found.values():
        assert done.exit_code == 0, done.output
        assert "taken in: 2 rows of suite mine" in done.stderr and "method" not in done.stderr.partition("taken in")[2]
    known, before = (json.loads(done.stdout)[0] for done in found.values())
    ends = ("median", "lower", "upper", "not_fitted")
    assert [before[name] for name in ends] == [pytest.approx(known[name]) for name in ends]
    assert "method" not in known["not_fitted"]


@pytest.mark.parametrize("name", ["projection", "qid-map", "tokens-to-threshold"])
def test_figures_beyond_the_data_take_in_own_rows(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qidbayes import plots

    drawn: dict[str, object] = {}

    def figure(source: Fit, **asked: object) -> str:
        drawn.update(asked, rows=source.data.height)
        return "figure"

    monkeypatch.setattr(plots, name.replace("-", "_"), figure)
    monkeypatch.setattr(plots, "save", lambda figure, path: None)
    done = run("plot", name, "--with", "mine.csv", "--method", "gptq")
    assert done.exit_code == 0, done.output
    assert (drawn["suite"], drawn["method"], drawn["rows"]) == ("mine", "gptq", fit().data.height + 3)
    refused = run("plot", "qid", "atlas", "--with", "mine.csv")
    assert refused.exit_code == 2 and "--with has no place in qid; it is for projection, qid-map" in refused.stderr
    several = run("plot", name, "--method", "gptq,awq")
    assert several.exit_code == 2 and "is drawn of one --method" in several.stderr


@pytest.mark.filterwarnings("ignore:assumed. a family that was not fitted$")
def test_a_maker_that_was_not_fitted_and_bits_that_a_type_has_not_are_said() -> None:
    atlas = qb.load_fit("atlas")
    asked = {"n_params": 8e9, "tokens": 15e12, "method": "gguf", "dataset": "wikitext2"}
    with pytest.warns(qb.errors.UnfittedWarning, match=r"bartowski/Q4_K_M have about 4\.8 bits a weight, and 4 were"):
        atlas.predict(**asked, bits=4, settings="bartowski/Q4_K_M")
    with pytest.warns(qb.errors.AssumptionWarning, match=r"a maker of the file that was not fitted \(nobody\)"):
        atlas.predict(**asked, bits=4.8, settings="nobody/Q4_K_M")
