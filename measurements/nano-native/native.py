"""The whole suite: GPT-NeoX models of nano's shapes trained in low bits, beside twins that are not.

    python native.py text CORPUS            cut nano's evaluation windows out of CORPUS, as ../nano/corpus.py made it
    python native.py run FOLDER SECONDS     train every run of suite.toml for so long; call it again to go on
    python native.py train FOLDER RUN UNTIL one run (`run` starts them), until so many seconds since 1970
    python native.py table LOSSES           nano-native.parquet from FOLDER/losses.npz, beside this file

FOLDER holds suite.toml and corpus/. Text, order, schedules, optimizer and training step are those of ../nano/train.py:
the twin is a run of nano. Here are the formats, and what happens at a checkpoint: the loss of every evaluation window
goes into FOLDER/losses, and no weights are kept. A constant rate gives the same models up to a step however long the
run, so a run that was stopped early is a shorter one.
"""

import math
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPTNeoXForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nano"))
import train as nano

from qidbayes.atomic import replacing
from qidbayes.measure.quantize.grid import fit_grid

GROUP = 64  # weights that share a scale at 2 and 4 bits
SLOTS = 12  # runs that share a GPU
HELD_OUT = "1712276ae7ab1c8b1f8cfbec9f40ac817ec70e853c408d038899a8a4fd53205d"  # the windows of nano's held-out table


def ternary(weight: Tensor) -> Tensor:
    """BitNet b1.58: -1, 0 or 1 times the mean absolute weight of the matrix (arXiv:2402.17764, Eqs. 1-3)."""
    scale = weight.abs().mean().clamp(min=1e-5)
    return (weight / scale).round().clamp(-1, 1) * scale


def uniform(weight: Tensor, bits: int) -> Tensor:
    """This package's round-to-nearest with a zero point: each group's least to greatest weight, in equal steps."""
    groups = weight.unflatten(-1, (-1, GROUP))
    return fit_grid(groups, bits, symmetric=False).nearest(groups).flatten(-2)


def eight_bits(inputs: Tensor) -> Tensor:
    """BitNet's activations: integers of 8 bits times each token's greatest absolute value over 127."""
    scale = inputs.float().abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127
    return (inputs.float() / scale).round().clamp(-128, 127) * scale


@dataclass(frozen=True)
class Format:
    """How the linears of the stack hold their weights while they are trained; `weights` None: as they are."""

    method: str
    bits: float
    weights: Callable[[Tensor], Tensor] | None = None
    group_size: int | None = None
    activations: bool = False


FORMATS = {
    "bf16": Format("none", 16),
    "w1.58": Format("native-b1.58", 1.58, ternary),
    "w1.58a8": Format("native-b1.58-a8", 1.58, ternary, activations=True),
    "w2": Format("native-rtn", 2, lambda weight: uniform(weight, 2), GROUP),
    "w4": Format("native-rtn", 4, lambda weight: uniform(weight, 4), GROUP),
}


class LowBitLinear(nn.Module):
    """A linear that computes with rounded weights; its gradient goes to the weights as if nothing had been rounded."""

    def __init__(self, linear: nn.Linear, weights: Callable[[Tensor], Tensor], activations: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.weights, self.activations = linear.weight, linear.bias, weights, activations

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.weight + (self.weights(self.weight) - self.weight).detach()
        if self.activations:
            inputs = inputs + (eight_bits(inputs) - inputs).detach()
        return functional.linear(inputs, weight, self.bias)


@dataclass(frozen=True)
class Run(nano.Run):
    """A run of nano at a constant rate, in some format."""

    format: str
    decayed: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.width}x{self.layers}-{self.seed}-{self.format}-{self.suite.peak:g}"

    @property
    def kept(self) -> list[int]:
        """The steps at which losses are measured: nano's."""
        steps = [round(2 ** (k / 2)) for k in range(64)]
        return [step for step in steps if self.suite.first <= step <= self.steps]

    @property
    def branches(self) -> dict[int, int]:
        return {end: round((1 - self.suite.cooldown) * end) for end in self.decayed}

    @property
    def files(self) -> list[str]:
        """What is measured: losses at the kept steps and at the ends of decay branches."""
        return [f"step{step}.npy" for step in self.kept] + [f"step{end}-decayed.npy" for end in self.branches]


def read_suite(path: Path) -> list[Run]:
    """The runs of a suite.toml, in its order; twins first."""
    says = tomllib.loads(path.read_text())
    tables, formats = says.pop("runs"), says.pop("formats")
    suite = nano.Suite(**says)
    return [
        Run(replace(suite, peak=rate), t["width"], t["layers"], "stable", seed, t["steps"], form, tuple(t["decayed"]))
        for t in tables
        for seed in t["seeds"]
        for form in formats
        for rate in t["rates"]
    ]


