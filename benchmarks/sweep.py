"""The sweep, the plain path and GPTQModel on one GPU, on Pythia's shapes: seconds, losses, memory, and the floor.

    python benchmarks/sweep.py

Models are randomly initialised (the arithmetic is that of trained ones) in float16; GPTQ at 2, 3 and 4 bits in groups
of 128, 128 x 2,048 calibration and 256 x 2,048 evaluation tokens. Rows go to sweep.csv and sweep_losses.csv beside this
file as they are measured, the most wanted first: what the budget (seconds) cuts off is not there.
"""

import argparse
import csv
import gc
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedModel

from qidbayes.measure.decoder import blocks
from qidbayes.measure.decoder import layers as decoder_parts
from qidbayes.measure.decoder.evaluate import paired_difference, window_losses
from qidbayes.measure.decoder.hessian import SecondMoment
from qidbayes.measure.decoder.layers import decoder_layers, restoring_weights
from qidbayes.measure.quantize import GPTQ
from qidbayes.measure.run import sweep as swept
from qidbayes.measure.run.sweep import Sweep, sweep

HERE = Path(__file__).parent
OTHERS = Path("/tmp/qidbayes-gptqmodel")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CALIBRATION, EVALUATION, LENGTH = 128, 256, 2_048
VOCABULARY = 50_304
BITS = (2, 3, 4)
SECONDS = 4  # for each rate
CAP = 16  # GiB of the GPU's memory, where it is capped
COST = [
    "path", "shape", "layers", "width", "variants", "calibration_tokens", "evaluation_tokens", "seconds",
    "seconds_quantize", "seconds_evaluate", "peak_memory_gib", "cap_gib", "floor_seconds", "floor_share", "note",
]  # fmt: skip
LOSS = ["model", "bits", "loss_16bit", "qid", "qid_se", "qid_plain", "qid_plain_se", "qid_plain_reordered", "within"]


@dataclass(frozen=True)
class Shape:
    """A GPT-NeoX shape."""

    name: str
    layers: int
    width: int
    heads: int

    def cut(self, layers: int) -> "Shape":
        return Shape(self.name, layers, self.width, self.heads)

    def config(self) -> GPTNeoXConfig:
        return GPTNeoXConfig(
            vocab_size=VOCABULARY, hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=4 * self.width, max_position_embeddings=LENGTH,
        )  # fmt: skip


SHAPES = {
    "160M": Shape("160M", 12, 768, 12),
    "410M": Shape("410M", 24, 1024, 16),
    "1.4B": Shape("1.4B", 24, 2048, 16),
    "6.9B": Shape("6.9B", 32, 4096, 32),
    "12B": Shape("12B", 36, 5120, 40),
}


def random_model(shape: Shape) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device(DEVICE):
        torch.set_default_dtype(torch.float16)
        try:
            return AutoModelForCausalLM.from_config(shape.config()).eval()
        finally:
            torch.set_default_dtype(torch.float32)


