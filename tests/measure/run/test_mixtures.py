"""Mixtures of experts to the table: the sweep against the plain path, and what a row says of experts."""

from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import OlmoeConfig, OlmoeForCausalLM

from measure.conftest import write_plan
from measure.mixtures import MIXTURES, UNSEEN, random_mixture
from measure.run.test_sweep import one_by_one, texts
from qidbayes.measure import load_plan
from qidbayes.measure.decoder import layers
from qidbayes.measure.inputs.active import active_parameters
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.inputs.experts import list_experts
from qidbayes.measure.inputs.sizes import size_of
from qidbayes.measure.quantize import GPTQ, RTN, Floats, GPTQFloats
from qidbayes.measure.quantize.activations import rounding_inputs
from qidbayes.measure.run import layer_solver
from qidbayes.measure.run.local import measure
from qidbayes.measure.run.sweep import sweep

CPU = torch.device("cpu")
SMALL = (
    GPTQ(2, 16),
    GPTQ(4, 8, symmetric=False, true_sequential=False),
    GPTQFloats("nvfp4", act_order=True),
    RTN(3, 16),
)


@pytest.mark.parametrize("waiting", [0, 2**30])  # bytes of passes that may wait: none do, all do
@pytest.mark.parametrize("name", MIXTURES)
def test_the_sweep_gives_the_weights_and_losses_of_the_plain_path(
    name: str, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of two sequences, so that experts see no token of some; a biased router gives one none of any."""
    monkeypatch.setattr(layers, "_NUMBERS_CPU", 32 * 12 * 2)
    monkeypatch.setattr(layer_solver, "_WAITING_CPU", waiting)
    model = random_mixture(name, unseen=True)
    list_experts(model)
    calibration, windows = texts()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = sweep(model, SMALL, calibration, windows, CPU)
    for quantizer, variant in zip(SMALL, found.variants, strict=True):
        report, losses = one_by_one(model, quantizer, calibration, windows)
        assert variant.report == report
        for ours, theirs in zip(variant.losses, losses, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    if name in ("gpt_oss", "deepseek_v3"):
        assert found.variants[0].report is not None
        assert found.variants[0].report.too_few[f"model.layers.1.mlp.experts.{UNSEEN}"] == 0


def test_how_many_experts_are_calibrated_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_mixture("qwen3_moe")
    list_experts(model)
    calibration, windows = texts()
    quantizers = [GPTQ(2, 16), GPTQ(3, None, act_order=True)]
    together = sweep(model, quantizers, calibration, windows, CPU)
    monkeypatch.setattr(layer_solver, "_WAITING_CPU", 0)
    monkeypatch.setattr(layer_solver.LayerSolver, "_experts_at_once", lambda *_: 3)
    apart = sweep(model, quantizers, calibration, windows, CPU)
    for one, other in zip(together.variants, apart.variants, strict=True):
        assert one.report == other.report
        assert all(torch.equal(x, y) for x, y in zip(one.losses, other.losses, strict=True))


@pytest.mark.parametrize("quantizer", [RTN(8, None, activations=True), Floats("nvfp4", activations=True)], ids=str)
def test_inputs_of_experts_without_tokens_are_rounded_too(quantizer: RTN | Floats) -> None:
    model = random_mixture("qwen3_moe")
    list_experts(model)
    ids = torch.randint(3, 64, (1, 1))
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        linears = [m for m in model.get_submodule("model.layers").modules() if isinstance(m, torch.nn.Linear)]
        with rounding_inputs(quantizer, linears):
            rounded = model(input_ids=ids).logits
    assert torch.isfinite(rounded).all()
    assert not torch.equal(rounded, plain)


def olmoe(unseen: int) -> OlmoeForCausalLM:
    torch.manual_seed(0)
    config = OlmoeConfig(
        vocab_size=512, hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_experts=8, num_experts_per_tok=2, max_position_embeddings=64, initializer_range=0.2,
        pad_token_id=0,
    )  # fmt: skip
    model = OlmoeForCausalLM(config).eval()
    with torch.no_grad():  # chosen only by what all others repel
        for layer in model.model.layers:
            layer.mlp.gate.weight[unseen] = 0
            layer.mlp.gate.weight[unseen + 1] = -layer.mlp.gate.weight[unseen - 1]
    return model


def test_a_run_counts_active_parameters_and_names_experts_that_saw_too_little(tmp_path: Path) -> None:
    model = olmoe(unseen=3)
    model.save_pretrained(tmp_path / "models" / "step100")
    # Listed in the files, as everybody's are, and in one tensor in transformers' model.
    names = load_file(tmp_path / "models" / "step100" / "model.safetensors").keys()
    assert "model.layers.1.mlp.experts.7.down_proj.weight" in names
    n_params = count_parameters(model)
    active = n_params - 2 * 6 * 3 * 32 * 16  # two layers, six of eight experts, three matrices

    def change(text: str) -> str:
        text = text.replace("steps = [100, 200, 400]", "steps = [100]").replace("windows = 8", "windows = 1")
        awq = '[[quantizations]]\nmethod = "awq"\nbits = 3\ngroup_size = 16\n'
        wanted = text.split("n_params = ")[1].split("\n")[0]
        return text.replace(f"n_params = {wanted}", f"n_params = {n_params}").replace(
            "[calibration]", f"{awq}\n[calibration]"
        )

    plan = load_plan(write_plan(tmp_path, change))
    with pytest.warns(
        UserWarning, match=r"of 16 experts saw fewer calibration tokens than they have inputs, model"
    ) as w:
        outcome = measure(plan, tmp_path / "run")
    assert outcome.failed == ()
    assert len(w) == 1  # gptq and awq see the same
    table = pl.read_parquet(tmp_path / "run" / "table.parquet")
    assert table["n_params"].unique().to_list() == [n_params]
    assert table["n_params_active"].unique().to_list() == [active] == [active_parameters(model)]
    size = size_of(tmp_path / "models" / "step100")
    assert (size.n_params, size.active) == (n_params, active)
    calibrated = table.filter(pl.col("method").is_in(["gptq", "awq"]))
    assert calibrated.height == 2
    assert (calibrated["experts_undersampled"] > 0).all()
    assert (calibrated["expert_tokens"] < 32).all()
    others = table.filter(~pl.col("method").is_in(["gptq", "awq"]))
    assert others.select("expert_tokens", "experts_undersampled").null_count().row(0) == (3, 3)
    (log,) = (path.read_text() for path in (tmp_path / "run" / "logs").glob("*.txt"))
    assert f"({calibrated['expert_tokens'].min()})" in log
    assert log.count("model.layers.") == calibrated["experts_undersampled"].sum()
