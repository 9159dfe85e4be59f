"""A saved fit is judged by its draws, by ArviZ's statistics; what it says of itself is not believed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arviz_stats.base import array_stats
from faults.artifacts import sound_fit
from quick import quick

import qidbayes as qb
from qidbayes.posterior import store
from qidbayes.posterior.constants import raw_constants
from qidbayes.posterior.convergence import bfmi, convergence_of
from qidbayes.posterior.diagnostics import Convergence, Diagnostics
from qidbayes.posterior.store import sealed, unsealed

CHAINS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "good": lambda rng: rng.normal(size=(4, 1000, 40)),
    "odd": lambda rng: rng.normal(size=(4, 333, 3)),
    "slow": lambda rng: np.cumsum(rng.normal(size=(4, 500, 3)), axis=1),
    "contrary": lambda rng: np.diff(rng.normal(size=(4, 501, 3)), axis=1),
    "apart": lambda rng: rng.normal(size=(4, 200, 3)) + np.arange(4)[:, None, None],
    "of other widths": lambda rng: rng.normal(size=(4, 200, 3)) * np.arange(1, 5)[:, None, None],
    "long tails": lambda rng: rng.standard_cauchy(size=(4, 500, 3)),
    "equal draws": lambda rng: rng.normal(size=(4, 200, 3)).round(),
    "stuck": lambda rng: np.ones((4, 100, 2)),
    "one chain": lambda rng: rng.normal(size=(1, 400, 2)),
    "few": lambda rng: rng.normal(size=(2, 4, 3)),
    "too few": lambda rng: rng.normal(size=(2, 3, 3)),
    "none": lambda rng: np.where(rng.random((4, 100, 2)) < 0.01, np.nan, 1.0),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHAINS)
def test_the_statistics_are_arvizs(name: str) -> None:
    values = CHAINS[name](np.random.default_rng(0))
    columns = np.moveaxis(values, -1, 0)
    axes = {"chain_axis": 1, "draw_axis": 2}
    theirs = [
        np.atleast_1d(array_stats.rhat(columns, **axes)),
        np.atleast_1d(array_stats.ess(columns, method="bulk", **axes)),
        np.atleast_1d(array_stats.ess(columns, method="tail", prob=(0.05, 0.95), **axes)),
    ]
    ours = np.array([[one.r_hat, one.ess_bulk, one.ess_tail] for one in convergence_of(values)]).T
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_bfmi_is_arvizs_but_for_the_divisor() -> None:
    energy = np.cumsum(np.random.default_rng(0).normal(size=(3, 200)), axis=1)
    np.testing.assert_allclose(np.array(bfmi(energy)) * 199 / 200, array_stats.bfmi(energy), rtol=1e-12)


def test_twenty_numbers_are_judged_in_no_time() -> None:
    values = np.random.default_rng(0).normal(size=(4, 1000, 20))
    with quick(0.5):
        convergence_of(values)


def beta(fit: qb.Fit, change: Callable[[np.ndarray], np.ndarray]) -> qb.Fit:
    draws = {**fit.draws, "beta": change(fit.draws["beta"])}
    return replace(fit, draws={**draws, **raw_constants(fit.law, draws)})


WRONG: dict[str, tuple[Callable[[qb.Fit], qb.Fit], str]] = {
    "apart": (lambda fit: beta(fit, lambda b: b + 0.1 * np.arange(4)[:, None]), "r_hat is not below 1.01 for 1 of 7"),
    "slow": (
        lambda fit: beta(fit, lambda b: np.repeat(b[:, ::50], 50, axis=1)),
        "ess_bulk is not above 400 for 1",
    ),
    "diverging": (
        lambda fit: replace(fit, stats={**fit.stats, "diverging": np.arange(2000).reshape(4, 500) % 100 == 0}),
        "20 divergent transitions",
    ),
    "energy": (
        lambda fit: replace(fit, stats={**fit.stats, "energy": np.cumsum(fit.stats["energy"], axis=1)}),
        "E-BFMI is not > 0.3 in 4 chains",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_file_says_of_itself_is_not_believed(name: str, tmp_path: Path) -> None:
    """The fit says that it is sound, or says nothing at all."""
    good, (wrong, says) = sound_fit(), WRONG[name]
    good.save(tmp_path / "good.nc")
    assert qb.load_fit(tmp_path / "good.nc").diagnostics.problems() == []
    claims = Diagnostics({"beta": Convergence(1.0, 4000.0, 4000.0)}, 0, (1.0,), good.diagnostics.contraction)
    for claimed in (claims, replace(claims, convergence={}, bfmi=())):
        replace(wrong(good), diagnostics=claimed).save(tmp_path / "wrong.nc")
        found = qb.load_fit(tmp_path / "wrong.nc").diagnostics
        assert len([problem for problem in found.problems() if problem.startswith(says)]) == 1, found.problems()
        assert set(found.convergence) == {"k_ref", "beta", "alpha", "gamma", "sigma", "checkpoint_sd", "model_sd"}


def test_constants_and_law_have_to_be_those_of_the_draws(tmp_path: Path) -> None:
    good, path = sound_fit(), tmp_path / "x.nc"
    replace(good, draws={**good.draws, "k": good.draws["k"] * (1 + 1e-6)}).save(path)
    with pytest.raises(qb.InputError, match="the draws of 'k' do not follow from those of the law's parameters"):
        qb.load_fit(path)
    replace(good, attributes={**good.attributes, "law_fingerprint": "0" * 64}).save(path)
    with pytest.raises(qb.InputError, match="holds another law than the one that was fitted"):
        qb.load_fit(path)
    replace(good, attributes={**good.attributes, "law_fingerprint": good.law.fingerprint()}).save(path)
    assert qb.load_fit(path).law == good.law
    replace(good, diagnostics=replace(good.diagnostics, contraction={"beta": 1.0})).save(path)
    with pytest.raises(qb.InputError, match="its diagnostics do not say whether 'k_ref' is identified"):
        qb.load_fit(path)


def with_index(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Seal a fit again whose index somebody has changed."""
    head, mark, index = unsealed(path.read_bytes(), "x").rpartition(store._INDEX)
    said = json.loads(index)
    change(said)
    path.write_bytes(sealed(head + mark + json.dumps(said).encode()))


CLAIMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "one array": lambda said: said["draws"]["beta"].update(shape=[2**20, 2**20]),
    "one beyond": lambda said: said["draws"]["beta"].update(at=10**9),
    "many times the same": lambda said: said["draws"].update({f"x{i}": said["draws"]["beta"] for i in range(10_000)}),
    "a column": lambda said: said["data"]["qid"].update(shape=[2**40]),
    "statistics": lambda said: [place.update(shape=[2**15, 2**15]) for place in said["stats"].values()],
    "less than nothing": lambda said: said["draws"]["beta"].update(at=-8),
    "of no type": lambda said: said["draws"]["beta"].update(type="O8"),
    "of many dimensions": lambda said: said["draws"]["beta"].update(shape=[1] * 64),
}


def test_a_file_claims_no_more_memory_than_it_has(tmp_path: Path) -> None:
    for i, change in enumerate(CLAIMS.values()):
        sound_fit().save(tmp_path / f"{i}.nc")
        with_index(tmp_path / f"{i}.nc", change)
    code = f"""
import resource, qidbayes as qb, qidbayes.posterior.store
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for i in range({len(CLAIMS)}):
    try:
        qb.load_fit(f"{{i}}.nc")
    except qb.InputError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    *said, grown = done.stdout.splitlines()
    assert [line.split(" by its")[0].split(" its index")[0] for line in said] == [
        f"{i}.nc: is a damaged fit:" for i in range(len(CLAIMS))
    ]
    assert int(grown) < 100  # MiB; a file has a quarter of one


def test_the_refusal_names_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    sound_fit().save(path)
    with_index(path, CLAIMS["one array"])
    with pytest.raises(qb.InputError, match=r"1048576 × 1048576 numbers are in it.* more than its 262kB"):
        qb.load_fit(path)


def test_a_damaged_file_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """No library that can hang sees it, nothing waits for the process to end, and its exit status is the caller's."""
    path = tmp_path / "x.nc"
    sound_fit().save(path)
    content = bytearray(unsealed(path.read_bytes(), "x"))
    for at in range(0, 4096, 7):  # the superblock and the root of the NetCDF
        content[at] ^= 0xFF
    path.write_bytes(sealed(bytes(content)))
    (tmp_path / "none.nc").write_bytes(sealed(bytes(content[: content.rfind(store._INDEX)])))
    code = f"""
import atexit, sys, threading, qidbayes as qb
qb.load_fit({str(path)!r})  # what polars registers when it is first used is its own
registered = []
atexit.register = lambda *a, **k: registered.append(a)
threads = threading.active_count()
qb.load_fit({str(path)!r})
try:
    qb.load_fit({str(tmp_path / "none.nc")!r})
except qb.InputError:
    print("refused", registered, threading.active_count() - threads, "netCDF4" in sys.modules)
sys.exit(7)
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (7, "refused [] 0 False"), done.stderr
    assert time.monotonic() - started < 25
