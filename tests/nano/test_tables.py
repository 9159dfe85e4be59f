"""The shipped tables say what their card says of them, and the demo's two models what the tables say of theirs."""

from pathlib import Path

import polars as pl
import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM

from qidbayes.measure import load_plan
from qidbayes.measure.decoder.evaluate import window_losses
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.quantize import RTN
from qidbayes.resources import shipped
from qidbayes.table import load_table

DEMO = Path(__file__).parents[2] / "benchmarks" / "nano-demo"


@pytest.mark.parametrize("name", ["nano", "nano/wikitext2", "nano/code"])
def test_every_planned_cell_was_measured(name: str) -> None:
    table, plan = load_table(name), load_plan(shipped("measurements") / "nano" / "plan.toml")
    assert table.height == 14 * len(plan.checkpoints) == 4_550
    assert set(table["status"]) == {"ok"}
    planned = {(c.model, c.revision, c.n_params, c.tokens) for c in plan.checkpoints}
    assert set(table.select("model", "revision", "n_params", "tokens").rows()) == planned


def test_losses_fall_with_tokens_and_with_parameters() -> None:
    table = load_table("nano").filter(method="none").sort("model", "tokens")
    rising = table.with_columns(rise=pl.col("loss_16bit").diff().over("model")).filter(pl.col("rise") > 0)
    # The one that the card tells of: the largest model's eleventh pass over the text.
    assert rising.select("model", "revision").rows() == [("nano-512x12-cosine-0", "step11585")]
    # Steps are rounded, so equal tokens are equal to a tenth of a percent.
    schedule = pl.col("model").str.extract(r"-(\w+-0)$")
    same = table.with_columns(schedule=schedule, octave=(pl.col("tokens").log(2) * 2).round())
    same = same.filter(pl.col("schedule").is_not_null(), pl.col("tokens") > 33e6).sort("n_params")
    rises = same.with_columns(rise=pl.col("loss_16bit").diff().over("schedule", "octave"))
    assert rises["rise"].drop_nulls().len() > 100
    assert rises["rise"].drop_nulls().max() < 0  # type: ignore[operator]


def test_the_demos_decayed_model_pays_more_for_fewer_bits_as_in_the_table() -> None:
    plan, found = load_plan(DEMO / "plan.toml"), {}
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer" / "tokenizer.json"))
    text = (shipped("measurements") / "tiny" / "evaluation.txt").read_text()[:20_000]
    tokens = torch.tensor(tokenizer.encode(text).ids)[: 16 * 257].view(16, 257)
    for checkpoint in plan.checkpoints:
        assert checkpoint.source.folder is not None
        model = GPTNeoXForCausalLM.from_pretrained(checkpoint.source.folder, dtype=torch.float32)
        assert count_parameters(model) == checkpoint.n_params
        before = window_losses(model, tokens).mean()
        RTN(3, 64).quantize(model, tokens[:, :-1])
        found[checkpoint.model] = float(window_losses(model, tokens).mean() - before)
    assert found["nano-64x2-decayed-1"] > found["nano-64x2-stable-1"] > 0
    table = load_table("nano").filter(method="rtn", bits=3, revision="step16384").sort("model")
    rows = table.filter(pl.col("model").is_in(list(found)))
    assert rows["model"].to_list() == ["nano-64x2-decayed-1", "nano-64x2-stable-1"]
    assert rows["qid"][0] > rows["qid"][1]