class Trainer(nano.Trainer):
    """nano's, of a model whose stack computes in a format."""

    def __init__(self, run: Run, tokens: Tensor) -> None:
        self.format = FORMATS[run.format]
        super().__init__(run, tokens)

    def new_model(self) -> GPTNeoXForCausalLM:
        model = super().new_model()
        if self.format.weights is not None:
            stack = dict(model.gpt_neox.layers.named_modules())
            for path in [path for path, module in stack.items() if isinstance(module, nn.Linear)]:
                parent, _, name = path.rpartition(".")
                setattr(stack[parent], name, LowBitLinear(stack[path], self.format.weights, self.format.activations))
        return model

    @torch.no_grad()
    def window_losses(self, windows: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The mean loss (nats per token) of each window `[n, length + 1]`, in float16 as nano's were measured."""
        device = windows.device.type
        losses = []
        for some in windows.split(32):
            with torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16):
                logits = self.model(input_ids=some[:, :-1]).logits
            each = functional.cross_entropy(logits.float().transpose(1, 2), some[:, 1:], reduction="none")
            losses.append(each.double().mean(1))
        return torch.cat(losses).cpu().numpy()


def train(run: Run, folder: Path, device: str, until: float = math.inf) -> None:
    """Bring a run to its end, or as far as the time `until` allows, measuring on the way."""
    out, state = folder / "losses" / run.name, folder / "states" / f"{run.name}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    state.parent.mkdir(parents=True, exist_ok=True)
    tokens = nano.read_tokens(folder / "corpus" / "train.u16").to(device)
    held_out = np.fromfile(folder / "corpus" / "held-out.u16", dtype="<u2").astype(np.int64)
    windows = torch.from_numpy(held_out).view(-1, run.suite.window + 1).to(device)
    began = time.time()
    trainer = Trainer(run, tokens)
    if state.exists():
        trainer.load(state)

    def say(what: str) -> None:
        told = f"{what} step {trainer.step} training loss {float(trainer.loss):.4f} seconds {time.time() - began:.1f}"
        sys.stdout.write(f"{run.name} {told}\n")
        sys.stdout.flush()

    def measure(step: int, decayed: bool = False) -> None:
        losses = trainer.window_losses(windows)
        with replacing(out / f"step{step}{'-decayed' if decayed else ''}.npy") as beside, beside.open("wb") as file:
            np.save(file, losses)
        say(f"{'decayed' if decayed else 'measured'} {losses.mean():.4f}")

    def branch(end: int) -> bool:
        here, start = [tensor.clone() for tensor in trainer.state], trainer.step
        arrived = trainer.advance(end, until, decaying_to=end)
        if arrived:
            measure(end, decayed=True)
        trainer.restore(here, start)
        return arrived

    say("begins")
    for stop in sorted({*run.kept, *run.branches.values()}):
        going_on = trainer.step >= stop or trainer.advance(stop, until)
        if going_on and stop in run.kept and not (out / f"step{stop}.npy").exists():
            measure(stop)
        for end in (e for e, start in run.branches.items() if start == trainer.step == stop):
            if not (out / f"step{end}-decayed.npy").exists():
                going_on = going_on and branch(end)
        if not going_on:
            break
    trainer.save(state)
    say("ends" if going_on else "stops for now")


def cost(run: Run) -> float:
    """Seconds of a GPU, roughly: arithmetic, activations to and from memory, and the branches."""
    steps = run.steps + sum(end - start for end, start in run.branches.items())
    arithmetic = 6 * (run.n_params + run.width * run.suite.vocabulary) * run.suite.tokens_per_step / 3e14
    return steps * (arithmetic + 1.5e-3 + run.width * run.layers * 2e-6)


def pack(folder: Path) -> int:
    """Write losses.npz, every checkpoint's window losses under `run/step`; returns how many there are."""
    found = sorted((folder / "losses").glob("*/*.npy"))
    with replacing(folder / "losses.npz") as beside, beside.open("wb") as file:
        np.savez(file, **{f"{path.parent.name}/{path.stem}": np.load(path) for path in found})  # type: ignore[arg-type]
    return len(found)


