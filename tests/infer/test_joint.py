"""A law of QiD with a law of the 16-bit loss beside it: each part as alone, and their sum."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from plain import plain
from polars.testing import assert_frame_equal

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.law import law_from_dict

SETTINGS = {"draws": 500, "tune": 500, "chains": 2}
# With so few draws some fits fail a check; what is asserted holds draw by draw, or within a stated number of errors.
pytestmark = pytest.mark.filterwarnings("ignore:an answer of a fit that is not to be trusted")
TRUE = {
    "k_ref": 0.035, "beta": 0.47, "alpha": 0.3, "gamma": 5.8, "k": 0.035 * 4**5.8 * 1e9**0.3 / 1e11**0.47,
    "alphaN": 0.07, "alphaD": 0.4, "Nc": 1e16, "Dc": 8e10,
}  # fmt: skip


@pytest.fixture(scope="module")
def simulated(pythia: pl.DataFrame) -> pl.DataFrame:
    """Both laws on the table `pythia`, with errors of runs and checkpoints; the losses are of one checkpoint each."""
    rng = np.random.default_rng(11)
    n, d, p = (pythia[c].cast(pl.Float64).to_numpy() for c in ("n_params", "tokens", "bits"))
    _, model = np.unique(pythia["model"].to_numpy(), return_inverse=True)
    _, checkpoint = np.unique((pythia["model"] + pythia["revision"]).to_numpy(), return_inverse=True)
    loss_16bit = ((TRUE["Nc"] / n) ** (TRUE["alphaN"] / TRUE["alphaD"]) + TRUE["Dc"] / d) ** TRUE["alphaD"]
    loss_16bit *= np.exp(0.02 * rng.standard_normal(6)[model] + 0.01 * rng.standard_normal(120)[checkpoint])
    qid = TRUE["k"] * d ** TRUE["beta"] / (n ** TRUE["alpha"] * p ** TRUE["gamma"])
    qid *= np.exp(0.1 * rng.standard_normal(120)[checkpoint] + 0.1 * rng.standard_normal(360))
    return pythia.with_columns(
        pl.Series("loss_16bit", loss_16bit), pl.Series("qid", qid), pl.Series("loss", loss_16bit + qid)
    )


@pytest.fixture(scope="module")
def joint(simulated: pl.DataFrame) -> qb.Fit:
    return qb.fit(simulated, plain("joint"), random_seed=4, **SETTINGS)


def test_a_simulation_gives_every_constant_back(joint: qb.Fit) -> None:
    found = joint.summary()
    assert set(found["response"]) == {"qid", "loss_16bit"}
    for name, true in TRUE.items():
        draws = np.log(joint.draws[name] if name in joint.draws else joint.loss_16bit.draws[name])
        # Three posterior standard deviations.
        assert abs(draws.mean() - np.log(true)) < 3 * draws.std(), name
        assert found.filter(name=name).height == 1


def test_each_part_is_fitted_as_alone(joint: qb.Fit, simulated: pl.DataFrame) -> None:
    # QiD is the paired difference: the 16-bit loss is not in its error, no parameter is shared, and so the joint
    # posterior is the product of the two.
    for part, law, seed in ((joint, "unified", 4), (joint.loss_16bit, "kaplan-16bit", 5)):
        alone = qb.fit(simulated, plain(law), random_seed=seed, **SETTINGS)
        assert set(alone.draws) == set(part.draws)
        for name, draws in alone.draws.items():
            np.testing.assert_array_equal(draws, part.draws[name])
    assert joint.diagnostics.divergences == joint.loss_16bit.diagnostics.divergences == 0
    assert {"loss_16bit: alphaN", "loss_16bit: slopeN"} & set(joint.diagnostics.convergence)


@pytest.mark.parametrize("model", [None, "EleutherAI/pythia-1b-deduped"])
def test_the_quantized_loss_is_the_sum(joint: qb.Fit, model: str | None) -> None:
    query = {"n_params": 805_736_448, "tokens": [1e10, 2e11]} | ({"model": model} if model else {})
    loss = joint.predict(bits=3, response="loss", **query)
    qid = joint.predict(bits=3, response="qid", **query)
    assert qid.equals(joint.predict(bits=3, **query))
    base = joint.predict(response="loss_16bit", **query)
    assert base.equals(joint.loss_16bit.predict(**query))
    np.testing.assert_allclose(loss["mean"], qid["mean"] + base["mean"], rtol=1e-12)
    independent = np.hypot(qid["sd"], base["sd"])
    # The correlation of 1,000 independent draws is within four of its standard errors, 0.13, and the variance with it.
    assert (abs(loss["sd"].to_numpy() / independent - 1) < 0.13 / 2).all()


def test_the_share_worse_than_guessing_takes_in_both_bands(joint: qb.Fit) -> None:
    query = {"n_params": 7e9, "tokens": 100e12, "bits": 3}
    of_both = joint.predict(response="loss", ci_prob=0.5, **query)
    vocabulary = round(np.exp(of_both["upper"].item()))
    assert joint.project(vocabulary=vocabulary, **query)["worse_than_random"].item() == pytest.approx(0.25, abs=0.01)


def test_it_is_saved_whole(joint: qb.Fit, tmp_path: Path) -> None:
    joint.save(tmp_path / "joint.nc")
    loaded = qb.load_fit(tmp_path / "joint.nc")
    assert repr(loaded) == repr(joint)
    assert loaded.law == joint.law
    assert_frame_equal(loaded.summary(), joint.summary(), rel_tol=1e-4)  # of log(exp(x)) ranks may differ
    query = {"n_params": 7e9, "tokens": 1e12, "bits": [2, 4], "response": "loss"}
    assert loaded.predict(**query).equals(joint.predict(**query))
    asked = ["project", str(tmp_path / "joint.nc"), "--params", "7B", "--tokens", "1T", "--bits", "2,4"]
    told = CliRunner().invoke(cli, [*asked, "--response", "loss", "--format", "csv"])
    assert pl.read_csv(told.stdout.encode())["median"].to_list() == pytest.approx(
        joint.predict(**query)["median"].to_list()
    )
    assert CliRunner().invoke(cli, ["project", "--published", "unified", "--response", "loss"]).exit_code == 2
    other = dataclasses.replace(joint.law, loss_16bit=dataclasses.replace(joint.law.loss_16bit, title="another"))
    dataclasses.replace(joint, law=other).save(tmp_path / "damaged.nc")
    with pytest.raises(qb.InputError, match="the 16-bit law fitted beside it is not the one"):
        qb.load_fit(tmp_path / "damaged.nc")
    tree = joint.to_datatree()
    assert tree["loss_16bit/posterior"]["alphaN"].shape == (2, 500)


def test_what_cannot_be_answered_is_said(joint: qb.Fit, unified: qb.Fit, pythia: pl.DataFrame) -> None:
    query = {"n_params": 7e9, "tokens": 1e12, "bits": 2}
    with pytest.raises(qb.InputError, match="law 'unified' says nothing of loss; law 'joint' shows"):
        unified.predict(response="loss", **query)
    with pytest.raises(qb.InputError, match="response must be 'qid', 'loss_16bit' or 'loss', not 'q'"):
        joint.predict(response="q", **query)
    with pytest.raises(qb.InputError, match="does not depend on 'bits'"):
        joint.predict(response="loss_16bit", **query)
    with pytest.raises(qb.InputError, match="no row of the table has a 16-bit loss"):
        qb.fit(pythia.with_columns(loss_16bit=None, loss=None), plain("joint"))


def test_a_16_bit_law_of_ones_own_may_stand_beside() -> None:
    law = plain("joint")
    assert law_from_dict(law.to_dict()) == law
    own = {k: v for k, v in law.loss_16bit.to_dict().items() if k not in ("name", "response")}
    found = law_from_dict({**law.to_dict(), "loss_16bit": own})
    assert found.loss_16bit.equation == law.loss_16bit.equation
    assert law.fingerprint() != plain("unified").fingerprint()
    assert "loss = loss_16bit + qid" in str(law)
