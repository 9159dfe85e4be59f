"""Every format at its width, on the shipped checkpoints, in one sweep each: QiD, divergence, and their own errors.

    python benchmarks/formats.py

Rows go to formats.csv beside this file: each of `quantizers()`, calibrated in three orders, on eight shipped
checkpoints of `tiny` and of nano's demo, in float16 on a GPU. Two are then measured on the CPU, in float32, so that
the quantizers' own error can be held against another machine.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from qidbayes.measure.decoder.compare import Compared
from qidbayes.measure.decoder.evaluate import paired_difference
from qidbayes.measure.inputs.windows import cut_windows
from qidbayes.measure.plan.plan import TextSet
from qidbayes.measure.quantize import GPTQ, RTN, Floats, GPTQFloats, Quantizer
from qidbayes.measure.quantize.float_grid import FORMATS
from qidbayes.measure.run.sweep import sweep
from qidbayes.resources import shipped

HERE = Path(__file__).parent
ORDERS = 3
CPU = ("128x3@step1024", "128x3@step65536")
COLUMNS = [
    "suite", "model", "device", "method", "rotate", "bits", "group_size", "bits_per_weight", "loss_16bit", "qid",
    "qid_se", "qid_se_quantizer", "kld", "kld_se", "kld_se_quantizer", "top_agreement", "seconds",
]  # fmt: skip


def quantizers(widest_group: int) -> list[Quantizer]:
    """Integers and formats, rounded and by GPTQ, some of them rotated; groups of 64 give 4.25 bits, as MXFP4 has."""
    integers = [(2, 32), (3, 32), (4, 32), (4, min(64, widest_group)), (8, 32)]
    made: list[Quantizer] = [RTN(bits, size) for bits, size in dict.fromkeys(integers)]
    made += [GPTQ(bits, size) for bits, size in dict.fromkeys(integers)]
    made += [Floats(kind) for kind in FORMATS]
    made += [GPTQFloats(kind) for kind in ("fp8", "mxfp4", "mxfp6", "nvfp4")]
    for bits in (2, 4):
        made += [RTN(bits, 32, rotate=True), GPTQ(bits, 32, rotate=True)]
    for kind in ("mxfp4", "nvfp4"):
        made += [Floats(kind, rotate=True), GPTQFloats(kind, rotate=True)]
    return made


def checkpoints() -> Iterator[tuple[str, str, Path, Path]]:
    """Suite, name, folder of the weights, folder of the texts and the tokenizer."""
    tiny, demo = shipped("measurements") / "tiny", Path(__file__).parent / "nano-demo"
    for root, suite, pattern in ((tiny, "tiny", "128x3/*"), (tiny, "tiny", "64x2/step*4"), (demo, "nano/demo", "*/*")):
        for folder in sorted((root / "checkpoints").glob(pattern)):
            yield suite, f"{folder.parent.name}@{folder.name}", folder, root


def windows(root: Path, name: str, seq_len: int, count: int) -> Tensor:
    """Of tiny's texts, by the checkpoint's own tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(root / "tokenizer")
    path = shipped("measurements") / "tiny" / f"{name}.txt"
    return cut_windows(TextSet(name, path=path), tokenizer, seq_len, count, seed=0).tokens


def rows(suite: str, name: str, folder: Path, root: Path, device: torch.device) -> Iterator[dict[str, object]]:
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(device)
    calibration, texts = windows(root, "calibration", 256, 32)[:, :-1].to(device), windows(root, "evaluation", 256, 128)
    all_quantizers = quantizers(64 if model.config.hidden_size % 64 == 0 else 32)
    began = time.perf_counter()
    found = sweep(model, all_quantizers, calibration, [texts], device, orders=ORDERS)
    seconds = time.perf_counter() - began
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    for quantizer, variant in zip(all_quantizers, found.variants, strict=True):
        assert variant.report, variant.error
        parts = [one for (one,) in variant.orders]
        mean = Compared.mean(parts)
        qid = paired_difference(mean.losses, found.baseline[0])
        kld = paired_difference(mean.kld, torch.zeros_like(mean.kld))
        between = {
            quantity: torch.stack([getattr(one, quantity).mean() for one in parts]).std().item() / len(parts) ** 0.5
            for quantity in ("losses", "kld")
            if len(parts) > 1
        }
        made = [
            suite, name, where, quantizer.method, quantizer.rotate, quantizer.bits, quantizer.group_size,  # type: ignore[attr-defined]
            variant.report.bits_per_weight, found.baseline[0].mean().item(), qid.mean, qid.standard_error,
            between.get("losses"), kld.mean, kld.standard_error, between.get("kld"), mean.top_agreement.mean().item(),
            seconds,
        ]  # fmt: skip
        yield {
            key: float(f"{value:.6g}") if isinstance(value, float) else value
            for key, value in zip(COLUMNS, made, strict=True)
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", nargs="+", choices=("cuda", "cpu"), default=("cuda", "cpu"))
    parser.add_argument("--output", type=Path, default=HERE / "formats.csv")
    asked = parser.parse_args()
    with asked.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for device in asked.devices:
            for suite, name, folder, root in checkpoints():
                if device == "cuda" or name in CPU:
                    writer.writerows(rows(suite, name, folder, root, torch.device(device)))
                    file.flush()


if __name__ == "__main__":
    main()