def outside_model(shape: Shape) -> PreTrainedModel:
    """A model in main memory whose layers share one set of numbers: it is as large to the GPU, not to that memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape.config()).to(torch.float16).eval()
    one = random_model(shape.cut(1)).cpu()
    parts = dict(one.named_parameters()) | dict(one.named_buffers())
    stack, _ = decoder_layers(model)

    def first(name: str) -> Tensor:
        inside = name.startswith(f"{stack}.")
        return parts[".".join([stack, "0", *name[len(stack) + 1 :].split(".")[1:]]) if inside else name]

    for name, parameter in list(model.named_parameters()):
        owner = model.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], nn.Parameter(first(name).data, requires_grad=False))
        del parameter
    for name, _ in list(model.named_buffers()):
        owner = model.get_submodule(name.rpartition(".")[0])
        owner.register_buffer(name.rpartition(".")[2], first(name), persistent=False)
    return model


def windows(count: int, length: int, seed: int) -> Tensor:
    return torch.randint(VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))


def quantizers(count: int = 3) -> list[GPTQ]:
    """At 2, 3, 4 bits; more of them repeat those."""
    return [GPTQ(bits=BITS[i % 3]) for i in range(count)]


def timed[T](work: Callable[[], T]) -> tuple[float, T]:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    began = time.perf_counter()
    done = work()
    torch.cuda.synchronize()
    return time.perf_counter() - began, done


@dataclass(frozen=True)
class Rates:
    """What this GPU does: operations a second in half precision and in float32, bytes a second."""

    half: float
    single: float
    bandwidth: float


def measure_rates() -> Rates:
    def rate(work: Callable[[], object], amount: float) -> float:
        """Over seconds, in which the card comes to the clock that its power allows."""
        once = timed(lambda: [work() for _ in range(10)])[0] / 10
        times = int(SECONDS / once) + 1
        return amount * times / timed(lambda: [work() for _ in range(times)])[0]

    a = torch.randn(8192, 8192, device=DEVICE)
    half = a.half()
    other = torch.empty(2**30, dtype=torch.uint8, device=DEVICE)
    source = torch.empty_like(other)
    return Rates(
        rate(lambda: half @ half, 2 * 8192**3),
        rate(lambda: a @ a, 2 * 8192**3),
        rate(lambda: other.copy_(source), 2 * 2**30),
    )


def floor(shape: Shape, variants: int, calibration: int, evaluation: int, rates: Rates) -> float:
    """Seconds below which no pass can go: its operations and bytes at the measured rates, nothing overlapped.

    Calibration is counted as one forward pass, though sequential GPTQ replays parts of a layer before each of its
    linears is solved; a triangular factor and its inverse as 2/3 n^3.
    """
    layers, d = shape.layers, shape.width
    layer_token = 24 * d**2 + 2 * LENGTH * d
    passed = (variants + 1) * evaluation + variants * calibration
    half = passed * layers * layer_token + (variants + 1) * evaluation * 2 * d * VOCABULARY
    half += variants * calibration * layers * 19 * d**2  # one triangle of 2 (3 + 16) d^2
    single = variants * layers * (24 + 67 * 2 / 3) * d**3
    moved = passed * layers * d * 4 + layers * 24 * d**2 * (1 + 2 * variants)
    moved += (variants + 1) * evaluation * VOCABULARY * 4
    return half / rates.half + single / rates.single + moved / rates.bandwidth


class Rows:
    """Two CSV files that grow row by row."""

    def __init__(self, folder: Path) -> None:
        self._files = {"sweep.csv": COST, "sweep_losses.csv": LOSS}
        self._folder = folder
        for name, columns in self._files.items():
            with (folder / name).open("w") as file:
                csv.writer(file).writerow(columns)

    def add(self, name: str, **values: object) -> None:
        print(json.dumps(values, default=str), flush=True)
        with (self._folder / name).open("a") as file:
            row = [values.get(column, "") for column in self._files[name]]
            csv.writer(file).writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row)


class Benchmark:
    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.cap: int | None = None
        self.rates = measure_rates()
        told = ", ".join(f"{name} {value:.4g}" for name, value in vars(self.rates).items())
        rows.add("sweep.csv", path="rates", note=f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {told}")

    def sweep(
        self, shape: Shape, path: str = "sweep", variants: int = 3, share: float = 1.0,
        model: PreTrainedModel | None = None, note: str = "", until: float | None = None,
    ) -> tuple[Sweep, PreTrainedModel]:  # fmt: skip
        model = model or random_model(shape)
        calibration = windows(max(2, int(CALIBRATION * share)), LENGTH, 1)
        evaluation = windows(max(2, int(EVALUATION * share)), LENGTH + 1, 2)
        seconds, found = timed(
            lambda: sweep(model, quantizers(variants), calibration, [evaluation], DEVICE, until=until)
        )
        self.cost(
            shape,
            path,
            variants,
            calibration,
            evaluation,
            seconds,
            found.seconds_quantize,
            found.seconds_evaluate,
            note,
        )
        for variant in found.variants:
            if variant.error:
                print("FAILED", variant.error, flush=True)
        return found, model

    def cost(
        self, shape: Shape, path: str, variants: int, calibration: Tensor, evaluation: Tensor, seconds: float,
        quantize: float, evaluate: float, note: str = "",
    ) -> None:  # fmt: skip
        tokens = calibration.numel(), evaluation.shape[0] * LENGTH
        lowest = floor(shape, variants, *tokens, self.rates)
        self.rows.add(
            "sweep.csv", path=path, shape=shape.name, layers=shape.layers, width=shape.width, variants=variants,
            calibration_tokens=tokens[0], evaluation_tokens=tokens[1], seconds=seconds, seconds_quantize=quantize,
            seconds_evaluate=evaluate, peak_memory_gib=torch.cuda.max_memory_allocated() / 2**30,
            cap_gib=self.cap or "", floor_seconds=lowest, floor_share=lowest / seconds, note=note,
        )  # fmt: skip

    def plain(self, shape: Shape, whole: Shape, model: PreTrainedModel, bits: tuple[int, ...] = BITS) -> list[Tensor]:
        """The plain path; where the model is cut short, seconds of its layers are scaled to the whole."""
        calibration, evaluation = windows(CALIBRATION, LENGTH, 1), windows(EVALUATION, LENGTH + 1, 2)
        evaluating, losses = timed(lambda: [window_losses(model, evaluation)])
        quantize = 0.0
        for width in bits:
            with restoring_weights(model):
                began, _ = timed(lambda width=width: GPTQ(bits=width).quantize(model, calibration))
                quantize += began
                took, after = timed(lambda: window_losses(model, evaluation))
                evaluating += took
                losses.append(after)
        note = ""
        if shape.layers != whole.layers:
            # The head's share of evaluation does not grow with layers; the layers' does, and quantizing is all layers.
            one, two = (random_model(shape.cut(n)) for n in (1, 2))
            head, more = (timed(lambda m=m: window_losses(m, evaluation))[0] for m in (one, two))
            scale = whole.layers / shape.layers
            measured = quantize + evaluating
            quantize *= scale
            evaluating = (1 + len(bits)) * (head + (more - head) * (whole.layers - 1))
            note = f"measured {measured:.2f} s on {shape.layers} of {whole.layers} layers, scaled"
        self.cost(whole, "plain", len(bits), calibration, evaluation, quantize + evaluating, quantize, evaluating, note)
        return losses

    def plain_alone(self, name: str, bits: tuple[int, ...]) -> None:
        """The plain path on one layer of a shape, scaled."""
        one = SHAPES[name].cut(1)
        self.plain(one, SHAPES[name], random_model(one), bits)

    def compare(
        self, name: str, found: Sweep, plain: list[Tensor], reordered: list[Tensor | None] | None = None
    ) -> None:
        base = found.baseline[0]
        for i, (width, variant) in enumerate(zip(BITS[: len(plain) - 1], found.variants, strict=False)):
            ours, theirs = paired_difference(variant.losses[0], base), paired_difference(plain[i + 1], plain[0])
            again = reordered[i] if reordered else None
            self.rows.add(
                "sweep_losses.csv", model=name, bits=width, loss_16bit=float(base.mean()), qid=ours.mean,
                qid_se=ours.standard_error, qid_plain=theirs.mean, qid_plain_se=theirs.standard_error,
                qid_plain_reordered="" if again is None else paired_difference(again, plain[0]).mean,
                within=abs(ours.mean - theirs.mean) <= max(1e-3 * abs(theirs.mean), 0.1 * theirs.standard_error),
            )  # fmt: skip

    # The cases, the most wanted first.

    def warm_up(self) -> None:
        """Kernels are compiled, libraries loaded; and second moments are held against float64."""
        torch.manual_seed(0)
        x = torch.randn(40_000, 512, device=DEVICE).half()
        ours, plain = SecondMoment(), SecondMoment()
        ours.add(x)
        plain.add(x.float())
        exact = (x.double().T @ x.double()) / len(x)
        for name, value in (("tensor cores", ours.value()), ("float32", plain.value())):
            print(name, "second moment off by", float((value - exact).norm() / exact.norm()), flush=True)
        sweep(
            random_model(SHAPES["160M"].cut(1)),
            quantizers(),
            windows(32, LENGTH, 1),
            [windows(32, LENGTH + 1, 2)],
            DEVICE,
        )

    def tiny(self) -> None:
        """Trained models: the shipped tiny ones, where QiD is no noise."""
        folder = HERE.parent / "measurements" / "tiny"
        for step in ("step1024", "step65536"):
            path = folder / "checkpoints" / "128x3" / step
            if not path.exists():
                return
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float16).to(DEVICE).eval()
            text = self._tiny_tokens(folder)
            calibration, evaluation = text[:64, :-1], text[64:]
            settings = [GPTQ(bits=b, group_size=32) for b in BITS]
            found = sweep(model, settings, calibration, [evaluation], DEVICE)
            plain, reordered = [window_losses(model, evaluation)], []
            for q in settings:
                for kept, text in ((plain, calibration), (reordered, calibration.flip(0))):
                    with restoring_weights(model):
                        q.quantize(model, text)
                        kept.append(window_losses(model, evaluation))
            self.compare(f"tiny-128x3@{step}", found, plain, reordered)

    def _tiny_tokens(self, folder: Path) -> Tensor:
        from transformers import AutoTokenizer

        ids = AutoTokenizer.from_pretrained(folder / "tokenizer")((folder / "evaluation.txt").read_text())["input_ids"]
        return torch.tensor(ids).unfold(0, 257, 256)[:192].clone()

    def side_by_side(self, name: str, layers: int, bits: tuple[int, ...] = BITS) -> None:
        """The sweep of the whole shape, twice; the plain path on `layers` of it, and losses of both there."""
        shape = SHAPES[name]
        found, model = self.twice(name)
        if layers != shape.layers:
            del found, model
            found, model = self.sweep(shape.cut(layers), "sweep-cut")
        self.compare(f"{name} shape, {layers} layers", found, self.plain(shape.cut(layers), shape, model, bits))

    def twice(self, name: str) -> tuple[Sweep, PreTrainedModel]:
        """What a process does at the first checkpoint of a shape only is not in the second row."""
        _, model = self.sweep(SHAPES[name])
        return self.sweep(SHAPES[name], "sweep-next", model=model)

    def small_batches(self, name: str) -> None:
        """As many tokens at once as before batches went by free memory."""
        with patch.object(decoder_parts, "_MOST_TOKENS", 65_536), patch.object(decoder_parts, "_NUMBERS_CUDA", 2**26):
            _, model = self.sweep(
                SHAPES[name], "sweep-small-batches", note="batches of 65,536 tokens at most, 2^26 numbers"
            )
            self.sweep(SHAPES[name], "sweep-small-batches-next", model=model)

    def until(self, name: str) -> None:
        """Evaluation that ends after 1/8, 1/4 and 1/2 of the windows at 2, 3 and 4 bits, as told: nothing is known of a
        random model's QiD."""
        model = random_model(SHAPES[name])
        self.sweep(SHAPES[name], "sweep-next", model=model)
        asked: dict[int, int] = {}

        def told(losses: Tensor, *_: object) -> bool:
            asked[len(losses)] = asked.get(len(losses), 0) + 1
            return asked[len(losses)] == 1  # the first that is asked: 2 bits, then 3, then 4

        with patch.object(blocks, "is_told", told):
            note = "2, 3 and 4 bits end after 1/8, 1/4 and 1/2 of the windows, by order"
            self.sweep(SHAPES[name], "sweep-until", model=model, note=note, until=0.02)

    def cut(self, name: str, layers: int) -> None:
        """The sweep on some layers of a shape."""
        self.sweep(SHAPES[name].cut(layers), "sweep-cut", note=f"{layers} of {SHAPES[name].layers} layers")

    def growth(self) -> None:
        """Shapes that are nobody's: the dry run's formula is fitted to these."""
        base = Shape("growth", 6, 1024, 16)
        self.sweep(Shape("growth", 1, 4096, 32), "growth-width")
        for layers in (3, 6):
            self.sweep(base.cut(layers), "growth-layers")
        for width in (512, 2048):
            self.sweep(Shape("growth", 3, width, width // 64), "growth-width")
        self.sweep(base, "growth-tokens", share=0.25)
        for variants in (1, 6):
            self.sweep(base, "growth-variants", variants=variants)

    @contextmanager
    def little_memory(self) -> Iterator[None]:
        """Within this context the GPU has so much as a small one."""
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(CAP * 2**30 / total)
        self.cap = CAP
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
            self.cap = None

    def capped(self, name: str) -> None:
        """A shape whole and on all tokens, which the small memory has room for but for its states, maybe."""
        with self.little_memory():
            self.sweep(SHAPES[name], "sweep-capped")

    def capped_outside(self, layers: int, share: float) -> None:
        """A model that the small memory has no room for."""
        shape = SHAPES["12B"].cut(layers)
        note = f"{layers} of 36 layers, which share one set of numbers in main memory"
        # States wait there too, as they would with all tokens, so that these take as much of the GPU's memory.
        with self.little_memory(), patch.object(swept, "_RESERVE", 1.0):
            self.sweep(shape, "sweep-capped", share=share, model=outside_model(shape), note=note)

    @contextmanager
    def gptqmodel_process(self) -> Iterator[None]:
        """It imports and compiles for a minute, which is awaited, and is ended afterwards: it would keep the memory."""
        shutil.rmtree(OTHERS, ignore_errors=True)
        self._add_tokenizer(OTHERS / "small" / "model")
        with (OTHERS / "errors").open("w") as errors:
            command = [sys.executable, str(HERE / "sweep_gptqmodel.py"), str(OTHERS)]
            self._others = subprocess.Popen(command, stdout=errors, stderr=errors)
        try:
            while not (OTHERS / "ready").exists():
                if self._others.poll() is not None:
                    raise RuntimeError((OTHERS / "errors").read_text()[-600:])
                time.sleep(0.1)
            yield
        finally:
            self._others.kill()
            self._others.wait()

    def gptqmodel(self, name: str, layers: tuple[int, ...] = (), limit: float = 85) -> None:
        """All of a shape, or two cuts of it from which its seconds follow; given up after `limit` seconds."""
        with self.gptqmodel_process():
            self._gptqmodel_jobs(name, layers, limit)

    def _gptqmodel_jobs(self, name: str, layers: tuple[int, ...], limit: float) -> None:
        shape = SHAPES[name]
        until = time.perf_counter() + limit
        runs = [self._gptqmodel(shape.cut(n), until) for n in layers or (shape.layers,)]
        bits = min((done for _, _, done, _ in runs), key=len)
        if any(done != bits for _, _, done, _ in runs):
            raise RuntimeError(f"not all widths were done on every cut: {[done for _, _, done, _ in runs]}")
        quantize, evaluating = runs[-1][:2]
        note = "imports and compilation left out; seconds: " + "; ".join(told for *_, told in runs)
        if layers:
            # What it evaluates first at a new width takes longer than what follows, so no line goes through those.
            few, many = layers
            quantize += (shape.layers - many) / (many - few) * (quantize - runs[0][0])
            note = (
                f"quantizing on a line through {few} and {many} of {shape.layers} layers; evaluation is that of "
                f"{many}, so too little; {note}"
            )
        calibration, evaluation = windows(CALIBRATION, LENGTH, 1), windows(EVALUATION, LENGTH + 1, 2)
        seconds = quantize + evaluating
        self.cost(shape, "gptqmodel", len(bits), calibration, evaluation, seconds, quantize, evaluating, note)

    def _gptqmodel(self, shape: Shape, until: float) -> tuple[float, float, list[int], str]:
        """Return the seconds to quantize and to evaluate, the bit widths that got done, and every step's seconds."""
        folder = OTHERS / f"{shape.name}-{shape.layers}"
        random_model(shape).save_pretrained(folder / "model")
        self._add_tokenizer(folder / "model")
        gc.collect()
        torch.cuda.empty_cache()
        (folder / "new").write_text(",".join(map(str, BITS)))
        (folder / "new").rename(folder / "job")
        while not (folder / "done").exists() and self._others.poll() is None and time.perf_counter() < until:
            time.sleep(0.1)
        print((OTHERS / "errors").read_text()[-600:], flush=True)
        took = json.loads((folder / "took").read_text())
        shutil.rmtree(folder / "model")
        told = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in took.items())
        done = [b for b in BITS if f"evaluate_{b}" in took]
        quantize = sum(took[f"{part}_{b}"] for part in ("load", "quantize", "save") for b in done)
        evaluating = sum(took[f"{part}_{b}"] for part in ("load_again", "evaluate") for b in done)
        return quantize, evaluating + took["evaluate_16bit"], done, told

    def _add_tokenizer(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (HERE.parent / "measurements" / "tiny" / "tokenizer").iterdir():
            shutil.copy(path, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which no further case begins")
    parser.add_argument("--output", type=Path, default=HERE)
    parser.add_argument("--cases", help="some of them, by name, in the order wanted; all if not given")
    arguments = parser.parse_args()
    began = time.perf_counter()
    benchmark = Benchmark(Rows(arguments.output))
    benchmark.warm_up()
    # By case: what it does, and the seconds that must be left for it.
    cases: dict[str, tuple[Callable[[], object], float]] = {
        "tiny": (benchmark.tiny, 12),
        "160M": (lambda: benchmark.side_by_side("160M", 3), 25),
        "410M": (lambda: benchmark.side_by_side("410M", 2), 30),
        "1.4B-sweep": (lambda: benchmark.twice("1.4B"), 55),
        "6.9B-sweep": (lambda: benchmark.sweep(SHAPES["6.9B"]), 130),
        "1.4B-until": (lambda: benchmark.until("1.4B"), 45),
        "capped": (lambda: benchmark.capped_outside(36, 1 / 32), 70),
        "410M-capped": (lambda: benchmark.capped("410M"), 20),
        "1.4B-capped": (lambda: benchmark.capped("1.4B"), 60),
        "growth": (benchmark.growth, 30),
        "6.9B-plain": (lambda: benchmark.plain_alone("6.9B", (4,)), 20),
        "1.4B-plain": (lambda: benchmark.plain_alone("1.4B", BITS), 20),
        "6.9B-cut": (lambda: benchmark.cut("6.9B", 1), 10),
        "160M-small-batches": (lambda: benchmark.small_batches("160M"), 15),
        "410M-small-batches": (lambda: benchmark.small_batches("410M"), 30),
        "gptqmodel-160M": (lambda: benchmark.gptqmodel("160M"), 150),
        "gptqmodel-410M": (lambda: benchmark.gptqmodel("410M", limit=200), 180),
        "gptqmodel-1.4B": (lambda: benchmark.gptqmodel("1.4B", (2, 6), limit=300), 180),
        "gptqmodel-6.9B": (lambda: benchmark.gptqmodel("6.9B", (2, 6), limit=400), 180),
    }
    for name in arguments.cases.split(",") if arguments.cases else cases:
        work, needs = cases[name]
        spent = time.perf_counter() - began
        print(f"--- {name}, {spent:.0f} s spent", flush=True)
        if spent + needs > arguments.budget:
            print(f"left out: {name} needs some {needs} s", flush=True)
            continue
        try:
            work()
        except Exception as error:  # noqa: BLE001 (one case's failure must not cost the others)
            import traceback

            traceback.print_exc()
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    print(f"--- done, {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
