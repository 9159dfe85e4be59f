"""Drift of the shipped tiny checkpoints, against NumPy on their files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from qidbayes.errors import InputError
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.drift.run import measure_drift
from qidbayes.measure.drift.spread import Spread
from qidbayes.measure.inputs.checkpoint import load_tokenizer
from qidbayes.measure.inputs.windows import default_begin
from qidbayes.measure.run.context import RunContext
from qidbayes.measure.run.progress import Reporter
from qidbayes.measure.storage.results import Store
from qidbayes.plots import weight_change
from qidbayes.resources import shipped
from qidbayes.table import load_table
from qidbayes.table.drift import read_drift, with_drift, write_drift

TINY = shipped("measurements") / "tiny"
MATRIX = "gpt_neox.layers.1.mlp.dense_4h_to_h"
EVERY = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")


def plan_of(steps: int = 2) -> Plan:
    """The first checkpoints of the smallest model, GPTQ and round-to-nearest at 3 bits."""
    plan = load_plan(TINY / "plan.toml")
    some = [c for c in plan.checkpoints if c.model == "tiny-64x2"][:steps]
    return replace(plan, checkpoints=tuple(some), quantizations=tuple(q for q in plan.quantizations if q.bits == 3))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder = tmp_path_factory.mktemp("drift")
    outcome = measure_drift(plan_of(), folder)
    assert outcome.failed == ()
    return read_drift(folder / "drift.parquet")


def weights(step: int) -> dict[str, np.ndarray]:
    tensors = load_file(TINY / "checkpoints" / "64x2" / f"step{step}" / "model.safetensors")
    names = [f"gpt_neox.layers.{layer}.{part}" for layer in range(2) for part in EVERY]
    return {name: tensors[f"{name}.weight"].astype(np.float64) for name in names}


def rounded(weight: np.ndarray) -> np.ndarray:
    """Symmetric round-to-nearest at 3 bits in groups of 32, as GPTQ's: levels -4 to 3, the widest weight at 3.5.

    In float32, as the product: a group's most negative weight lies half-way between two levels.
    """
    groups = weight.astype(np.float32).reshape(len(weight), -1, 32)
    scale = 2 * np.abs(groups).max(-1, keepdims=True) / 7
    return (np.clip(np.rint(groups / scale), -4, 3) * scale).reshape(weight.shape)


def row(measured: pl.DataFrame, method: str, matrix: str, revision: str = "step4096") -> dict[str, float]:
    return measured.filter(method=method, matrix=matrix, revision=revision).row(0, named=True)


def test_changes_and_rounding_are_what_numpy_finds(measured: pl.DataFrame) -> None:
    now, before = weights(4096), weights(1024)
    relative, moved = {}, {}
    for name, weight in now.items():
        scale = np.sqrt((weight**2).mean())
        relative[name] = np.abs(weight - before[name]) / scale
        moved[name] = np.abs(rounded(weight) - weight) / scale
    whole = np.concatenate([x.ravel() for x in relative.values()])
    rounding = np.concatenate([x.ravel() for x in moved.values()])
    for matrix, change, distance in (
        (MATRIX, relative[MATRIX].ravel(), moved[MATRIX].ravel()),
        ("all", whole, rounding),
    ):
        found = row(measured, "rtn", matrix)
        assert found["n_weights"] == change.size
        assert found["weight_change"] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-5)
        assert found["rounding_error"] == pytest.approx(np.sqrt((distance**2).mean()), rel=1e-5)
        for percent in (5, 25, 50, 75, 95):
            assert found[f"weight_change_p{percent:02d}"] == pytest.approx(np.percentile(change, percent), rel=0.01)
        assert found["moved_farther"] == pytest.approx((distance > change).mean(), abs=2e-4)


def test_output_error_is_that_of_the_outputs(measured: pl.DataFrame, tmp_path: Path) -> None:
    """tr(dW M dWᵀ) is the mean square of the outputs' change: here of the first matrix, from the inputs themselves."""
    name = "gpt_neox.layers.0.attention.query_key_value"
    model = AutoModelForCausalLM.from_pretrained(TINY / "checkpoints" / "64x2" / "step4096", dtype=torch.float32)
    inputs: list[torch.Tensor] = []
    linear = model.get_submodule(name)
    linear.register_forward_pre_hook(lambda _, args: inputs.append(args[0].flatten(0, 1)))
    tokenizer = load_tokenizer(TINY / "tokenizer")
    begin = default_begin(tokenizer.tokenizer, model.config)
    context = RunContext(plan_of(), Store(tmp_path), Reporter())
    windows = context.calibration_windows(tokenizer, begin)[:, :-1]
    with torch.no_grad():
        model(windows)
    x = torch.cat(inputs).double()
    weight = torch.from_numpy(weights(4096)[name])
    error = torch.from_numpy(rounded(weight.numpy())) - weight
    expected = float((x @ error.T).square().mean() / (x @ weight.T).square().mean())
    found = row(measured, "rtn", name)
    assert found["output_error"] == pytest.approx(expected, rel=1e-3)
    assert found["curvature"] == pytest.approx(expected / found["rounding_error"] ** 2, rel=1e-3)
    assert row(measured, "gptq", name)["output_error"] < expected  # what GPTQ is for


