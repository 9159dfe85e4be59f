"""A run end to end, in this process: its numbers, its failures, and what it does again."""

import copy
import dataclasses
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from measure.conftest import TINY, small_model, write_plan
from measure.prequantized.packers import by_hand, gptq_tensors, nearest_linear, write_checkpoint
from qidbayes.cli.measure import measure as command
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.decoder.batches import in_order
from qidbayes.measure.decoder.evaluate import window_losses
from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.inputs.windows import cut_windows
from qidbayes.measure.plan.plan import Checkpoint
from qidbayes.measure.quantize import quantizer_from_settings
from qidbayes.measure.run import checkpoint_run
from qidbayes.measure.run.local import measure
from qidbayes.table import read_table

COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")


def loss_by_hand(model: AutoModelForCausalLM, windows: torch.Tensor) -> list[float]:
    with torch.no_grad():
        return [float(model(input_ids=w[None], labels=w[None]).loss) for w in windows]


def divergence_by_hand(original: Path, model: AutoModelForCausalLM, windows: torch.Tensor) -> float:
    with torch.no_grad():
        p, q = (
            m(input_ids=windows[:, :-1]).logits.double().log_softmax(-1)
            for m in (AutoModelForCausalLM.from_pretrained(original), model)
        )
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_rows_say_what_happened(plan: Plan, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    outcome = measure(plan, tmp_path / "run")
    assert (outcome.rows, outcome.failed, outcome.elsewhere) == (12, (), ())
    table = read_table(tmp_path / "run" / "table.parquet")
    assert table.columns[:3] == ["suite", "model", "revision"]
    assert table["tokens"].unique(maintain_order=True).to_list() == [200_000, 400_000, 800_000]

    windows = cut_windows(plan.evaluation.datasets[0], tokenizer, 32, 32, plan.seed).tokens
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "models" / "step200")
    before = loss_by_hand(model, windows)
    quantizer_from_settings({"method": "rtn", "bits": 3, "group_size": "channel"}).quantize(model, torch.empty(0))
    after = loss_by_hand(model, windows)
    (row,) = table.filter(revision="step200", method="rtn", bits=3).to_dicts()
    assert row["loss_16bit"] == pytest.approx(sum(before) / 32, abs=1e-5)
    assert row["loss"] == pytest.approx(sum(after) / 32, abs=1e-5)
    assert row["qid"] == pytest.approx(row["loss"] - row["loss_16bit"], abs=1e-12)
    assert row["qid_se"] == pytest.approx((torch.tensor(after) - torch.tensor(before)).std().item() / 32**0.5, rel=1e-3)
    assert (row["n_eval_tokens"], row["seq_len"], row["learning_rate"]) == (1024, 32, 1e-3)
    assert row["bits_per_weight"] > 3
    text = tokenizer.batch_decode(windows[:, 1:], skip_special_tokens=True)
    predicted_bytes = sum(len(some.encode()) for some in text)
    assert 1.5 * 1024 < predicted_bytes < 6 * 1024  # the tokenizer has 512 tokens, of some letters each
    for name in ("", "_16bit"):
        assert row[f"nats_per_byte{name}"] == pytest.approx(row[f"loss{name}"] * 1024 / predicted_bytes)
    assert (
        0 < row["kld"] == pytest.approx(divergence_by_hand(tmp_path / "models" / "step200", model, windows), rel=1e-4)
    )
    assert 0 < row["kld_se"] < row["kld"]
    assert 0 < row["top_agreement"] < 1
    assert 0 < row["top_agreement_se"] < 0.1
    said = pl.read_parquet_metadata(tmp_path / "run" / "table.parquet")
    assert said["plan_hash"] == plan.hash
    assert said["torch"] == torch.__version__.split("+")[0]
    assert "held-out" in said["windows"]


