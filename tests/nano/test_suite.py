"""The suite's plan, how its runs are shared out, and micro-checkpoints measured as they appear."""

import time
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qidbayes.measure import load_plan


def test_the_plan_is_what_the_suite_makes(suite: ModuleType) -> None:
    here = Path(suite.__file__).parent
    runs = suite.read_suite(here / "suite.toml")
    assert (here / "plan.toml").read_text() == suite.plan_text(runs)
    plan = load_plan(here / "plan.toml")
    assert len(plan.checkpoints) == sum(len(run.kept) + len(run.branches) for run in runs)
    for size in {run.n_params for run in runs}:
        seen = {c.tokens for c in plan.checkpoints if c.n_params == size}
        assert len(seen) >= 14


def test_runs_are_shared_out_once_each_and_evenly(suite: ModuleType) -> None:
    runs = suite.read_suite(Path(suite.__file__).with_name("suite.toml"))
    for gpus in (1, 2, 4):
        queues = suite.shared_out(runs, gpus)
        assert sorted(run.name for queue in queues for run in queue) == sorted(run.name for run in runs)
        loads = [sum(map(suite.cost, queue)) for queue in queues]
        assert max(loads) - min(loads) <= max(map(suite.cost, runs))


def test_checkpoints_are_measured_as_they_appear(suite: ModuleType, train: ModuleType, folder: Path) -> None:
    words = {"<|endoftext|>": 0} | {f"w{n}": n for n in range(1, 40)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    fast.save_pretrained(folder / "tokenizer")
    ids = train.read_tokens(folder / "corpus" / "train.u16").tolist()
    text = " ".join(f"w{n}" if n else "\n\n" for n in ids[:2_000])
    for name in ("held-out", "wikitext2", "code", "calibration"):
        (folder / "corpus" / f"{name}.txt").write_text(text)
    (run, _) = train.read_suite(folder / "suite.toml")
    small = {
        '"float16"': '"float32"',
        "seq_len = 512": "seq_len = 32",
        "131_072": "256",
        "windows = 128": "windows = 4",
    }
    plan = suite.plan_text([run])
    for large, micro in small.items():
        assert large in plan
        plan = plan.replace(large, micro)
    (folder / "plan.toml").write_text(plan)

    train.train(run, folder, "cpu")
    for later in ("step141", "step200"):
        (folder / "checkpoints/64x1-cosine-0" / later).rename(folder / later)
    suite.measure_as_they_appear(folder, time.time() + 0.1)  # what is there when it looks; the rest has not appeared
    assert suite.collect(folder) == 14 * 3
    table = pl.read_parquet(folder / "measured" / "table.parquet")
    assert set(table["status"]) == {"ok"}
    sizes = table.filter(pl.col("method") == "gptq").select("bits", "group_size").unique().sort("bits", "group_size")
    assert sizes.rows() == [(2.0, None), (2.0, 64), (3.0, None), (3.0, 64), (4.0, None), (4.0, 64), (8.0, 64)]
    assert table.select("revision", "tokens").unique().rows() == [("step100", 102_400)]
    assert table["learning_rate"].to_list() == pytest.approx([run.rate(100)] * 42, rel=1e-5)
    two, eight = (table.filter(method="rtn", bits=bits)["qid"].abs().max() for bits in (2.0, 8.0))
    assert two > 5 * eight > 0
