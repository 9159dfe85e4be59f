"""Evaluation that ends early: the sweep, the plain path and a run, against full ones cut short by hand."""

from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from measure.conftest import write_plan
from measure.decoders import sentences
from qidbayes.measure import load_plan
from qidbayes.measure.decoder.blocks import block_ends
from qidbayes.measure.decoder.evaluate import paired_difference
from qidbayes.measure.quantize import GPTQ, RTN
from qidbayes.measure.run import checkpoint_run
from qidbayes.measure.run.local import measure
from qidbayes.measure.run.sweep import sweep
from qidbayes.table import read_table

CPU = torch.device("cpu")
UNTIL = 0.35
COST = ["seconds_quantize", "seconds_evaluate", "peak_memory_gib"]


def wanted(losses: Tensor, baseline: Tensor) -> int:
    """The windows that evaluation ends after, worked out from all losses."""
    for end in block_ends(len(baseline)):
        difference = paired_difference(losses[:end], baseline[:end])
        if difference.standard_error <= UNTIL * abs(difference.mean):
            return end
    return len(baseline)


@pytest.mark.parametrize("orders", [1, 2])
def test_the_sweep_measures_what_a_full_one_does_on_its_first_windows(
    trained: PreTrainedModel, calibration: Tensor, orders: int
) -> None:
    windows = [sentences(256, 33, seed=10_003), sentences(40, 33, seed=10_004)]
    quantizers = [GPTQ(2, 32), RTN(2, 64), RTN(2, 16), RTN(3, 64), RTN(8, 32)]
    before = {name: weight.clone() for name, weight in trained.state_dict().items()}
    full = sweep(trained, quantizers, calibration, windows, CPU, orders=orders)
    found = sweep(trained, quantizers, calibration, windows, CPU, orders=orders, until=UNTIL)
    assert all(torch.equal(weight, before[name]) for name, weight in trained.state_dict().items())
    for ours, whole in zip(found.baseline, full.baseline, strict=True):
        torch.testing.assert_close(ours, whole, rtol=0, atol=1e-6)
    ended = []
    for variant, all_of_it in zip(found.variants, full.variants, strict=True):
        assert variant.report == all_of_it.report
        for s, baseline in enumerate(full.baseline):
            end = wanted(all_of_it.orders[0][s].losses, baseline)
            for one, whole in zip(variant.orders, all_of_it.orders, strict=True):
                assert len(one[s].losses) == end
                for name in ("losses", "kld", "top_agreement"):
                    torch.testing.assert_close(getattr(one[s], name), getattr(whole[s], name)[:end], rtol=0, atol=1e-6)
            ended.append(end)
    assert len(set(ended)) >= 4, ended  # some ended early, some did not, and not all at one block


def plan_until(folder: Path, until: str = "until = 0.3\n") -> Path:
    def change(text: str) -> str:
        return text.replace("tokens = 1_024\n", f"tokens = 8_192\n{until}").replace("bits = [3, 4]", "bits = [2, 3, 8]")

    return write_plan(folder, change)


def test_a_run_keeps_the_windows_it_took_and_the_plain_path_takes_the_same(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan_file.exists()
    measure(load_plan(plan_until(tmp_path, "")), tmp_path / "full")
    plan = load_plan(plan_until(tmp_path))
    measure(plan, tmp_path / "swept")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_run, "sweep", refused)
        with pytest.warns(UserWarning, match="the sweep failed"):
            measure(plan, tmp_path / "plain")
    full, swept, plain = (read_table(tmp_path / name / "table.parquet") for name in ("full", "swept", "plain"))
    for one, other in zip(swept.iter_rows(named=True), plain.iter_rows(named=True), strict=True):
        for name in set(one) - set(COST):
            assert one[name] == (pytest.approx(other[name], abs=2e-5) if isinstance(one[name], float) else other[name])
    assert swept.filter(method="none")["n_eval_tokens"].unique().to_list() == [8_192]
    assert swept["n_eval_tokens"].n_unique() >= 3
    assert (swept["loss_16bit"] - full["loss_16bit"]).abs().max() < 1e-6  # type: ignore[operator]
    both = swept.filter(pl.col("method") != "none"), full.filter(pl.col("method") != "none")
    early = both[0]["n_eval_tokens"] < 8_192
    assert (both[0]["qid"] - both[1]["qid"]).abs().filter(~early).max() < 1e-6  # type: ignore[operator]
    told = (both[0]["qid_se"] / both[0]["qid"].abs()).filter(early)
    assert told.max() <= 0.3  # type: ignore[operator]
    for row in swept.filter(pl.col("method") != "none").iter_rows(named=True):
        assert row["loss"] == pytest.approx(row["loss_16bit"] + row["qid"], abs=1e-12)


def refused(*_: object, **__: object) -> None:
    raise RuntimeError("no sweep today")


def test_what_was_measured_until_something_else_is_measured_anew_but_for_the_16_bit_model(
    plan_file: Path, tmp_path: Path
) -> None:
    assert plan_file.exists()
    measure(load_plan(plan_until(tmp_path)), tmp_path / "run")
    first = read_table(tmp_path / "run" / "table.parquet")
    measure(load_plan(plan_until(tmp_path, "until = 0.9\n")), tmp_path / "run")
    second = read_table(tmp_path / "run" / "table.parquet")
    assert (second["n_eval_tokens"] <= first["n_eval_tokens"]).all()
    assert (second["n_eval_tokens"] < first["n_eval_tokens"]).any()
    unchanged = [table.filter(method="none") for table in (first, second)]
    assert unchanged[0].equals(unchanged[1])  # seconds too: not measured again
