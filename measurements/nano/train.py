"""Train one GPT-NeoX run of this suite: `python train.py FOLDER RUN [UNTIL]`, RUN being a name like 128x3-stable-0.

FOLDER holds suite.toml and corpus/train.u16; checkpoints appear under FOLDER/checkpoints. UNTIL is a time (seconds
since 1970) to stop at; a run that was stopped or killed goes on from where its state was last saved. Two schedules,
over the same text in the same order (a seed fixes both it and the weights):

- cosine: one run to a tenth of the peak rate, as Pythia's.
- stable: a constant rate after warm-up. At 80% of every second kept step a branch leaves it and decays to a tenth of
  the peak over the last 20%, as a run planned for that length would. Those branches' ends are the `decayed`
  checkpoints: the same tokens as the stable checkpoint of that step, at another learning rate.
"""

import math
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from qidbayes.atomic import replacing
from qidbayes.measure.plan.schedule import Schedule


@dataclass(frozen=True)
class Suite:
    """What suite.toml says of all runs; rates are per step, lengths in tokens."""

    vocabulary: int
    window: int
    batch: int
    peak: float
    final: float
    warmup: int
    cooldown: float
    first: int

    @property
    def tokens_per_step(self) -> int:
        return self.window * self.batch


@dataclass(frozen=True)
class Run:
    """One training run: a size, a schedule, a seed and a length in steps."""

    suite: Suite
    width: int
    layers: int
    schedule: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.width}x{self.layers}-{self.schedule}-{self.seed}"

    @property
    def n_params(self) -> int:
        """Non-embedding parameters: matrices, biases and layer norms."""
        return 12 * self.layers * self.width**2 + 13 * self.layers * self.width + 2 * self.width

    @property
    def kept(self) -> list[int]:
        """The steps whose weights are kept, a factor of √2 apart, down from the last."""
        steps = [round(self.steps / 2 ** (k / 2)) for k in range(64)]
        return sorted(step for step in steps if step >= self.suite.first)

    @property
    def branches(self) -> dict[int, int]:
        """Where each decay branch leaves a stable run: {the step it ends at: the step it leaves at}."""
        ends = self.kept[::-2] if self.schedule == "stable" else []
        leaving = {end: round((1 - self.suite.cooldown) * end) for end in sorted(ends)}
        return {end: start for end, start in leaving.items() if start >= self.suite.warmup}

    def rate(self, step: int, decaying_to: int | None = None) -> float:
        """The learning rate of the step-th update; `decaying_to` is the end of a decay branch."""
        suite = self.suite
        if self.schedule == "cosine":
            return Schedule("cosine", suite.warmup, self.steps, suite.final).rate(suite.peak, step)
        if decaying_to is not None and step > self.branches[decaying_to]:
            return Schedule("linear", self.branches[decaying_to], decaying_to, suite.final).rate(suite.peak, step)
        return Schedule("constant", suite.warmup).rate(suite.peak, step)

    def folder(self, step: int, decayed: bool = False) -> Path:
        """Where a checkpoint lies under FOLDER/checkpoints."""
        return Path(self.name.replace("stable", "decayed") if decayed else self.name) / f"step{step}"


def read_suite(path: Path) -> list[Run]:
    """The runs of a suite.toml, in its order."""
    says = tomllib.loads(path.read_text())
    tables = says.pop("runs")
    suite = Suite(**says)
    return [
        Run(suite, table["width"], table["layers"], schedule, seed, table["steps"])
        for table in tables
        for seed in table["seeds"]
        for schedule in table["schedules"]
    ]