def run_suite(folder: Path, seconds: float) -> None:
    """Train every run for so many seconds, or until all are done: the costliest first, some side by side on a GPU."""
    began = time.time()
    until = began + seconds
    (folder / "logs").mkdir(exist_ok=True)
    waiting: list[list[Run]] = [[] for _ in range(max(1, torch.cuda.device_count()))]
    unfinished = [
        run
        for run in read_suite(folder / "suite.toml")
        if not all((folder / "losses" / run.name / file).exists() for file in run.files)
    ]
    for run in sorted(unfinished, key=cost, reverse=True):
        min(waiting, key=lambda queue: sum(map(cost, queue))).append(run)
    running: list[list[subprocess.Popen[bytes]]] = [[] for _ in waiting]
    packed = began
    while time.time() < until + 20 and any((*waiting, *running)):
        for gpu, queue in enumerate(waiting):
            running[gpu] = [process for process in running[gpu] if process.poll() is None]
            while queue and len(running[gpu]) < SLOTS and time.time() < until:
                run = queue.pop(0)
                environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu), "OMP_NUM_THREADS": "1"}
                command = [sys.executable, str(Path(__file__).resolve()), "train", str(folder), run.name, str(until)]
                with (folder / "logs" / f"{run.name}.log").open("ab") as log:
                    running[gpu].append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))  # noqa: S603
        if time.time() > until:
            waiting = [[] for _ in waiting]
        if time.time() > packed + 30:
            packed = time.time()
            pack(folder)
        time.sleep(1)
    for process in (p for processes in running for p in processes):
        process.kill()
    sys.stdout.write(f"{pack(folder)} checkpoints, {time.time() - began:.0f} seconds\n")


def text(corpus: Path) -> None:
    """Write CORPUS/held-out.u16: the windows that nano was evaluated on, which its plan and seed fix."""
    from transformers import PreTrainedTokenizerFast

    from qidbayes.measure.inputs.windows import cut_windows
    from qidbayes.measure.plan.plan import TextSet

    tokenizer = PreTrainedTokenizerFast.from_pretrained(corpus.parent / "tokenizer")
    windows = cut_windows(TextSet("held-out", path=corpus / "held-out.txt"), tokenizer, seq_len=512, count=256, seed=0)
    if windows.hash != HELD_OUT:
        raise SystemExit(f"{corpus}: these are not nano's windows, but {windows.hash}")
    windows.tokens.numpy().astype("<u2").tofile(corpus / "held-out.u16")


def table(losses: Path) -> None:
    """Write nano-native.parquet: each checkpoint beside its twin of the same size, rate, schedule, seed and step."""
    import polars as pl

    from qidbayes.table import write_table

    windows = dict(np.load(losses))
    rows = []
    for run in read_suite(Path(__file__).with_name("suite.toml")):
        form = FORMATS[run.format]
        twin = replace(run, format="bf16").name
        for file in run.files:
            revision, _, decayed = file.removesuffix(".npy").partition("-")
            step = int(revision.removeprefix("step"))
            loss, base = (windows[f"{name}/{Path(file).stem}"] for name in (run.name, twin))
            low = form.weights is not None
            rows.append({
                "suite": "nano-native",
                "model": f"nano-native-{run.width}x{run.layers}-{decayed or 'stable'}-{run.seed}-{run.suite.peak:g}",
                "revision": revision,
                "n_params": run.n_params,
                "tokens": step * run.suite.tokens_per_step,
                "learning_rate": run.rate(step, decaying_to=step if decayed else None),
                "method": form.method,
                "bits": form.bits,
                "bits_per_weight": form.bits + (16 + form.bits) / GROUP if form.group_size else form.bits,
                "settings": "asymmetric" if form.group_size else "",
                "group_size": form.group_size,
                "bits_activation": 8.0 if form.activations else None,
                "dataset": "held-out",
                "n_eval_tokens": loss.size * run.suite.window,
                "seq_len": run.suite.window,
                "loss_16bit": base.mean(),
                "loss": loss.mean() if low else None,
                "qid": (loss - base).mean() if low else None,
                "qid_se": (loss - base).std(ddof=1) / math.sqrt(loss.size) if low else None,
                "source": "trained for this package by measurements/nano-native/native.py",
                "device": "NVIDIA H200",
            })  # fmt: skip
    frame = pl.DataFrame(rows, infer_schema_length=None)
    kept = {"windows": HELD_OUT, "unit": "nats per token of the models' tokenizer"}
    write_table(frame, Path(__file__).with_name("nano-native.parquet"), kept)
    sys.stdout.write(f"{frame.height} rows\n")


def main(command: str, *arguments: str) -> None:
    if command == "text":
        text(Path(arguments[0]))
    elif command == "table":
        table(Path(arguments[0]))
    elif command == "train":
        folder, name, until = Path(arguments[0]), arguments[1], float(arguments[2])
        torch.set_float32_matmul_precision("high")
        runs = {run.name: run for run in read_suite(folder / "suite.toml")}
        train(runs[name], folder, "cuda" if torch.cuda.is_available() else "cpu", until)
    else:
        run_suite(Path(arguments[0]).absolute(), float(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
