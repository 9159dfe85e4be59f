"""The whole suite: train every run of suite.toml, and measure checkpoints as they appear.

    python suite.py plan > plan.toml            what is measured, from suite.toml beside this file
    python suite.py run FOLDER SECONDS          train and measure for so long; call it again to go on
    python suite.py ship FOLDER                 put the table, an evaluation set a file, beside this file
    python suite.py measure FOLDER UNTIL        one measuring process (`run` starts them)

FOLDER holds suite.toml, plan.toml, and corpus/ and tokenizer/ as corpus.py makes them. `run` takes all GPUs it finds:
runs are shared out by their cost, a few train side by side on each, and a few processes beside them measure with
`qidbayes measure`. The table is FOLDER/measured/table.parquet.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).parent))
from train import Run, read_suite

from qidbayes.measure.inputs.fingerprint import versions
from qidbayes.measure.plan.plan import Checkpoint
from qidbayes.measure.plan.read import load_plan
from qidbayes.measure.run.local import measure
from qidbayes.measure.storage.results import Store
from qidbayes.table import read_table, write_table
from qidbayes.table.read import VERSION_KEY

TRAINING, MEASURING = 3, 6  # processes a GPU
HEAD = """\
# Every checkpoint of the suite and what is measured of it. Made by `python suite.py plan`; change suite.toml instead.
suite = "nano"
title = "Small GPT-NeoX models trained for this package, with and without learning-rate decay"
dtype = "float16"
seed = 0
models = [
"""
TAIL = """\
]

[[quantizations]]
method = "gptq"
bits = [2, 3, 4]
group_size = [64, "channel"]

[[quantizations]]
method = "gptq"
bits = 8
group_size = 64

[[quantizations]]
method = "rtn"
bits = [2, 3, 4, 8]
group_size = 64

[[quantizations]]
method = "awq"
bits = 4
group_size = 64

[[quantizations]]
method = "bnb-nf4"

[calibration]
dataset = { name = "calibration", path = "corpus/calibration.txt" }
windows = 128
seq_len = 512

[evaluation]
datasets = [
  { name = "held-out", path = "corpus/held-out.txt" },
  { name = "wikitext2", path = "corpus/wikitext2.txt" },
  { name = "code", path = "corpus/code.txt" },
]
seq_len = 512
tokens = 131_072
"""


def entries(run: Run) -> list[str]:
    """The plan's line for each checkpoint of a run."""
    found = [(step, False) for step in run.kept] + [(end, True) for end in run.branches]
    lines = []
    for step, decayed in found:
        folder = run.folder(step, decayed)
        rate = run.rate(step, decaying_to=step if decayed else None)
        lines.append(
            f'  {{ name = "nano-{folder.parent}", path = "checkpoints/{folder}", revision = "{folder.name}", '
            f'tokenizer = "tokenizer", n_params = {run.n_params}, tokens = {step * run.suite.tokens_per_step}, '
            f"learning_rate = {float(f'{rate:.6g}')} }},\n"
        )
    return lines


def plan_text(runs: list[Run]) -> str:
    """plan.toml."""
    return HEAD + "".join(line for run in runs for line in entries(run)) + TAIL


def cost(run: Run) -> float:
    """Seconds a run takes on its own, roughly: arithmetic, memory traffic of activations, and the branches."""
    steps = run.steps + sum(end - start for end, start in run.branches.items())
    arithmetic = 6 * (run.n_params + run.width * run.suite.vocabulary) * run.suite.tokens_per_step / 3e14
    return steps * (arithmetic + 1.5e-3 + run.width * run.layers * 2e-6)


def shared_out(runs: list[Run], gpus: int) -> list[list[Run]]:
    """The runs of each GPU: the costliest first, each to the GPU with the least to do so far."""
    queues: list[list[Run]] = [[] for _ in range(gpus)]
    for run in sorted(runs, key=cost, reverse=True):
        min(queues, key=lambda queue: sum(map(cost, queue))).append(run)
    return queues


