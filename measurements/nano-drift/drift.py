"""The whole suite: train some runs of nano again, and measure losses and drift as checkpoints appear.

    python drift.py run FOLDER SECONDS           train and measure for so long; call it again to go on
    python drift.py train FOLDER RUN UNTIL       one run, until so many seconds since 1970 (`run` starts these)
    python drift.py measure FOLDER UNTIL         one measuring process (`run` starts them)
    python drift.py ship FOLDER                  put the tables beside this file

FOLDER holds suite.toml, and corpus/ and tokenizer/ as ../nano/corpus.py makes them. Models, text, order, schedules and
training steps are nano's own (../nano/train.py). Each checkpoint is kept thrice: at its step, at nine tenths of it and
16 steps before it, so that drift is measured over the last tenth of the tokens and over 1.05M tokens.
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nano"))
import suite as nano
from train import Run, Trainer, read_suite, read_tokens

from qidbayes.measure.drift.run import measure_drift
from qidbayes.measure.plan.plan import Checkpoint, Plan
from qidbayes.measure.plan.read import load_plan
from qidbayes.measure.run.local import measure
from qidbayes.measure.storage.drift import DriftStore
from qidbayes.measure.storage.results import Store
from qidbayes.table import read_table, write_table
from qidbayes.table.drift import read_drift, with_drift, write_drift

TRAINING, MEASURING = 3, 6  # processes a GPU
STEPS = 16
EARLIER = {"tenth": lambda step: round(0.9 * step), "fixed": lambda step: step - STEPS}
"""Where the checkpoint before stands, by what the drift since then is called."""
QUANTIZATIONS = """
[[quantizations]]
method = "gptq"
bits = [2, 3, 4]
group_size = 64

[[quantizations]]
method = "rtn"
bits = [2, 3, 4]
group_size = 64

[calibration]
dataset = { name = "calibration", path = "corpus/calibration.txt" }
windows = 128
seq_len = 512

[evaluation]
datasets = [{ name = "held-out", path = "corpus/held-out.txt" }]
seq_len = 512
tokens = 131_072
"""


def plan_of(folder: Path) -> Plan:
    """What is measured: every checkpoint of suite.toml."""
    head = nano.HEAD.replace('suite = "nano"', 'suite = "nano-drift"')
    lines = [line for run in read_suite(folder / "suite.toml") for line in nano.entries(run)]
    path = folder / "plan.toml"
    if not path.exists():
        path.write_text(head + "".join(lines) + "]\n" + QUANTIZATIONS)
    return load_plan(path)


def earlier(checkpoint: Checkpoint, what: str) -> Checkpoint:
    """The checkpoint that a checkpoint's drift is measured from."""
    step = int(checkpoint.revision.removeprefix("step"))
    place = checkpoint.source.folder
    assert place is not None
    source = replace(checkpoint.source, name=f"{checkpoint.source.name}-{what}", folder=Path(f"{place}-{what}"))
    tokens = checkpoint.tokens // step * EARLIER[what](step)
    return replace(checkpoint, source=source, revision=f"{checkpoint.revision}-{what}", tokens=tokens)


def drift_plan(plan: Plan, checkpoint: Checkpoint, what: str) -> Plan:
    """A plan of one checkpoint and the one that its drift is measured from."""
    return replace(plan, checkpoints=(earlier(checkpoint, what), checkpoint))


def train(run: Run, folder: Path, until: float = math.inf) -> None:
    """Bring a run to its end, or as far as the time `until` allows, keeping checkpoints on the way."""
    out, state = folder / "checkpoints", folder / "states" / f"{run.name}.safetensors"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(run, read_tokens(folder / "corpus" / "train.u16").to(device))
    if state.exists():
        trainer.load(state)
    for directory in (out / run.folder(0).parent, out / run.folder(0, decayed=True).parent, state.parent):
        directory.mkdir(parents=True, exist_ok=True)

    def keep(path: Path) -> None:
        if not path.exists():
            trainer.keep(path)

    def stops(end: int, place: Path) -> Iterator[tuple[int, Path]]:
        """Where a checkpoint and those before it are kept."""
        yield end, place
        for what, step in EARLIER.items():
            yield step(end), place.with_name(f"{place.name}-{what}")

    def branch(end: int) -> bool:
        here, start = [tensor.clone() for tensor in trainer.state], trainer.step
        for step, place in sorted(stops(end, out / run.folder(end, decayed=True))):
            if not trainer.advance(step, until, decaying_to=end):
                break
            keep(place)
        arrived = trainer.step == end
        trainer.restore(here, start)
        return arrived

    wanted = sorted(stop for end in run.kept for stop in stops(end, out / run.folder(end)))
    for stop in sorted({step for step, _ in wanted} | set(run.branches.values())):
        if trainer.step > stop:
            continue
        going_on = trainer.step == stop or trainer.advance(stop, until)
        for place in (place for step, place in wanted if step == trainer.step == stop):
            keep(place)
        for end in (end for end, start in run.branches.items() if start == trainer.step == stop):
            if going_on and not (out / run.folder(end, decayed=True)).exists():
                going_on = branch(end)
        if not going_on or stop in run.branches.values() or stop == run.steps:
            trainer.save(state)
        if not going_on:
            return
    sys.stdout.write(f"{run.name} step {trainer.step} loss {float(trainer.loss):.4f}\n")


