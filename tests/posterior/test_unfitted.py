"""What a question names that was not fitted is said; what it leaves empty is as if it had not been asked."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from made import SMOOTH, unified_fit

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.errors import AssumptionWarning, UnfittedWarning
from qidbayes.noise.coordinates import Fitted
from qidbayes.posterior import Fit

CONSTANTS = {"k_ref": np.exp([-3.0, -2.9, -3.1, -3.05]), "beta": 0.5, "alpha": 0.3, "gamma": 5.0}
WHERE = {"n_params": 7e9, "tokens": 1e12, "bits": 4.0}


def data() -> pl.DataFrame:
    return qb.load_table("pythia").filter(pl.col("n_params") < 4e8, pl.col("tokens") > 1e11)


def one_suite() -> Fit:
    return unified_fit(CONSTANTS, SMOOTH, data())


def several() -> Fit:
    """Two suites, two methods, two group sizes."""
    pythia = data().with_columns(group_size=pl.lit(128, pl.Int64))
    mine = pythia.with_columns(suite=pl.lit("mine"), model="my " + pl.col("model"), method=pl.lit("awq"))
    per_channel = pythia.with_columns(group_size=pl.lit(None, pl.Int64), qid=1.2 * pl.col("qid"))
    return unified_fit(CONSTANTS, SMOOTH, pl.concat([pythia, mine, per_channel]))


def ask(fit: Fit, rows: list[Mapping[str, object]] | pl.DataFrame) -> list[tuple[float, ...]]:
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfittedWarning)
        warnings.simplefilter("ignore", AssumptionWarning)
        return fit.predict(frame).select("median", "lower", "upper").rows()


def told(fit: Fit, **question: object) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", AssumptionWarning)  # of what is left out: see test_left_out.py
        fit.predict(**{**WHERE, **question})
    assert all(issubclass(w.category, UnfittedWarning) for w in found) and all(w.filename == __file__ for w in found)
    return [str(w.message) for w in found]


KNOWN = "EleutherAI/pythia-160m-deduped"


@pytest.mark.parametrize("fit", [one_suite(), several()], ids=["one suite", "several"])
def test_each_row_is_answered_as_it_would_be_alone(fit: Fit) -> None:
    """Every pair of rows, beside each other, against each by itself without the columns that it does not name."""
    model = {"n_params": 85_056_000.0, "model": KNOWN}
    rows: list[dict[str, object]] = [
        dict(WHERE),
        WHERE | model,
        WHERE | model | {"revision": "step98000"},
        WHERE | {"suite": "pythia"},
        WHERE | {"suite": "another"},
        WHERE | {"method": "GPTQ"},
        WHERE | {"method": "awq", "dataset": "c4"},
        WHERE | {"tokens": 5e11, "bits": 3.0},
    ]
    alone = [ask(fit, [row])[0] for row in rows]
    together = ask(fit, rows)
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            np.testing.assert_allclose(ask(fit, [one, other]), [alone[i], alone[j]], rtol=1e-9)


@pytest.mark.parametrize("column", ["suite", "model", "revision", "method", "dataset"])
@pytest.mark.parametrize("dtype", [pl.String, pl.Null, pl.Categorical])
def test_an_empty_column_is_no_column(column: str, dtype: type[pl.DataType]) -> None:
    fit, plain = one_suite(), pl.DataFrame(WHERE)
    empty = plain.with_columns(pl.Series(column, [None], dtype=dtype))
    assert ask(fit, empty) == ask(fit, plain)
    assert ask(fit, plain) == ask(fit, plain.with_columns(suite=pl.lit("other"))), "as an unknown suite's"
    assert ask(fit, plain) != ask(fit, plain.with_columns(suite=pl.lit("pythia"))), "unlike a fitted suite's"


def test_the_joint_of_named_and_unnamed_rows_has_the_moments_of_each() -> None:
    fit = one_suite()
    named = WHERE | {"n_params": 85_056_000.0, "model": KNOWN, "revision": "step98000"}
    rows = pl.DataFrame([named, WHERE | {"bits": 3.0}], infer_schema_length=None)
    both = fit.joint(rows)
    for i, part in enumerate((rows[:1], pl.DataFrame(WHERE | {"bits": 3.0}))):
        alone = fit.joint(part)
        np.testing.assert_allclose(both.mean[:, 0, i], alone.mean[:, 0, 0], rtol=1e-9)
        np.testing.assert_allclose(both.covariance[:, 0, i, i], alone.covariance[:, 0, 0, 0], rtol=1e-9)


@pytest.mark.parametrize("left_out", ["n_params", "tokens", "bits"])
def test_what_the_discrepancy_needs_is_asked_for(left_out: str) -> None:
    """Of laws without N, say, whose discrepancy still depends on it."""
    place, question = Fitted(data()), pl.DataFrame(WHERE)
    for frame in (question.drop(left_out), question.with_columns(pl.lit(None, pl.Float64).alias(left_out))):
        with pytest.raises(qb.InputError, match=f"depends on {left_out} too: give it with every question"):
            place.coordinates(frame)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"suite": "pythai"}, "suite 'pythai' was not fitted: answered as of a new suite; did you mean 'pythia'?"),
        ({"suite": "PYTHIA "}, "suite 'PYTHIA ' was not fitted: answered as of a new suite; did you mean 'pythia'?"),
        ({"suite": "opt"}, "suite 'opt' was not fitted: answered as of a new suite; fitted: 'pythia', 'mine'"),
        ({"method": "gptq-v2"}, "method 'gptq-v2' was not fitted: answered as of a new method; did you mean 'gptq'?"),
        ({"dataset": ["refinedwep", "c4"]}, "dataset 'refinedwep' and 1 more were not fitted: answered as of a new "
         "dataset; did you mean 'refinedweb'?"),
        ({"group_size": 64}, "group_size 64 was not fitted: answered as of a new group_size; fitted: 128, "
         "null (per channel, or unknown)"),
        ({"method": "awq", "group_size": -1}, "method 'awq', group_size null (per channel, or unknown) were not "
         "fitted together: answered as of a new kind of quantization"),
    ],
)  # fmt: skip
def test_what_was_not_fitted_is_said(question: dict[str, object], message: str) -> None:
    assert told(several(), **question) == [message]


@pytest.mark.parametrize(
    "question",
    [{}, {"suite": "mine"}, {"method": "GPTQ"}, {"method": "Awq", "group_size": 128},
     {"method": "gptq", "group_size": -1}],
)  # fmt: skip
def test_what_was_fitted_is_answered_without_a_word(question: dict[str, object]) -> None:
    assert told(several(), **question) == []


def test_names_and_sizes_are_read_as_tables_have_them() -> None:
    fit = several()
    named = {"suite": "pythia", "method": "gptq", "group_size": None, "dataset": "refinedweb"}
    frame = pl.DataFrame(WHERE | {"n_params": 4e8} | named)
    same = ask(fit, frame)
    assert ask(fit, frame.with_columns(method=pl.lit("GPTQ"), group_size=pl.lit(-1))) == same
    assert ask(fit, frame.with_columns(bits=pl.lit(4.0, pl.Float32), group_size=pl.lit(-1.0))) == same
    assert ask(fit, frame.with_columns(group_size=pl.lit(128))) != same


def test_every_way_of_asking_says_it() -> None:
    fit = several()
    question = {"n_params": 7e9, "bits": 4.0, "suite": "pythai"}
    cells = several().data.head(2).with_columns(model=pl.lit("new"), cell_seconds=1.0, checkpoint_seconds=1.0)
    asks = (
        lambda: qb.next_measurements(fit, cells, n_params=7e9, tokens=1e12, bits=4.0, suite="pythai", picks=1),
        lambda: fit.tokens_to_threshold(0.2, **question),
        lambda: fit.project(**question),
        lambda: fit.training_level([0.05], **question),
        lambda: qb.advise(fit, tokens=1e12, max_qid=0.2, n_params=7e9, suite="pythai"),
        lambda: qb.pareto(fit, memory=8e9, tokens=1e12, suite="pythai"),
        lambda: fit.joint(pl.DataFrame(WHERE | {"suite": "pythai"})),
        lambda: fit.log_draws(pl.DataFrame(WHERE | {"suite": "pythai"})),
    )
    for one in asks:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            one()
        assert any("did you mean 'pythia'?" in str(w.message) for w in found), one


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
def test_every_command_says_it_once(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    several().save(path)
    name, *options = command
    said = CliRunner().invoke(cli, [name, str(path), *options, "--suite", "pythai"])
    line = "warning: suite 'pythai' was not fitted: answered as of a new suite; did you mean 'pythia'?"
    assert said.stderr.count(line) == 1, said.output
    right = CliRunner().invoke(cli, [name, str(path), *options, "--suite", "pythia", "--method", "GPTQ"])
    assert right.exception is None or right.exit_code == 1, right.output
    assert "was not fitted" not in right.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "GPTQ", "--bits", "7"], "--bits: no row has 7"),
        (["--method", "GTPQ"], "--method: no row has gtpq"),
    ],
)
def test_fit_chooses_rows_as_tables_read_them(options: list[str], says: str) -> None:
    done = CliRunner().invoke(cli, ["fit", "pythia", *options])
    assert isinstance(done.exception, qb.InputError) and says in str(done.exception)


def test_a_law_that_knows_no_such_group_names_the_nearest() -> None:
    with pytest.raises(
        qb.InputError, match=r"model 'EleutherAI/pythia-160m' was not fitted \(did you mean .*160m-deduped"
    ):
        one_suite().predict(**WHERE, model="EleutherAI/pythia-160m")
