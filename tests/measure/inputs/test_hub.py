"""The path over the hub, with the real client against a server on loopback that misbehaves."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import AutoModelForCausalLM, LlamaConfig

from measure.conftest import TINY, small_model
from measure.hub import Files, Hub, commit_of
from measure.prequantized.ggufs import write_gguf
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.table import read_table

PLAN = f"""
suite = "hub"
dtype = "float32"

[[quantizations]]
method = "rtn"
bits = 4
group_size = "channel"

[evaluation]
datasets = [{{ name = "held-out", path = "{TINY / "evaluation.txt"}" }}]
seq_len = 32
tokens = 256
"""


@pytest.fixture
def hub() -> Iterator[tuple[Hub, str]]:
    made = Hub()
    server = made.serve()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def repository_files(folder: Path, seed: int) -> Files:
    small_model(seed).save_pretrained(folder)
    tokenizer = {p.name: p.read_bytes() for p in (TINY / "tokenizer").iterdir()}
    return {p.name: p.read_bytes() for p in folder.iterdir()} | tokenizer


def run(folder: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: the client reads its endpoint when it is imported."""
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    program = "from qidbayes.cli.measure import measure; measure()"
    return subprocess.run(
        [sys.executable, "-c", program, "plan.toml", "-o", "run"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_hub_and_its_failures(hub: tuple[Hub, str], tmp_path: Path) -> None:
    server, endpoint = hub
    names = ("good", "busy", "truncated", "altered", "pickled", "down")
    for seed, name in enumerate(names):
        server.revisions[f"lab/{name}"] = {"step1": repository_files(tmp_path / f"{name}-1", seed)}
    server.revisions["lab/good"]["step2"] = repository_files(tmp_path / "good-2", 77)
    pickled = server.revisions["lab/pickled"]["step1"]
    pickled["pytorch_model.bin"] = pickled.pop("model.safetensors")
    server.truncated.add("lab/truncated")
    server.lies["lab/altered"] = "0" * 64
    server.failing.update({"lab/busy": 1, "lab/down": 10_000})

    n_params = count_parameters(small_model())
    asked = [(name, "step1", "1M") for name in names] + [("good", "step2", "2M"), ("good", "step3", "3M")]
    models = [
        f'[[models]]\nid = "lab/{name}"\nrevision = "{revision}"\nn_params = {n_params}\ntokens = "{tokens}"\n'
        for name, revision, tokens in asked
    ]
    (tmp_path / "plan.toml").write_text(PLAN + "\n".join(models))

    done = run(tmp_path, endpoint)
    assert done.returncode == 1, done.stderr
    table = read_table(tmp_path / "run" / "table.parquet")
    told = {(model, revision): error for model, revision, error in table.select("model", "revision", "error").rows()}
    assert told["lab/good", "step1"] is None
    assert told["lab/good", "step2"] is None
    assert told["lab/busy", "step1"] is None  # one 500 is tried again
    assert "404" in told["lab/good", "step3"] or "RevisionNotFound" in told["lab/good", "step3"]
    assert re.search(r"received \d+ bytes, expected \d+", told["lab/truncated", "step1"])
    assert "the hub says 000000000000" in told["lab/altered", "step1"]
    assert "pickled only" in told["lab/pickled", "step1"]
    assert "500" in told["lab/down", "step1"]
    assert not any("pytorch_model.bin" in path for path in server.asked)
    losses = table.filter(pl.col("model") == "lab/good")["loss_16bit"].drop_nulls()
    assert losses.n_unique() == 2  # two revisions, two models
    source = table.filter((pl.col("model") == "lab/good") & (pl.col("revision") == "step2"))["source"][0]
    assert source.endswith(f"lab/good@{commit_of('lab/good', 'step2')[:12]}")
    assert len(list((tmp_path / "run" / "windows").glob("*.safetensors"))) == 1  # one tokenizer: read once
    assert not list((tmp_path / "run").rglob("model.safetensors"))  # downloads are removed again

    server.truncated.clear()
    server.lies.clear()
    server.failing.clear()
    server.revisions["lab/good"]["step1"] = repository_files(tmp_path / "moved", 99)
    server.asked.clear()
    done = run(tmp_path, endpoint)
    assert done.returncode == 1, done.stderr
    healed = read_table(tmp_path / "run" / "table.parquet")
    failed = healed.filter(pl.col("status") != "ok").select("model", "revision").unique().rows()
    assert sorted(failed) == [("lab/good", "step3"), ("lab/pickled", "step1")]
    assert not any("lab/good" in path and "step3" not in path for path in server.asked)  # what is measured stays pinned
    good = pl.col("model").is_in(["lab/good", "lab/busy"]) & (pl.col("status") == "ok")
    assert healed.filter(good).equals(table.filter(good))


def test_one_gguf_file_of_many_is_fetched(hub: tuple[Hub, str], tmp_path: Path) -> None:
    server, endpoint = hub
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, max_position_embeddings=64,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "original")
    path = write_gguf(tmp_path / "a.gguf", model, lambda _: GGMLQuantizationType.Q8_0)
    server.revisions["lab/quants"] = {"main": {f"a-{kind}.gguf": path.read_bytes() for kind in ("Q8_0", "Q4_0")}}
    quantization = '[[quantizations]]\nmethod = "prequantized"\nid = "lab/quants"\n'
    tables = [f'{quantization}file = "a-{kind}.gguf"\n' for kind in ("Q8_0", "Q6_K")]
    original = f'[[models]]\npath = "original"\ntokenizer = "{TINY / "tokenizer"}"\ntokens = "1M"\n'
    original += f"n_params = {count_parameters(model)}\n"
    (tmp_path / "plan.toml").write_text("\n".join([PLAN, *tables, original]))

    assert run(tmp_path, endpoint).returncode == 1
    rows = {row["settings"]: row for row in read_table(tmp_path / "run" / "table.parquet").to_dicts()}
    assert rows["lab/Q8_0"]["bits_per_weight"] == 8.5
    assert rows["lab/Q8_0"]["source"].endswith("; weights of lab/quants/a-Q8_0.gguf, activations not quantized")
    assert "lab/quants: has no file a-Q6_K.gguf" in rows["lab/Q6_K"]["error"]
    assert not any("a-Q4_0.gguf" in path for path in server.asked)
