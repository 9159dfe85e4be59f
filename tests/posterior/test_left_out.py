"""What a question leaves out is assumed, and said in one line: in Python, in `cautions`, and by every command."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from made import NESTED, SMOOTH, unified_fit

import qidbayes as qb
from qidbayes.cli import cli, wandering
from qidbayes.errors import AssumptionWarning, DiagnosticsWarning
from qidbayes.law import Noise
from qidbayes.posterior import Fit
from qidbayes.posterior.assumed import assumed, shown

CONSTANTS = {"k_ref": np.exp([-3.0, -2.9, -3.1, -3.05]), "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
WHERE = {"n_params": 7e9, "tokens": 1e12, "bits": 4.0}
KNOWN = "EleutherAI/pythia-160m-deduped"
NEW_SUITE = "a suite that was not fitted"


def data() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("n_params") < 4e8, pl.col("tokens") > 1e11)


def smooth(table: pl.DataFrame | None = None) -> Fit:
    return unified_fit(CONSTANTS, SMOOTH, data() if table is None else table)


def families() -> Fit:
    """A fit whose noise is of many families, for what is said of its questions."""
    fit = smooth(pl.concat([data(), data().with_columns(suite=pl.lit("mine"), model="my " + pl.col("model"))]))
    return replace(fit, law=replace(fit.law, noise=Noise(groups=fit.law.noise.groups, discrepancy="families")))


AS_FITTED = "gptq, refinedweb as in all fitted rows"


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({}, f"assumed: {NEW_SUITE}; {AS_FITTED}"),
        ({"suite": None}, f"assumed: {NEW_SUITE}; {AS_FITTED}"),
        ({"suite": "pythia"}, f"assumed: {AS_FITTED}"),
        ({"suite": "another", "method": "awq"}, "assumed: refinedweb as in all fitted rows"),
        ({"model": KNOWN, "method": "gptq", "dataset": "refinedweb"}, ""),
        ({"model": "another", "method": "gptq", "dataset": "refinedweb"}, f"assumed: {NEW_SUITE}"),
    ],
)
def test_one_suite_one_method(question: dict[str, object], sentence: str) -> None:
    frame = pl.DataFrame(WHERE | question)
    assert str(assumed(smooth(), frame)) == sentence
    assert str(assumed(smooth(), frame, "response_params")) == "", "the law alone knows no suite"


def test_what_the_rows_do_not_agree_on_is_any() -> None:
    two = data().with_columns(method=pl.lit("awq"), group_size=pl.lit(128, pl.Int64))
    fit = smooth(pl.concat([data(), two]))
    found = assumed(fit, pl.DataFrame(WHERE | {"suite": "pythia"}))
    assert found.new == ("any method", "any group size") and found.fitted == ("refinedweb",)
    grouped = smooth(data().with_columns(group_size=pl.lit(64, pl.Int64)))
    assert assumed(grouped, pl.DataFrame(WHERE)).fitted == ("gptq", "groups of 64", "refinedweb")


def test_of_families_nothing_is_as_fitted() -> None:
    fit = families()
    tokens = "tokens unknown (flat between 100B and 100T)"
    bare = f"assumed: a family that was not fitted, {tokens}, any method, per channel, any data set"
    assert str(assumed(fit, pl.DataFrame({"n_params": 7e9, "bits": 4.0}))) == bare
    assert str(assumed(fit, pl.DataFrame(WHERE | {"tokens": None}))) == bare
    named = {"suite": "pythia", "method": "gptq", "group_size": 128, "dataset": "c4"}
    assert str(assumed(fit, pl.DataFrame(WHERE | named))) == ""
    file = {"suite": "pythia", "method": "GGUF", "dataset": "c4", "settings": "bartowski/Q4_K_M"}
    assert "per channel" not in str(assumed(fit, pl.DataFrame(WHERE | file))), "a file has groups of its own"
    # Of the tokens that are asked for nothing is assumed.
    assert str(assumed(fit, pl.DataFrame({"n_params": 7e9, "bits": 4.0, "qid": 0.1} | named))) == ""
    assert str(assumed(fit, pl.DataFrame({"n_params": 7e9, "bits": 4.0}), "response_params")) == f"assumed: {tokens}"


def test_a_fit_without_a_discrepancy_depends_on_none_of_it() -> None:
    fit = unified_fit(CONSTANTS, NESTED, data())
    assert str(assumed(fit, pl.DataFrame(WHERE))) == "" and shown(fit) == {}
    assert shown(smooth()) == {"suite": "pythia"} and shown(smooth(), "response_params") == {}
    assert shown(families()) == {}


def test_every_way_of_asking_says_it() -> None:
    fit = smooth()
    cells = data().head(2).with_columns(model=pl.lit("new"), cell_seconds=1.0, checkpoint_seconds=1.0)
    asks = {
        "predict": lambda **q: fit.predict(**WHERE, **q),
        "tokens_to_threshold": lambda **q: fit.tokens_to_threshold(0.2, n_params=7e9, bits=4.0, **q),
        "project": lambda **q: fit.project(n_params=7e9, bits=4.0, tokens=1e12, **q),
        "training_level": lambda **q: fit.training_level([0.05], n_params=7e9, bits=4.0, **q),
        "advise": lambda **q: qb.advise(fit, n_params=7e9, tokens=1e12, max_qid=0.2, **q),
        "pareto": lambda **q: qb.pareto(fit, memory=8e9, tokens=1e12, **q),
        "next": lambda **q: qb.next_measurements(fit, cells, **WHERE, picks=1, **q),
    }
    for name, ask in asks.items():
        for suite, times in ({}, 1), ({"suite": "pythia"}, 0):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                ask(**suite)
            said = [w for w in told if issubclass(w.category, AssumptionWarning) and "assumed: " in str(w.message)]
            assert len(said) == times, (name, suite)
            assert all(w.filename == __file__ and NEW_SUITE in str(w.message) for w in said)


def test_cautions_have_it_and_what_the_band_rests_on() -> None:
    fit = smooth()
    assert fit.cautions(pl.DataFrame(WHERE))[0] == f"assumed: {NEW_SUITE}; {AS_FITTED}"
    inside = WHERE | {"suite": "pythia", "tokens": 1e11}
    assert fit.cautions(pl.DataFrame(inside)) == [f"assumed: {AS_FITTED}"]
    (_, far) = fit.cautions(pl.DataFrame(inside | {"tokens": 100.0 * float(fit.data["tokens"].max())}))
    assert far.startswith("tokens lie up to 100 times outside the fitted ones: an answer there assumes no break")


def test_a_suite_left_out_has_the_band_of_one_that_was_not_fitted() -> None:
    fit = smooth()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        warnings.simplefilter("ignore", DiagnosticsWarning)
        bands = [fit.predict(**WHERE, **q).select("lower", "upper").row(0) for q in ({}, {"suite": "x"})]
        known = fit.predict(**WHERE, suite="pythia").select("lower", "upper").row(0)
    assert bands[0] == bands[1]
    assert bands[0][1] / bands[0][0] > known[1] / known[0]


@pytest.mark.filterwarnings("ignore::qidbayes.errors.DiagnosticsWarning")  # which `main` hides
@pytest.mark.parametrize(
    "command",
    [
        ["project", "--params", "7B"],
        ["tokens", "--params", "7B"],
        ["training-level", "--qid", "0.05", "--params", "7B", "--bits", "4"],
        ["advise", "--params", "7B", "--tokens", "1T", "--max-qid", "0.2"],
        ["advise", "--memory", "8GB", "--tokens", "1T"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_every_command_says_it_once(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `project` once although its second band, of a fit that takes seconds, asks again."""
    path = tmp_path / "fit.nc"
    smooth().save(path)
    name, *options = command
    with monkeypatch.context() as patch:
        if name != "project":
            patch.setattr(wandering, "_MOST_ROWS", 0)
        said = CliRunner().invoke(cli, [name, str(path), *options])
    assert said.stderr.count(f"assumed: {NEW_SUITE}; {AS_FITTED}") == 1, said.output
    assert ("walk_lower" in said.output) == (name == "project")
    monkeypatch.setattr(wandering, "_MOST_ROWS", 0)
    named = CliRunner().invoke(cli, [name, str(path), *options, "--suite", "pythia"])
    assert f"assumed: {AS_FITTED}" in named.stderr and NEW_SUITE not in named.stderr, named.output