def measure_as_they_appear(folder: Path, until: float) -> None:
    """Measure whatever checkpoint is there and has not been measured, the largest models first."""
    plan, store = load_plan(folder / "plan.toml"), Store(folder / "measured")

    def waiting(checkpoint: Checkpoint) -> bool:
        there = checkpoint.source.folder is not None and checkpoint.source.folder.is_dir()
        return there and not store.read(checkpoint)

    by_size = sorted(plan.checkpoints, key=lambda c: -c.n_params)
    while time.time() < until:
        found = [c for c in by_size if waiting(c)]
        for checkpoint in found:
            if time.time() < until and waiting(checkpoint):
                measure(replace(plan, checkpoints=(checkpoint,)), store.folder)  # another process may hold it: no harm
        time.sleep(1)


def collect(folder: Path) -> int:
    """Write measured/table.parquet from all that has been measured; returns its rows."""
    plan, store = load_plan(folder / "plan.toml"), Store(folder / "measured")
    device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "CPU"
    metadata = {"plan": plan.suite, "plan_hash": plan.hash, "device": device, **versions()}
    return len(store.assemble(plan, metadata))


def run_suite(folder: Path, seconds: float) -> None:
    """Train and measure for so many seconds, or until all is done."""
    began = time.time()
    end = began + seconds
    train_until, measure_until = began + 0.92 * seconds, began + 0.97 * seconds
    (folder / "logs").mkdir(exist_ok=True)
    queues = shared_out(read_suite(folder / "suite.toml"), max(1, torch.cuda.device_count()))
    environment = [
        {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu), "OMP_NUM_THREADS": "1"} for gpu in range(len(queues))
    ]

    def start(gpu: int, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (folder / "logs" / f"{name}.log").open("ab") as log:
            command = [sys.executable, *arguments]
            return subprocess.Popen(command, env=environment[gpu], stdout=log, stderr=subprocess.STDOUT)  # noqa: S603

    here = Path(__file__).parent
    training: list[list[subprocess.Popen[bytes]]] = [[] for _ in queues]
    measuring = [
        start(gpu, f"measure-{gpu}-{n}", str(here / "suite.py"), "measure", str(folder), str(measure_until))
        for gpu in range(len(queues))
        for n in range(MEASURING)
    ]
    wanted = len(load_plan(folder / "plan.toml").checkpoints)
    while time.time() < end and any(process.poll() is None for process in measuring):
        for gpu, queue in enumerate(queues):
            training[gpu] = [process for process in training[gpu] if process.poll() is None]
            while queue and len(training[gpu]) < TRAINING and time.time() < train_until:
                run = queue.pop(0)
                training[gpu].append(
                    start(gpu, run.name, str(here / "train.py"), str(folder), run.name, str(train_until))
                )
        measured = len(list((folder / "measured" / "checkpoints").glob("*.parquet")))
        if measured == wanted:
            break
        time.sleep(1)
    for process in [*measuring, *(p for group in training for p in group)]:
        process.kill()
    rows = collect(folder)
    sys.stdout.write(f"{measured} of {wanted} checkpoints, {rows} rows, {time.time() - began:.0f} seconds\n")


def ship(table: Path) -> None:
    """Write nano.parquet (the held-out set) and a file for each other set, with the metadata of `table`."""
    rows, metadata = read_table(table), pl.read_parquet_metadata(table)
    kept = {key: value for key, value in metadata.items() if key not in ("ARROW:schema", VERSION_KEY)}
    for (name,), some in rows.group_by("dataset", maintain_order=True):
        file = "nano" if name == "held-out" else str(name)
        write_table(some, Path(__file__).with_name(f"{file}.parquet"), kept)


def main(command: str, *arguments: str) -> None:
    if command == "plan":
        sys.stdout.write(plan_text(read_suite(Path(__file__).with_name("suite.toml"))))
    elif command == "ship":
        ship(Path(arguments[0]) / "measured" / "table.parquet")
    elif command == "measure":
        measure_as_they_appear(Path(arguments[0]), float(arguments[1]))
    else:
        run_suite(Path(arguments[0]).absolute(), float(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
