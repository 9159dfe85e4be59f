"""No command answers from a fit whose checks failed, or whose prior and data disagree, without saying so."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from faults.artifacts import sound_fit
from matplotlib.figure import Figure

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.errors import DiagnosticsWarning
from qidbayes.posterior.constants import raw_constants
from qidbayes.posterior.diagnostics import Diagnostics
from qidbayes.posterior.store import _judged

pytestmark = pytest.mark.filterwarnings(  # which `main` hides
    "ignore::qidbayes.errors.DiagnosticsWarning", "ignore::qidbayes.errors.ExtrapolationWarning"
)
WRONG: dict[str, tuple[Callable[[qb.Fit], qb.Fit], str]] = {
    "divergences": (
        lambda fit: replace(fit, stats={**fit.stats, "diverging": np.arange(2000).reshape(4, 500) < 7}),
        "7 divergent transitions",
    ),
    "R-hat": (lambda fit: beta(fit, 0.1 * np.arange(4)[:, None]), "r_hat is not below 1.01"),
    "ESS": (lambda fit: beta(fit, np.repeat(np.arange(20), 25)), "ess_bulk is not above 400"),
    "E-BFMI": (
        lambda fit: replace(fit, stats={**fit.stats, "energy": np.cumsum(fit.stats["energy"], axis=1)}),
        "E-BFMI is not > 0.3",
    ),
    "conflict": (lambda fit: said(fit, shift={"beta": 5.2}), "prior and data disagree: the posterior of beta (5.2)"),
    "flat likelihood": (
        lambda fit: said(fit, contraction={**fit.diagnostics.contraction, "beta": 0.01}),
        "beta is not identified by these data",
    ),
    "doubts": (lambda fit: said(fit, doubts=("n_params jumps",)), "n_params jumps"),
}
NEXT = ["next-measurements", "FIT", "pythia", "--params", "70B", "--tokens", "15T", "--picks", "1"]
COMMANDS = {
    "summary": ["summary", "FIT"],
    "tokens": ["tokens", "FIT"],
    "project": ["project", "FIT"],
    "training-level": ["training-level", "FIT", "--qid", "0.05", "--params", "7B", "--bits", "4"],
    "advise": ["advise", "FIT", "--params", "8B", "--tokens", "1T", "--max-qid", "0.5"],
    "advise, by memory": ["advise", "FIT", "--memory", "8GB", "--tokens", "1T"],
    "next-measurements": [*NEXT, "--bits", "4"],
    "plot": ["plot", "projection", "FIT", "-o", "x.png"],
    "report": ["report", "FIT", "-o", "x.html"],
    "fit": ["fit", "pythia", "--law", "unified", "--prior-from", "FIT", "--chains", "0", "-o", "x.nc"],
}


def beta(fit: qb.Fit, more: np.ndarray) -> qb.Fit:
    """Return the fit with something added to beta, and with the constant that follows from it."""
    draws = {**fit.draws, "beta": fit.draws["beta"] + more}
    return replace(fit, draws={**draws, **raw_constants(fit.law, draws)})


def said(fit: qb.Fit, **changes: object) -> qb.Fit:
    return replace(fit, diagnostics=replace(fit.diagnostics, **changes))  # type: ignore[arg-type]


def broken(*names: str) -> qb.Fit:
    """Return a fit with some of what may be wrong, judged by its draws as it is when it is loaded."""
    fit = sound_fit()
    for name in names:
        fit = WRONG[name][0](fit)
    return replace(fit, diagnostics=_judged(fit))


@pytest.fixture
def drawn_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page and a figure show is not asked here."""
    monkeypatch.setattr("qidbayes.reports.report._sections", lambda *_: [])
    monkeypatch.setattr("qidbayes.plots.projection", lambda *_, **__: Figure())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_is_wrong(
    command: str, tmp_path: Path, drawn_fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken(*WRONG).save("broken.nc")
    arguments = ["broken.nc" if a == "FIT" else a for a in COMMANDS[command]]
    done = CliRunner().invoke(cli, arguments)
    for _, message in WRONG.values():
        assert message in done.stderr, done.output


@pytest.mark.parametrize("command", ["project", "advise, by memory", "plot"])
def test_so_it_is_of_the_16_bit_fit_beside_it(
    command: str, tmp_path: Path, drawn_fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken().save("good.nc")
    broken("divergences").save("broken.nc")
    arguments = ["good.nc" if a == "FIT" else a for a in COMMANDS[command]]
    assert "FAILED" not in CliRunner().invoke(cli, arguments).stderr
    assert "FAILED: 7 divergent" in CliRunner().invoke(cli, [*arguments, "--loss-16bit", "broken.nc"]).stderr


WIDE = {
    "project": ["project", "FIT", "--bits", "4,8", "--params", "1B"],
    "tokens": ["tokens", "FIT", "--bits", "8"],
    "training-level": ["training-level", "FIT", "--qid", "0.05,0.002", "--params", "7B", "--bits", "4,8"],
    "advise": ["advise", "FIT", "--params", "8B", "--tokens", "1T", "--max-qid", "0.5", "--bits", "4,8"],
    "advise, by memory": ["advise", "FIT", "--memory", "8GB", "--tokens", "1T", "--bits", "4,8,16"],
    "next-measurements": [*NEXT, "--bits", "8"],
}


@pytest.mark.parametrize("command", WIDE)
def test_bit_widths_beyond_the_fitted_ones_are_named(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    replace(broken(), data=qb.load_table("pythia").select(broken().data.columns)).save("good.nc")
    told = "warning: 8 bits lie outside the bit widths that were fitted (2 to 4)"
    done = CliRunner().invoke(cli, ["good.nc" if a == "FIT" else a for a in WIDE[command]])
    assert told in done.stderr and done.exit_code in (0, 1), done.output
    assert ("bits_beyond" in done.stdout) == (command in ("project", "advise", "advise, by memory"))
    inside = CliRunner().invoke(cli, ["good.nc" if a == "FIT" else a for a in COMMANDS[command]])
    assert "lie outside" not in inside.stderr


ASKED: dict[str, Callable[[qb.Fit], object]] = {
    "predict": lambda fit: fit.predict(n_params=1e9, tokens=1e12, bits=4),
    "interval": lambda fit: fit.interval("beta"),
    "tokens_to_threshold": lambda fit: fit.tokens_to_threshold(0.2, n_params=1e9, bits=4),
    "project": lambda fit: fit.project(n_params=1e9, bits=4),
    "training_level": lambda fit: fit.training_level(0.05, n_params=7e9, bits=4),
    "advise": lambda fit: qb.advise(fit, n_params=8e9, tokens=1e12, max_qid=0.5),
    "pareto": lambda fit: qb.pareto(fit, memory=8e9, tokens=1e12),
}


@pytest.mark.parametrize("name", ASKED)
def test_so_does_every_answer_in_python(name: str) -> None:
    for what in ("divergences", "conflict"):
        with pytest.warns(DiagnosticsWarning) as told:
            ASKED[name](broken(what))
        assert any(WRONG[what][1] in str(warning.message) for warning in told)
        assert told[0].filename == __file__


def test_a_part_brings_its_own_along() -> None:
    whole = Diagnostics({}, 0, (1.0,), {}).with_part(
        "loss_16bit", Diagnostics({}, 0, (1.0,), {}, {"l0": 4.0}, ("odd",))
    )
    assert whole.shift == {"loss_16bit: l0": 4.0} and whole.doubts == ("odd",)
