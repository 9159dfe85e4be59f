"""Rules: what they hold out, held against filters written by hand, and what they refuse."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qidbayes as qb
from qidbayes.score.rules import every_fold, folds

TABLE = qb.load_table("spectra")
N, D, BITS = pl.col("n_params"), pl.col("tokens"), pl.col("bits")


@pytest.mark.parametrize(
    ("rule", "expression"),
    [
        ("tokens > 100B", D > 100_000_000_000),
        ("tokens>1e11", D > 100_000_000_000),
        ("n_params > 2B and tokens > 50B", (N > 2e9) & (D > 5e10)),
        ("tokens < 16B AND bits = 3", (D < 16e9) & (BITS == 3)),
        ("bits != 4", BITS != 4),
        ("bits <= 3 and bits >= 3", BITS == 3),
        ("model = EleutherAI/pythia-1b-deduped", pl.col("model") == "EleutherAI/pythia-1b-deduped"),
        ("model != 'EleutherAI/pythia-1b-deduped'", pl.col("model") != "EleutherAI/pythia-1b-deduped"),
        ("n_params == 85056000", N == 85_056_000),
    ],
)
def test_a_rule_holds_out_what_a_filter_keeps(pythia: pl.DataFrame, rule: str, expression: pl.Expr) -> None:
    (fold,) = folds(pythia, rule)
    assert pythia.filter(fold.held_out).equals(pythia.filter(expression))
    assert pythia.filter(fold.train).equals(pythia.filter(~expression))


@pytest.mark.parametrize(
    ("rule", "expression"),
    [
        ("method = GPTQ", pl.col("method") == "gptq"),
        ("method != Gptq and bits = 4", (pl.col("method") != "gptq") & (BITS == 4)),
        ("method = gptq and group_size = -1", (pl.col("method") == "gptq") & pl.col("group_size").is_null()),
        ("group_size != -1", pl.col("group_size").is_not_null()),
    ],
)
def test_a_rule_names_values_as_tables_read_them(rule: str, expression: pl.Expr) -> None:
    table = qb.load_table("nano")
    assert set(table["group_size"].unique()) == {None, 64}
    (fold,) = folds(table, rule)
    assert table.filter(fold.held_out).equals(table.filter(expression))


@pytest.mark.parametrize(("column", "count"), [("n_params", 6), ("bits", 3), ("model", 6), ("tokens", 20)])
def test_leave_holds_out_every_row_once(pythia: pl.DataFrame, column: str, count: int) -> None:
    found = folds(pythia, f"leave {column}")
    assert len(found) == count
    assert (np.sum([fold.held_out for fold in found], axis=0) == 1).all()
    assert all((fold.train == ~fold.held_out).all() for fold in found)
    assert all(pythia.filter(fold.held_out)[column].n_unique() == 1 for fold in found)


def test_rolling_predicts_each_later_row_once_from_what_is_before_it(pythia: pl.DataFrame) -> None:
    found = folds(pythia, "rolling tokens")
    assert len(found) == 5
    held = np.sum([fold.held_out for fold in found], axis=0)
    later = (pythia["tokens"] > pythia["tokens"].unique().sort()[9]).to_numpy()
    assert (held == later).all()
    for fold in found:
        train, held_out = pythia.filter(fold.train)["tokens"], pythia.filter(fold.held_out)["tokens"]
        assert train.max() < held_out.min()  # type: ignore[operator]
        assert train.len() == (pythia["tokens"] < held_out.min()).sum()


def test_seeing_fits_so_many_of_the_held_out_rows(pythia: pl.DataFrame) -> None:
    (without,), (seeing,), (again,), (other) = (
        folds(pythia, "bits = 4"), folds(pythia, "bits = 4 seeing 6"), folds(pythia, "bits = 4 seeing 6"),
        folds(pythia, "bits = 4 seeing 6", random_seed=1)[0],
    )  # fmt: skip
    seen = seeing.train & ~without.train
    assert seen.sum() == 6
    assert (pythia.filter(seen)["bits"] == 4).all()
    assert not (seeing.train & seeing.held_out).any()
    assert ((seeing.train | seeing.held_out) == (without.train | without.held_out)).all()
    assert (again.train == seeing.train).all()
    assert not (other.train == seeing.train).all()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "is not a condition"),
        ("tokens", "'tokens' is not a condition; write a rule like"),
        ("token > 1B", "no column 'token'; .* the columns are n_params, tokens"),
        ("qid > 1", "no column 'qid'"),
        ("tokens > many", "'many' is not a count"),
        ("tokens > -5", "'-5' is not a count"),
        ("tokens > 1B or bits = 3", "is not a condition"),
        ("method > gptq", "method is text and has no order"),
        ("rolling method", "method is text and has no order"),
        ("rolling bits", "needs 4 values of bits, and the table has 3"),
        ("leave method", "needs 2 values of method, and the table has 1"),
        ("leave nothing", "no column 'nothing'"),
        ("tokens > 1T", "holds out no row"),
        ("tokens > 1", "holds out every row"),
        ("bits = 4 seeing 120", "has 120 rows; see fewer"),
        ("group_size = 64", "holds out no row"),
        ("__import__('os').system('true')", "is not a condition"),
    ],
)
def test_refusals(pythia: pl.DataFrame, rule: str, message: str) -> None:
    with pytest.raises(qb.InputError, match=message):
        folds(pythia, rule)


def test_rules_are_given_once(pythia: pl.DataFrame) -> None:
    with pytest.raises(qb.InputError, match="no split"):
        every_fold(pythia, [])
    with pytest.raises(qb.InputError, match="twice"):
        every_fold(pythia, ["bits = 2", "bits = 2"])


@given(st.text(max_size=40))
def test_any_text_is_folds_or_an_input_error(text: str) -> None:
    try:
        found = folds(TABLE, text)
    except qb.InputError:
        return
    assert all(fold.train.any() and fold.held_out.any() for fold in found)