def measure_as_they_appear(folder: Path, until: float) -> None:
    """Measure losses and drift of whatever checkpoint is there and has not been measured."""
    plan = plan_of(folder)
    store, places = Store(folder / "measured"), {what: DriftStore(folder / what) for what in EARLIER}

    def waiting(checkpoint: Checkpoint) -> bool:
        place = checkpoint.source.folder
        done = store.read(checkpoint) and all(drift.read(checkpoint) for drift in places.values())
        return place is not None and place.is_dir() and not done

    while time.time() < until and not all(map(store.read, plan.checkpoints)):
        for checkpoint in filter(waiting, plan.checkpoints):
            if time.time() < until and waiting(checkpoint):  # another process may hold it: no harm
                measure(replace(plan, checkpoints=(checkpoint,)), store.folder)
                for what in EARLIER:
                    measure_drift(drift_plan(plan, checkpoint, what), folder / what, checkpoints=[checkpoint])
        time.sleep(1)


def run_suite(folder: Path, seconds: float) -> None:
    """Train and measure for so many seconds, or until all is done."""
    began = time.time()
    train_until, measure_until = began + 0.85 * seconds, began + 0.97 * seconds
    (folder / "logs").mkdir(exist_ok=True)
    wanted = len(plan_of(folder).checkpoints)
    queues = nano.shared_out(read_suite(folder / "suite.toml"), max(1, torch.cuda.device_count()))

    def start(gpu: int, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu), "OMP_NUM_THREADS": "1"}
        with (folder / "logs" / f"{name}.log").open("ab") as log:
            command = [sys.executable, __file__, *arguments]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603

    training: list[list[subprocess.Popen[bytes]]] = [[] for _ in queues]
    measuring = [
        start(gpu, f"measure-{gpu}-{n}", "measure", str(folder), str(measure_until))
        for gpu in range(len(queues))
        for n in range(MEASURING)
    ]
    while time.time() < began + seconds and any(process.poll() is None for process in measuring):
        for gpu, queue in enumerate(queues):
            training[gpu] = [process for process in training[gpu] if process.poll() is None]
            while queue and len(training[gpu]) < TRAINING and time.time() < train_until:
                run = queue.pop(0)
                training[gpu].append(start(gpu, run.name, "train", str(folder), run.name, str(train_until)))
        time.sleep(1)
    for process in [*measuring, *(p for group in training for p in group)]:
        process.kill()
    rows = collect(folder)
    sys.stdout.write(f"{rows} rows of losses of {wanted} checkpoints, {time.time() - began:.0f} seconds\n")


def collect(folder: Path) -> int:
    """Write the tables of all that has been measured; returns the losses' rows."""
    plan = plan_of(folder)
    for what in EARLIER:
        whole = [one for c in plan.checkpoints for one in (earlier(c, what), c)]
        DriftStore(folder / what).assemble(replace(plan, checkpoints=tuple(whole)), {"plan": plan.suite})
    return nano.collect(folder)


def ship(folder: Path) -> None:
    """Write the two tables of drift, and the losses with the drift's numbers beside them."""
    here = Path(__file__).parent
    (here / "weights").mkdir(exist_ok=True)
    tenth, fixed = (read_drift(folder / what / "drift.parquet") for what in EARLIER)
    write_drift(tenth, here / "weights" / "drift.parquet")
    write_drift(fixed, here / "weights" / "fixed.parquet")
    losses = read_table(folder / "measured" / "table.parquet")
    change = with_drift(losses, fixed)["weight_change"]
    table = with_drift(losses, tenth).with_columns(weight_change_fixed=change)
    write_table(table, here / "nano-drift.parquet", {"plan": "nano-drift"})


def main(command: str, folder: str, *arguments: str) -> None:
    """See the top of this file."""
    torch.set_float32_matmul_precision("high")
    if command == "run":
        run_suite(Path(folder), float(arguments[0]))
    elif command == "train":
        runs = {run.name: run for run in read_suite(Path(folder) / "suite.toml")}
        train(runs[arguments[0]], Path(folder), float(arguments[1]))
    elif command == "measure":
        measure_as_they_appear(Path(folder), float(arguments[0]))
    else:
        ship(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
