"""What a projection takes for granted where nobody says: it says so, and uses the table's own 16-bit losses."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from faults.artifacts import sound_fit

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.errors import AssumptionWarning
from qidbayes.posterior import published
from qidbayes.reports.sections import answers_section

N, D = np.array([7e9, 405e9]), 100e12
ASKED = {"n_params": N.tolist(), "tokens": D, "bits": 2}
PYTHIA = "the constants that arXiv:2411.17691 found for Pythia"
LLAMA = "random guessing is taken to lose ln(128,256)"


def eq3(n: np.ndarray, d: Any) -> np.ndarray:
    """The paper's Eq. 3, by hand."""
    return np.asarray(((4.74e19 / n) ** (0.045 / 0.399) + 7.63e10 / d) ** 0.399)


def of(ratio: float | None, scatter: float = 0.0, **columns: object) -> qb.Fit:
    """A fit of somebody's own table, whose 16-bit losses are so many times the paper's, if there are any."""
    fit = sound_fit()
    n, d = (fit.data[name].cast(pl.Float64).to_numpy() for name in ("n_params", "tokens"))
    # Rows of one checkpoint have one 16-bit loss, and it counts once however many they are.
    signs = np.where(fit.data["tokens"].rank("dense").to_numpy() % 2, 1.0, -1.0)
    loss = None if ratio is None else pl.Series(ratio * np.exp(scatter * signs) * eq3(n, d))
    own = {"suite": pl.lit("mine"), "source": pl.lit("measured here"), "loss_16bit": loss, **columns}
    return replace(fit, data=fit.data.with_columns(**own))


def told(ask: Any) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = ask()
    assert {w.filename for w in caught} <= {__file__}
    return found, [str(w.message) for w in caught if issubclass(w.category, AssumptionWarning)]


def test_the_papers_own_points_take_nothing_for_granted() -> None:
    fit = sound_fit()
    found, said = told(lambda: fit.project(**ASKED))
    assert said == []
    np.testing.assert_allclose(found["loss_16bit"], eq3(N, D), rtol=1e-12)


def test_a_projection_that_names_no_tokens_is_of_100t_and_says_so() -> None:
    fit = sound_fit()
    for source in (fit, qb.Stack([fit], [1.0])):
        found, said = told(lambda source=source: source.project(n_params=7e9, bits=2))
        assert found["tokens"].to_list() == [1e14]
        assert said == ["assumed: 100T training tokens, the far end of a projection; name others as tokens (--tokens)"]
        assert found.equals(source.project(n_params=7e9, bits=2, tokens=1e14))


@pytest.mark.parametrize("source", [("{}",), ("--published", "unified:eq8")])
def test_so_does_the_command(source: tuple[str, ...], tmp_path: Path) -> None:
    sound_fit().save(tmp_path / "a.nc")
    words = [word.format(tmp_path / "a.nc") for word in source]
    asked = ["project", *words, "--params", "7B", "--bits", "2", "--format", "json"]
    silent, named = (CliRunner().invoke(cli, [*asked, *more]) for more in ((), ("--tokens", "100T")))
    assert silent.stdout == named.stdout
    assert silent.stderr.count("assumed: 100T training tokens, the far end of a projection") == 1
    assert "training tokens, the far end" not in named.stderr


def test_without_16_bit_losses_both_are_said() -> None:
    found, said = told(lambda: of(None).project(**ASKED))
    np.testing.assert_allclose(found["loss_16bit"], eq3(N, D), rtol=1e-12)
    assert len(said) == 2
    assert said[0].startswith(f"the table has no 16-bit losses: they are taken from {PYTHIA}")
    assert said[1].startswith(LLAMA)
    without = of(None)
    assert told(lambda: replace(without, data=without.data.drop("loss_16bit")).project(**ASKED))[1] == said


@pytest.mark.parametrize("ratio", [0.3, 0.8, 1.0, 1.3, 4.0])
def test_the_tables_own_losses_are_used(ratio: float) -> None:
    fit = of(ratio)
    found, said = told(lambda: fit.project(**ASKED))
    np.testing.assert_allclose(found["loss_16bit"], ratio * eq3(N, D), rtol=1e-9)
    draws = np.exp(fit.log_draws(found.select("n_params", "tokens", "bits")))
    by_hand = (draws + ratio * eq3(N, D) > np.log(128_256)).mean(axis=0)
    np.testing.assert_allclose(found["worse_than_random"], by_hand, atol=2 / len(draws))
    checkpoints = fit.data.select("model", "revision", "tokens").n_unique()
    assert said[0].startswith(f"16-bit losses come from {PYTHIA}, times {ratio:.3g}: so they lie within 0% of each")
    assert f"the table's own ({checkpoints}, one a checkpoint and data set)" in said[0]


def test_how_far_they_scatter_is_said() -> None:
    fit = of(1.3, scatter=0.25)
    assert "within 25% of each" in told(lambda: fit.project(**ASKED))[1][0]


def test_what_is_given_is_not_taken_for_granted() -> None:
    point = published("chinchilla-16bit")
    fit = of(None)
    found, said = told(lambda: fit.project(**ASKED, loss_16bit=point, vocabulary=50_304))
    assert said == []
    expected = point.predict(n_params=N.tolist(), tokens=D)["median"]
    assert found["loss_16bit"].to_list() == expected.to_list()
    assert told(lambda: fit.project(**ASKED, loss_16bit=point))[1][0].startswith(LLAMA)
    few = told(lambda: fit.project(**ASKED, vocabulary=2))[0]["worse_than_random"]
    assert few.to_list() == [1.0, 1.0]


def test_a_pareto_uses_and_says_the_same() -> None:
    asked = {"memory": 8e9, "tokens": 1e12, "bits": [16.0]}
    mine, said = told(lambda: qb.pareto(of(1.3), **asked))
    np.testing.assert_allclose(mine["median"], 1.3 * eq3(mine["n_params"].to_numpy(), 1e12), rtol=1e-9)
    assert len(said) == 1 and "16-bit losses come from" in said[0]
    assert told(lambda: qb.pareto(sound_fit(), **asked))[1] == []


def test_the_command_line_and_the_page_say_it(tmp_path: Path) -> None:
    of(1.3).save(tmp_path / "fit.nc")
    path = str(tmp_path / "fit.nc")
    asked = ["project", path, "--params", "7B", "--bits", "2", "--tokens", "100T"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("warning: 16-bit losses come from") == done.stderr.count(f"warning: {LLAMA}") == 1
    assert "ln(" not in CliRunner().invoke(cli, [*asked, "--vocabulary", "50304"]).stderr
    memory = CliRunner().invoke(cli, ["advise", path, "--memory", "8GB", "--tokens", "1T"])
    assert memory.stderr.count("warning: 16-bit losses come from") == 1
    page, _ = told(lambda: answers_section(of(1.3), 0.9))
    assert "<p>16-bit losses come from" in page and f"<p>{LLAMA[0].upper()}{LLAMA[1:]}" in page


def test_a_fit_keeps_the_tables_16_bit_losses(pythia: pl.DataFrame, unified: qb.Fit) -> None:
    cells = ["model", "tokens", "bits", "loss_16bit"]
    assert unified.data.select(cells).sort(cells).equals(pythia.select(cells).sort(cells))