def new_model(run: Run) -> GPTNeoXForCausalLM:
    """Pythia's architecture, heads of 64."""
    torch.manual_seed(run.seed)
    config = GPTNeoXConfig(
        vocab_size=run.suite.vocabulary, hidden_size=run.width, num_hidden_layers=run.layers,
        num_attention_heads=max(1, run.width // 64), intermediate_size=4 * run.width,
        max_position_embeddings=run.suite.window, rotary_pct=0.25, use_parallel_residual=True, hidden_dropout=0.0,
        attention_dropout=0.0, tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config)


def read_tokens(path: Path) -> Tensor:
    """The training text, its documents (each begun by token 0) in a random order that all runs share."""
    ids = np.fromfile(path, dtype="<u2").astype(np.int16)
    starts = np.flatnonzero(ids == 0)
    ends = np.append(starts[1:], len(ids))
    order = np.random.default_rng(0).permutation(len(starts))
    return torch.from_numpy(np.concatenate([ids[starts[i] : ends[i]] for i in order]))


def reading_order(run: Run, n_tokens: int) -> Tensor:
    """`[steps, batch]`: where each window of each step starts. Every pass over the text shuffles all windows anew."""
    suite, windows = run.suite, (n_tokens - 1) // run.suite.window
    wanted = run.steps * suite.batch
    passes = [
        torch.randperm(windows, generator=torch.Generator().manual_seed(1000 * run.seed + n))
        for n in range(-(-wanted // windows))
    ]
    return torch.cat(passes)[:wanted].view(run.steps, suite.batch) * suite.window


class Trainer:
    """A model, its optimizer and the step they have come to; on CUDA, one captured graph per training step."""

    def __init__(self, run: Run, tokens: Tensor) -> None:
        self.run, self.step, device = run, 0, tokens.device
        self.model = self.new_model().to(device)
        self.head = self.model.get_output_embeddings()
        self.tokens, self.order = tokens, reading_order(run, len(tokens)).to(device)
        self.offsets = torch.arange(run.suite.window + 1, device=device)
        self.rates = torch.zeros(run.steps, device=device)
        self.at = torch.zeros(1, dtype=torch.long, device=device)  # the step, where a captured graph can read it
        self.rate = torch.zeros((), device=device)  # a tensor, so that a graph sees it change
        decay = [p for p in self.model.parameters() if p.ndim == 2]
        other = [p for p in self.model.parameters() if p.ndim != 2]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
        cuda = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.95), fused=True, capturable=cuda)
        neox = self.model.gpt_neox
        self.rotary = neox.rotary_emb(neox.embed_in.weight, torch.arange(run.suite.window, device=device)[None])
        self.loss_of = torch.compile(self._loss, dynamic=False) if cuda else self._loss
        self.loss = torch.zeros((), device=device)
        self.update = self._captured() if cuda else self._update
        if not cuda:
            self._forget_warm_up(self._warm_up(1))

    def new_model(self) -> GPTNeoXForCausalLM:
        return new_model(self.run)

    def _loss(self, windows: Tensor) -> Tensor:
        neox = self.model.gpt_neox
        with torch.autocast(windows.device.type, torch.bfloat16):
            hidden = neox.embed_in(windows[:, :-1]).bfloat16()
            for layer in neox.layers:  # without a mask they attend causally, through the fast kernels
                hidden = layer(hidden, attention_mask=None, position_embeddings=self.rotary)
            logits = self.head(neox.final_layer_norm(hidden))
        return functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())

    def _update(self) -> None:
        self.rate.copy_(self.rates[self.at][0])
        windows = self.tokens[self.order[self.at].T + self.offsets].long()
        loss = self.loss_of(windows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.loss.copy_(loss.detach())
        self.at += 1
        if not torch.cuda.is_available() or not torch.cuda.is_current_stream_capturing():
            self.optimizer.zero_grad()

    def _warm_up(self, steps: int) -> list[Tensor]:
        """Make the optimizer's state and the compiled code; returns the weights as they were."""
        kept = [p.detach().clone() for p in self.model.parameters()]
        for _ in range(steps):
            self._update()
        return kept

    @torch.no_grad()
    def _forget_warm_up(self, weights: list[Tensor]) -> None:
        for parameter, kept in zip(self.model.parameters(), weights, strict=True):
            parameter.copy_(kept)
            for moment in self.optimizer.state[parameter].values():
                moment.zero_()

    def _captured(self) -> Any:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            weights = self._warm_up(3)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # its gradients are written anew at each replay: they were None when it began
            self._update()
        self._forget_warm_up(weights)
        return graph.replay

    @property
    def state(self) -> list[Tensor]:
        """Everything that training changes, as the tensors themselves."""
        return [t for p in self.model.parameters() for t in (p.data, *self.optimizer.state[p].values())]

    def advance(self, to: int, until: float, decaying_to: int | None = None) -> bool:
        """Train up to step `to`, or as far as the time `until` allows; returns whether it got there."""
        rates = [self.run.rate(step + 1, decaying_to) for step in range(self.run.steps)]
        self.rates.copy_(torch.tensor(rates))
        self.at.fill_(self.step)
        while self.step < to and time.time() < until:
            self.update()
            self.step += 1
            if self.step % 16 == 0 and self.tokens.is_cuda:
                torch.cuda.synchronize()  # a GPU that lags many steps behind would run past `until`
        return self.step == to

    def keep(self, folder: Path) -> None:
        """Write the model as transformers reads it, in float16; the folder appears whole."""
        beside = folder.with_name(f".{folder.name}")
        config = self.model.config
        model = GPTNeoXForCausalLM(config)
        model.load_state_dict(self.model.state_dict())
        model.half().save_pretrained(beside)
        beside.replace(folder)

    @torch.no_grad()
    def restore(self, state: list[Tensor], step: int) -> None:
        """Go back to a `state` that was copied at `step`."""
        for tensor, kept in zip(self.state, state, strict=True):
            tensor.copy_(kept)
        self.step = step

    def save(self, path: Path) -> None:
        tensors = {str(n): tensor.contiguous().cpu() for n, tensor in enumerate(self.state)}
        with replacing(path) as beside:
            save_file(tensors, beside, {"step": str(self.step)})

    def load(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            state = [file.get_tensor(str(n)) for n in range(len(self.state))]
            self.restore(state, int(file.metadata()["step"]))


def train(run: Run, folder: Path, device: str, until: float = math.inf) -> None:
    """Bring a run to its end, or as far as the time `until` allows, keeping checkpoints on the way."""
    out, state = folder / "checkpoints", folder / "states" / f"{run.name}.safetensors"
    began = time.time()
    tokens = read_tokens(folder / "corpus" / "train.u16").to(device)
    trainer = Trainer(run, tokens)
    if state.exists():
        trainer.load(state)
    for directory in (out / run.folder(0).parent, out / run.folder(0, decayed=True).parent, state.parent):
        directory.mkdir(parents=True, exist_ok=True)

    def say(what: str) -> None:
        passes = trainer.step * run.suite.tokens_per_step / len(tokens)
        told = f"{what} step {trainer.step} passes {passes:.2f} loss {float(trainer.loss):.4f}"
        sys.stdout.write(f"{run.name} {told} seconds {time.time() - began:.1f}\n")
        sys.stdout.flush()

    def branch(end: int) -> bool:
        here, start = [tensor.clone() for tensor in trainer.state], trainer.step
        arrived = trainer.advance(end, until, decaying_to=end)
        if arrived:
            trainer.keep(out / run.folder(end, decayed=True))
            say("decayed")
        trainer.restore(here, start)
        return arrived

    say("begins")
    for stop in sorted({*run.kept, *run.branches.values()}):
        going_on = trainer.step >= stop or trainer.advance(stop, until)
        if going_on and stop in run.kept and not (out / run.folder(stop)).exists():
            trainer.keep(out / run.folder(stop))
            say("kept")
        for end in (e for e, start in run.branches.items() if start == trainer.step == stop):
            if not (out / run.folder(end, decayed=True)).exists():
                going_on = going_on and branch(end)
        trainer.save(state)
        if not going_on:
            say("stops for now")
            return


def main(folder: Path, name: str, until: float = math.inf) -> None:
    runs = {run.name: run for run in read_suite(folder / "suite.toml")}
    torch.set_float32_matmul_precision("high")
    train(runs[name], folder, "cuda" if torch.cuda.is_available() else "cpu", until)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:]))
