"""A saved fit answers as before, opens in ArviZ, and is whole or refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import arviz
import numpy as np
import polars as pl
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import qidbayes as qb
from qidbayes.noise.coordinates import Fitted
from qidbayes.posterior import store
from qidbayes.posterior.store import sealed


@pytest.fixture(scope="session")
def saved(per_bit: qb.Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fits") / "per-bit.nc"
    per_bit.save(path)
    return path


def test_its_rows_are_still_those_of_the_table(saved: Path, per_bit: qb.Fit) -> None:
    again = qb.load_fit(saved).data
    assert again.null_count().equals(per_bit.data.null_count())
    assert again["group_size"].is_null().all()  # not a number would be another kind of quantization
    assert (Fitted(again).coordinates(qb.load_table("pythia"))["kind"] == 0).all()


def test_it_answers_as_before(saved: Path, per_bit: qb.Fit) -> None:
    again = qb.load_fit(saved)
    assert again.law == per_bit.law
    assert dict(again.attributes) == dict(per_bit.attributes)
    assert replace(again.diagnostics, convergence={}) == replace(per_bit.diagnostics, convergence={})
    assert again.coords == per_bit.coords
    assert_frame_equal(again.summary(), per_bit.summary(), rel_tol=1e-4)  # of log(exp(x)) ranks may differ
    asked = {"n_params": [1e9, 7e9], "bits": [2, 3]}
    assert again.predict(tokens=1e13, **asked).equals(per_bit.predict(tokens=1e13, **asked))
    model = per_bit.coords["model"][0]
    known = {"tokens": 1e12, "model": model, **asked}
    assert again.predict(**known).equals(per_bit.predict(**known))
    assert again.tokens_to_threshold(0.2, **asked).equals(per_bit.tokens_to_threshold(0.2, **asked))
    assert again.data.select("model", "tokens", "bits", "qid").equals(
        per_bit.data.select("model", pl.col("tokens").cast(pl.Float64), "bits", "qid")
    )


def test_arviz_reads_it_and_agrees(saved: Path, per_bit: qb.Fit) -> None:
    with xarray.open_datatree(saved, engine="netcdf4") as tree:
        assert set(tree.children) == {"posterior", "sample_stats", "observed_data", "constant_data"}
        assert tree["sample_stats"]["diverging"].dtype == bool
        theirs = arviz.summary(tree, var_names=["beta"], round_to="none")
    ours = per_bit.summary().filter(pl.col("name") == "beta")
    for column in ("mean", "sd", "ess_bulk", "r_hat"):
        np.testing.assert_allclose(theirs[column].astype(float), ours[column], rtol=1e-6)
    in_memory = arviz.summary(per_bit.to_datatree(), var_names=["beta"], round_to="none")
    np.testing.assert_allclose(in_memory["mean"].astype(float), ours["mean"], rtol=1e-6)


def test_asking_needs_no_sampler(saved: Path) -> None:
    code = f"""
import sys, json, qidbayes as qb
fit = qb.load_fit({str(saved)!r})
fit.summary(); fit.interval("beta"); fit.predict(n_params=1e9, tokens=1e12, bits=4)
fit.tokens_to_threshold(0.2, n_params=1e9, bits=4); fit.project(n_params=1e9, bits=4)
heavy = ("pymc", "jax", "numpyro", "pytensor", "arviz", "scipy", "torch", "xarray", "matplotlib", "netCDF4")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []


def test_a_file_that_is_not_a_fit_is_refused(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "x.nc"
    with pytest.raises(qb.InputError, match="there is no such file"):
        qb.load_fit(path)
    for content in (b"", b"hello", b"CDF\x01" + b"\xff" * 9, b"\x89HDF\r\n\x1a\n" + bytes(500)):
        path.write_bytes(content)
        with pytest.raises(qb.InputError, match="is not a saved fit, or a part of one: the seal at its end is missing"):
            qb.load_fit(path)
        path.write_bytes(sealed(content))
        with pytest.raises(qb.InputError, match="is not a saved fit of this version, which has an index at its end"):
            qb.load_fit(path)
        path.write_bytes(sealed(b"CDF" + store._INDEX + content))
        with pytest.raises(qb.InputError, match="is not a saved fit, or a damaged one"):
            qb.load_fit(path)
    with pytest.raises(qb.InputError, match="is not a file"):
        qb.load_fit(tmp_path)
    path.unlink()
    xarray.Dataset({"x": ("y", [1.0, 2.0])}).to_netcdf(path, engine="netcdf4")
    path.write_bytes(sealed(path.read_bytes()))
    with pytest.raises(qb.InputError, match="is not a saved fit of this version"):
        qb.load_fit(path)


def test_a_fit_that_says_something_else_is_refused(
    tmp_path: Path, per_bit: qb.Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.nc"
    attributes = store._attributes(per_bit)
    equation = json.dumps({**per_bit.law.to_dict(), "equation": "__import__('os')"})
    for said in ({"format": "qidbayes fit 0"}, {"law": equation}, {"diagnostics": "[]"}, {"attributes": "{}"}):
        with monkeypatch.context() as patch:
            patch.setattr(store, "_attributes", lambda _, said=said: {**attributes, **said})
            per_bit.save(path)
        with pytest.raises(qb.InputError):
            qb.load_fit(path)
    replace(per_bit, draws={name: v for name, v in per_bit.draws.items() if name != "beta"}).save(path)
    with pytest.raises(qb.InputError, match="has no draws of 'beta'"):
        qb.load_fit(path)


@settings(max_examples=60)
@given(st.data())
def test_a_byte_less_or_another_byte_is_refused(saved: Path, data: st.DataObject) -> None:
    """The seal is checked before the C library sees a byte: it can crash or hang on what is damaged."""
    content = bytearray(saved.read_bytes())
    path = saved.with_name("damaged.nc")
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(qb.InputError, match=r"seal|not the ones that were saved") as refusal:
        qb.load_fit(path)
    assert str(path) in str(refusal.value)


def test_a_save_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, per_bit: qb.Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fit.nc"
    per_bit.save(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qidbayes.posterior.store._chain_and_draw", fail)
    with pytest.raises(KeyboardInterrupt):
        per_bit.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(qb.InputError, match="cannot be written"):
        per_bit.save(tmp_path / "file" / "fit.nc")