def test_a_first_checkpoint_has_no_change(measured: pl.DataFrame) -> None:
    first = row(measured, "rtn", "all", "step1024")
    assert first["weight_change"] is None
    assert first["revision_before"] is None
    assert first["rounding_error"] > 0
    assert row(measured, "rtn", "all")["revision_before"] == "step1024"


def test_a_run_that_stopped_ends_with_the_same_table(measured: pl.DataFrame, tmp_path: Path) -> None:
    plan = plan_of()
    measure_drift(plan, tmp_path, checkpoints=plan.checkpoints[:1])
    part = next((tmp_path / "drift").glob("*.parquet"))
    written = part.stat().st_mtime_ns
    measure_drift(plan, tmp_path)
    assert part.stat().st_mtime_ns == written
    assert read_drift(tmp_path / "drift.parquet").equals(measured)


def test_one_file_for_two_checkpoints_is_refused(tmp_path: Path) -> None:
    plan = plan_of()
    copy = replace(plan.checkpoints[1], source=plan.checkpoints[0].source)
    outcome = measure_drift(replace(plan, checkpoints=(plan.checkpoints[0], copy)), tmp_path)
    assert len(outcome.failed) == 3
    assert "holds the same weights" in outcome.failed[0]


def test_percentiles_are_numpys() -> None:
    values = np.random.default_rng(0).standard_t(3, 50_000).astype(np.float32)
    spread = Spread()
    for part in np.array_split(values, 7):
        spread.add(torch.from_numpy(part))
    for percent in (5, 25, 50, 75, 95):
        assert spread.percentile(percent) == pytest.approx(np.percentile(np.abs(values), percent), rel=0.005)
    assert spread.rms == pytest.approx(np.sqrt((values.astype(np.float64) ** 2).mean()), rel=1e-9)


def test_a_table_of_losses_gets_the_columns(measured: pl.DataFrame) -> None:
    losses = load_table("tiny").filter(model="tiny-64x2", revision="step4096", method="rtn", bits=3)
    joined = with_drift(losses, measured)
    assert joined["rounding_error"].item() == row(measured, "rtn", "all")["rounding_error"]


def test_what_is_no_table_of_drift_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a table"):
        read_drift(shipped("measurements") / "nano" / "nano.parquet")
    write_drift(read_drift("nano-drift"), tmp_path / "mine.parquet")
    assert read_drift(tmp_path / "mine.parquet").equals(read_drift("nano-drift"))


def test_the_figure_draws_every_run() -> None:
    figure = weight_change(read_drift("nano-drift"))
    titles = [axes.get_title() for axes in figure.axes]
    assert "nano-64x2-cosine-0" in titles
    assert len(titles) == 8
