"""Least squares of every shipped law returns the constants of data without noise."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

import qidbayes as qb
from qidbayes.infer.inputs import inputs
from qidbayes.infer.jax_log_density import log_density
from qidbayes.infer.model import model_data, model_of_inputs
from qidbayes.law import law_names, load_law

_PATH = Path(__file__).parents[2] / "benchmarks" / "recovery.py"
_SPEC = importlib.util.spec_from_file_location("recovery", _PATH)
assert _SPEC and _SPEC.loader
recovery = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(recovery)

pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.DataWarning")


@pytest.mark.parametrize("name", [name for name in law_names() if name not in (*recovery.ELSEWHERE, "pooled-bit")])
def test_least_squares_returns_the_constants(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "SD", {kind: dict.fromkeys(sd, 0.0) for kind, sd in recovery.SD.items()})
    law, rng = load_law(name), np.random.default_rng(3)
    rows = inputs(recovery.grid(law), law)
    true = recovery.truth(rows, rng)
    found = qb.least_squares(recovery.simulated(rows, true, rng), law, space="log").constants
    assert set(found) == set(law.constants)
    for constant, value in found.items():
        values = [value] if isinstance(value, float) else list(value.values())
        assert values == pytest.approx(true[constant].ravel().tolist(), rel=0.01), constant


def test_least_squares_cannot_tell_the_constants_of_each_width_from_that_of_widths() -> None:
    law = load_law("pooled-bit")
    with pytest.raises(qb.InputError, match="determine"):
        qb.least_squares(recovery.grid(law), law)


def test_the_slope_of_capacity_is_a_number_where_a_format_has_no_error() -> None:
    """By JAX, which NumPyro samples with: PyTensor's own derivative of a power of 0 is a number in any case."""
    law, rng = load_law("capacity"), np.random.default_rng(3)
    rows = inputs(recovery.grid(law), law)
    assert rows.frame["gaussian_mse"].min() == 0
    rows = inputs(recovery.simulated(rows, recovery.truth(rows, rng), rng), law)
    model = model_of_inputs(rows)
    with jax.enable_x64(True):
        density, names = log_density(model)
        data = [jax.numpy.asarray(model_data(rows)[name]) for name in names]
        point = [jax.numpy.asarray(model.initial_point()[variable.name]) for variable in model.value_vars]
        slope = jax.grad(lambda z: density(z, data))(point)
    assert all(np.isfinite(part).all() for part in slope)
