"""Every format at its width, on the shipped checkpoints, in one sweep each: QiD, divergence, and their own errors.

    python benchmarks/formats.py

Rows go to formats.csv beside this file: each of `quantizers()`, calibrated in three orders, on eight shipped
checkpoints of `tiny` and of nano's demo, in float16 on a GPU. `qid_oracle` is QiD where a library rounds:
compressed-tensors, and hqq where it is installed. Two checkpoints are then measured on the CPU, in float32, so that the
quantizers' own error can be held against another machine.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from qidbayes.measure.decoder.compare import Compared
from qidbayes.measure.decoder.evaluate import paired_difference
from qidbayes.measure.inputs.windows import cut_windows
from qidbayes.measure.plan.plan import TextSet
from qidbayes.measure.quantize import GPTQ, HQQ, RTN, Floats, GPTQFloats, Quantizer
from qidbayes.measure.quantize.float_grid import FORMATS
from qidbayes.measure.run.sweep import sweep
from qidbayes.resources import shipped

try:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
except ImportError:  # it demands what this package does not: `make check-hqq` installs it apart
    HQQLinear = None

HERE = Path(__file__).parent
ORDERS = 3
CPU = ("128x3@step1024", "128x3@step65536")
COLUMNS = [
    "suite", "model", "device", "method", "rotate", "activations", "bits", "group_size", "bits_per_weight",
    "loss_16bit", "qid", "qid_se", "qid_se_quantizer", "qid_oracle", "kld", "kld_se", "kld_se_quantizer",
    "top_agreement", "seconds",
]  # fmt: skip

_POWER = {"scale_dtype": torch.uint8, "zp_dtype": torch.uint8}
_ARGUMENTS = {
    "fp8": {"num_bits": 8, "strategy": "channel"},
    "fp8-tensor": {"num_bits": 8, "strategy": "tensor"},
    "fp8-block": {"num_bits": 8, "strategy": "block", "block_structure": [128, 128]},
    "mxfp4": {"num_bits": 4, "strategy": "group", "group_size": 32, **_POWER},
    "mxfp6": {"num_bits": 6, "strategy": "group", "group_size": 32, **_POWER},
    "nvfp4": {"num_bits": 4, "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn},
}  # of compressed-tensors, which has no E3M2


def quantizers(widest_group: int) -> list[Quantizer]:
    """Integers and formats, rounded, by HQQ and by GPTQ, some of them rotated or with rounded inputs too.

    Groups of 64 give integers 4.25 bits, as MXFP4 has.
    """
    integers = [(2, 32), (3, 32), (4, 32), (4, min(64, widest_group)), (8, 32)]
    made: list[Quantizer] = [RTN(bits, size) for bits, size in dict.fromkeys(integers)]
    made += [GPTQ(bits, size) for bits, size in dict.fromkeys(integers)]
    made += [Floats(kind) for kind in FORMATS]
    made += [GPTQFloats(kind) for kind in ("fp8", "mxfp4", "mxfp6", "nvfp4")]
    for bits in (2, 4):
        made += [RTN(bits, 32, rotate=True), GPTQ(bits, 32, rotate=True)]
    for kind in ("mxfp4", "nvfp4"):
        made += [Floats(kind, rotate=True), GPTQFloats(kind, rotate=True)]
    made += [HQQ(bits, size) for bits, size in dict.fromkeys(integers)]
    made += [RTN(8, None, activations=True), Floats("fp8", activations=True)]  # W8A8
    made += [Floats(kind, rotate, activations=True) for kind in ("mxfp4", "nvfp4") for rotate in (False, True)]  # W4A4
    return made


@dataclass(frozen=True)
class CompressedTensors(Floats):
    """A format by compressed-tensors: its scales of the extremes, and its rounding."""

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """See `MatrixQuantizer.round_linear`; the bits are ours."""
        weight = linear.weight.detach().float()
        said = QuantizationArgs(type="float", symmetric=True, dynamic=False, **_ARGUMENTS[self.kind])
        shared = generate_gparam(weight.amin(), weight.amax()) if self.kind == "nvfp4" else None
        if self.kind == "fp8-tensor":
            seen = weight.reshape(1, -1)
        elif self.kind == "fp8-block":
            rows, columns = (-(-n // 128) for n in weight.shape)
            padded = nn.functional.pad(weight, (0, -weight.shape[1] % 128, 0, -weight.shape[0] % 128))
            seen = padded.reshape(rows, 128, columns, 128).permute(0, 2, 1, 3).flatten(2)
        else:
            seen = weight.reshape(len(weight), -1, self.group_size or weight.shape[1])
        scale, zero = calculate_qparams(seen.amin(-1), seen.amax(-1), said, shared)
        return fake_quantize(weight.clone(), scale, zero, said, shared), super().round_linear(linear)[1]


@dataclass(frozen=True)
class HQQLibrary(HQQ):
    """HQQ by the library of that name."""

    def round_linear(self, linear: nn.Linear) -> tuple[Tensor, int]:
        """See `MatrixQuantizer.round_linear`; the bits are ours."""
        own = nn.Linear(linear.in_features, linear.out_features, bias=False)
        own.weight.data = linear.weight.detach().clone()
        config = BaseQuantizeConfig(nbits=self.bits, group_size=self.group_size, axis=1)
        kind, where = linear.weight.dtype, str(linear.weight.device)
        theirs = HQQLinear(own, config, compute_dtype=kind, device=where, del_orig=False)
        return theirs.dequantize(), super().round_linear(linear)[1]


def oracle(quantizer: Quantizer) -> Quantizer | None:
    """Return the same by a library; None where none is asked: for what is rotated, rounds inputs or is calibrated."""
    if isinstance(quantizer, Floats) and quantizer.kind in _ARGUMENTS:
        return None if quantizer.rotate or quantizer.activations else CompressedTensors(quantizer.kind)
    if isinstance(quantizer, HQQ) and HQQLinear is not None:
        return HQQLibrary(quantizer.bits, quantizer.group_size)
    return None


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
    libraries = [oracle(quantizer) for quantizer in all_quantizers]
    held = iter(sweep(model, [one for one in libraries if one], calibration, [texts], device).variants)
    oracles = [next(held) if one else None for one in libraries]
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    for quantizer, variant, theirs in zip(all_quantizers, found.variants, oracles, strict=True):
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
            suite, name, where, quantizer.method, getattr(quantizer, "rotate", False),
            getattr(quantizer, "activations", False), quantizer.bits, quantizer.group_size,
            variant.report.bits_per_weight, found.baseline[0].mean().item(), qid.mean, qid.standard_error,
            between.get("losses"), theirs and paired_difference(theirs.losses[0], found.baseline[0]).mean, kld.mean,
            kld.standard_error, between.get("kld"), mean.top_agreement.mean().item(), seconds,
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