def test_a_second_run_measures_nothing(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(plan, tmp_path / "run")
    first = read_table(tmp_path / "run" / "table.parquet")
    monkeypatch.setattr(checkpoint_run, "load_model", lambda *_: pytest.fail("nothing was left to load"))
    measure(plan, tmp_path / "run")
    assert read_table(tmp_path / "run" / "table.parquet").equals(first)


def test_a_plan_that_grew_measures_what_is_new(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(plan, tmp_path / "run")
    first = read_table(tmp_path / "run" / "table.parquet")
    grown = load_plan(write_plan(tmp_path, lambda text: text.replace("bits = [3, 4]", "bits = [2, 3, 4]")))
    asked: list[object] = []
    make = checkpoint_run.quantizer_from_settings
    monkeypatch.setattr(
        checkpoint_run, "quantizer_from_settings", lambda s: asked.append((s["method"], s["bits"])) or make(s)
    )
    measure(grown, tmp_path / "run")
    assert asked == [("rtn", 2)] * 3
    table = read_table(tmp_path / "run" / "table.parquet")
    assert table.height == 15
    assert table.filter(~((pl.col("method") == "rtn") & (pl.col("bits") == 2))).equals(first)


def test_a_checkpoint_that_is_gone_loses_nothing(plan: Plan, tmp_path: Path) -> None:
    measure(plan, tmp_path / "run")
    first = read_table(tmp_path / "run" / "table.parquet")
    (tmp_path / "models" / "step200").rename(tmp_path / "elsewhere")
    assert measure(plan, tmp_path / "run").failed == ()
    assert read_table(tmp_path / "run" / "table.parquet").equals(first)


def test_quantized_files_are_held_against_their_original(
    tmp_path: Path, plan_file: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert plan_file.exists()
    original = AutoModelForCausalLM.from_pretrained(tmp_path / "models" / "step200")
    (tmp_path / "theirs-step200-4bit").mkdir()
    tensors = dict(original.state_dict())
    rounded = copy.deepcopy(original)
    for name, linear in stack_linears(rounded).items():
        codes, zeros, scales = nearest_linear(linear.weight.detach(), linear.in_features // 16, 4, symmetric=False)
        index = torch.arange(linear.in_features) // 16
        linear.weight.data.copy_(by_hand(codes, zeros, scales, index))
        del tensors[f"{name}.weight"]
        tensors |= {f"{name}.{part}": t for part, t in gptq_tensors(codes, zeros, scales, index, 4, 1).items()}
    declared = {"quant_method": "gptq", "bits": 4, "group_size": 16, "checkpoint_format": "gptq"}
    write_checkpoint(tmp_path / "theirs-step200-4bit", original, tensors, declared)
    shutil.copytree(tmp_path / "theirs-step200-4bit", tmp_path / "theirs-step400-4bit")  # of another checkpoint

    entry = (
        'method = "prequantized"\nname = "released"\npath = "theirs-{revision}-{bits}bit"\nbits = 4\ngroup_size = 16'
    )
    plan = load_plan(
        write_plan(tmp_path, lambda text: text.replace('method = "gptq"\nbits = 3\ngroup_size = 16', entry))
    )
    outcome = measure(plan, tmp_path / "run")
    assert [line.split(",")[0] for line in outcome.failed] == ["small@step100", "small@step400"]
    missing, row, another = read_table(tmp_path / "run" / "table.parquet").filter(method="released").to_dicts()
    assert "no such folder" in missing["error"]
    assert re.search(
        r"gpt_neox\.layers\.0\.attention\.query_key_value of .* not the original's, rounded to 4 bits: "
        r"relative error 1\.\d+ \(at most .*mean shift .* grid steps",
        another["error"],
    )
    assert (row["status"], another["qid"]) == ("ok", None)
    windows = cut_windows(plan.evaluation.datasets[0], tokenizer, 32, 32, plan.seed).tokens
    assert row["loss"] == pytest.approx(sum(loss_by_hand(rounded, windows)) / 32, abs=1e-5)
    assert row["loss_16bit"] == pytest.approx(sum(loss_by_hand(original, windows)) / 32, abs=1e-5)


def break_weights(path: Path) -> None:
    weights = load_file(path)
    weights["gpt_neox.layers.0.attention.dense.weight"][0, 0] = float("nan")
    save_file(weights, path, {"format": "pt"})


def test_what_fails_becomes_rows_and_heals(plan_file: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    whole = (models / "step200" / "model.safetensors").read_bytes()
    break_weights(models / "step100" / "model.safetensors")
    (models / "step200" / "model.safetensors").write_bytes(whole[:-1000])
    run = ["-o", str(tmp_path / "run")]

    done = CliRunner().invoke(command, [str(plan_file), *run])
    assert done.exit_code == 1
    assert "8 of 12 cells failed" in done.stderr
    table = read_table(tmp_path / "run" / "table.parquet")
    told = dict(table.group_by("revision").agg(pl.col("error").first()).iter_rows())
    assert "not a finite number" in told["step100"]
    assert "not a readable safetensors file" in told["step200"]
    assert told["step400"] is None
    assert table.filter(revision="step100")["status"].unique().to_list() == ["failed"]

    for seed, step in enumerate((100, 200)):
        small_model(seed).save_pretrained(models / f"step{step}")
    done = CliRunner().invoke(command, [str(plan_file), *run])
    assert (done.exit_code, done.stdout.strip()) == (0, str(tmp_path / "run" / "table.parquet"))
    healed = read_table(tmp_path / "run" / "table.parquet")
    assert healed["status"].unique().to_list() == ["ok"]
    measure(load_plan(plan_file), tmp_path / "fresh")
    assert healed.drop(COST).equals(read_table(tmp_path / "fresh" / "table.parquet").drop(COST))


def test_a_sweep_that_fails_is_told_and_costs_no_row(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(plan, tmp_path / "swept")

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(checkpoint_run, "sweep", fails)
    with pytest.warns(UserWarning, match="the sweep failed, so .* one by one: no kernel image") as told:
        outcome = measure(plan, tmp_path / "plain")
    assert (outcome.rows, outcome.failed) == (12, ())
    logs = [str(one.message).split("its traceback is in ")[1].removesuffix(")") for one in told]
    assert len(set(logs)) == 3 and not (tmp_path / "swept" / "logs").exists()
    for log, step in zip(logs, (100, 200, 400), strict=True):
        said = Path(log).read_text()
        assert said.startswith(f"small@step{step}, the sweep:\nTraceback")
        assert "in fails\n" in said and "RuntimeError: no kernel image" in said
    swept, plain = (read_table(tmp_path / run / "table.parquet") for run in ("swept", "plain"))
    # Sums in another order tip a rounding here and there, which moves QiD by less than its own error.
    moved = (swept["qid"] - plain["qid"]).abs() / swept["qid_se"]
    assert moved.drop_nulls().max() < 1  # type: ignore[operator]
    assert swept["loss_16bit"].to_list() == pytest.approx(plain["loss_16bit"].to_list(), abs=1e-5)


def test_several_orders_of_calibration_give_their_mean_and_their_spread(
    plan_file: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = TINY / "checkpoints" / "64x2"
    n_params = count_parameters(small_model())

    def change(text: str) -> str:
        several = text.replace("[calibration]", "[calibration]\norders = 3").replace("bits = 3\n", "bits = [2, 3, 4]\n")
        several = several.replace("steps = [100, 200, 400]", "steps = [1024]").replace('"float32"', '"bfloat16"')
        return several.replace('"models/', f'"{place}/').replace(f"n_params = {n_params}", "n_params = 100_096")

    plan = load_plan(write_plan(tmp_path, change))
    measure(plan, tmp_path / "swept")

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(checkpoint_run, "sweep", fails)
    with pytest.warns(UserWarning, match="the sweep failed"):
        measure(plan, tmp_path / "plain")
    assert plan.calibration
    calibration = cut_windows(plan.calibration.dataset, tokenizer, 32, 8, plan.seed).tokens[:, :-1]
    windows = cut_windows(plan.evaluation.datasets[0], tokenizer, 32, 32, plan.seed).tokens
    swept, plain = (read_table(tmp_path / run / "table.parquet") for run in ("swept", "plain"))
    for bits in (2, 3, 4):
        losses = []
        for number in range(3):
            model = AutoModelForCausalLM.from_pretrained(place / "step1024", dtype=torch.bfloat16)
            quantizer = quantizer_from_settings({"method": "gptq", "bits": bits, "group_size": 16})
            quantizer.quantize(model, in_order(calibration, number))
            losses.append(float(window_losses(model, windows).mean()))
        for table in (swept, plain):
            (row,) = table.filter(method="gptq", bits=bits).to_dicts()
            assert row["loss"] == pytest.approx(statistics.mean(losses), abs=1e-4)
            assert row["qid"] == pytest.approx(row["loss"] - row["loss_16bit"], abs=1e-9)
            assert row["qid_se_quantizer"] == pytest.approx(statistics.stdev(losses) / 3**0.5, abs=1e-5)
    for table in (swept, plain):
        of_gptq, others = table.filter(method="gptq"), table.filter(pl.col("method") != "gptq")
        assert of_gptq["qid_se_quantizer"].max() > 1e-5  # type: ignore[operator]
        assert of_gptq["kld_se_quantizer"].null_count() == 0
        assert others["qid_se_quantizer"].null_count() == 3


def in_groups(sizes: str) -> Callable[[str], str]:
    return lambda text: text.replace('"channel"', sizes).replace("[100, 200, 400]", "[100]")


def test_a_group_size_that_fits_no_row_costs_its_own_cells_and_no_others(tmp_path: Path, plan_file: Path) -> None:
    """The others are measured in the sweep all the same: nothing is warned of, and their numbers are the same."""
    assert plan_file.exists()
    measure(load_plan(write_plan(tmp_path, in_groups("[16, 32]"))), tmp_path / "good")
    outcome = measure(load_plan(write_plan(tmp_path, in_groups("[16, 24, 32]"))), tmp_path / "bad")
    assert len(outcome.failed) == 2
    assert all("32 inputs, which group_size = 24 does not divide; give a divisor" in line for line in outcome.failed)
    good, bad = (read_table(tmp_path / run / "table.parquet").drop(COST) for run in ("good", "bad"))
    assert bad.filter(status="ok").equals(good)
    assert not (tmp_path / "bad" / "logs").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("windows = 8", "windows = 80_000", r"calibration has [0-9]+ windows of 32 tokens, 80000 were asked for"),
        ("seq_len = 32", "seq_len = 65", "seq_len = 65, the model was made for 64; give at most that"),
    ],
)
def test_a_calibration_set_that_cannot_be_used_costs_no_other_method(
    old: str, new: str, said: str, tmp_path: Path, plan_file: Path
) -> None:
    assert plan_file.exists()
    measure(load_plan(write_plan(tmp_path, in_groups("16"))), tmp_path / "good")
    (line,) = measure(
        load_plan(write_plan(tmp_path, lambda text: in_groups("16")(text).replace(old, new, 1))), tmp_path / "bad"
    ).failed
    assert re.search(rf"gptq.*\[calibration\]: {said}", line)
    good, bad = (read_table(tmp_path / run / "table.parquet").drop(COST) for run in ("good", "bad"))
    assert bad.filter(status="ok").equals(good.filter(pl.col("method") != "gptq"))


def test_running_out_of_memory_fails_one_cell(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = checkpoint_run.quantizer_from_settings

    def greedy(settings: dict[str, object]) -> object:
        if settings["method"] == "gptq":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
        return make(settings)

    monkeypatch.setattr(checkpoint_run, "quantizer_from_settings", greedy)
    outcome = measure(plan, tmp_path / "run")
    assert len(outcome.failed) == 3
    table = read_table(tmp_path / "run" / "table.parquet")
    assert table.filter(pl.col("status") == "out-of-memory")["method"].to_list() == ["gptq"] * 3
    assert table.filter(pl.col("status") == "ok").height == 9


def test_checkpoints_that_are_one_file_are_told_apart(plan: Plan, tmp_path: Path) -> None:
    small_model(0).save_pretrained(tmp_path / "models" / "step400")  # what step100 holds
    outcome = measure(plan, tmp_path / "run")
    assert len(outcome.failed) == 4
    assert all("the same weights as small@step100" in line for line in outcome.failed)


def test_a_copy_that_was_measured_meanwhile_is_told_too(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model(0).save_pretrained(tmp_path / "models" / "step400")  # what step100 holds
    first, _, last = plan.checkpoints
    load = checkpoint_run.load_model

    def load_late(folder: Path, checkpoint: Checkpoint, *rest: object) -> object:
        if checkpoint == first:
            measure(dataclasses.replace(plan, checkpoints=(last,)), tmp_path / "run")
        return load(folder, checkpoint, *rest)

    monkeypatch.setattr(checkpoint_run, "load_model", load_late)
    outcome = measure(dataclasses.replace(plan, checkpoints=(first, last)), tmp_path / "run")
    assert len(outcome.failed) == 4
    assert all("small@step100 holds the same weights as small@step400" in line for line in outcome.failed)


def test_a_setting_that_does_not_fit_stops_the_run_at_once(tmp_path: Path, plan_file: Path) -> None:
    assert plan_file.exists()
    changed = write_plan(tmp_path, lambda text: text.replace("group_size = 16", 'group_size = 16\ndamping = "much"'))
    done = CliRunner().invoke(command, [str(changed), "-o", str(tmp_path / "run")])
    assert isinstance(done.exception, Exception)
    assert "damping = 'much' is not accepted" in str(done.exception)


def test_losses_per_reference_token(tmp_path: Path, plan_file: Path) -> None:
    assert plan_file.exists()
    key = f'[evaluation]\nreference_tokenizer = "{TINY / "tokenizer"}"'
    plan = load_plan(write_plan(tmp_path, lambda text: text.replace("[evaluation]", key)))
    measure(plan, tmp_path / "run")
    own = read_table(tmp_path / "run" / "table.parquet")
    per_reference = read_table(tmp_path / "run" / "table-per-reference-token.parquet")
    assert per_reference.drop(COST).equals(own.drop(COST))  # the reference is the model's own tokenizer: a ratio of 1
