"""One plan on several machines: does QiD differ by more than its errors say?

    python benchmarks/machines.py --devices cuda

GPTQ at 2, 3 and 4 bits, in the order of columns and by activations, calibrated in four orders of the same windows, and
round-to-nearest beside it: four shipped checkpoints of `tiny` on a CPU and on a GPU, in float32 and in float16, and a
randomly initialised model of Pythia-160M's shape on a GPU as it is and with its memory capped at 16 GiB. Rows
go to machines.csv beside this file. tests/test_results.py works out chi-square over the cells.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXConfig, PreTrainedModel

from qidbayes.measure.decoder.compare import Compared
from qidbayes.measure.decoder.evaluate import paired_difference
from qidbayes.measure.inputs.windows import cut_windows
from qidbayes.measure.plan.plan import TextSet
from qidbayes.measure.quantize import GPTQ, RTN, Quantizer
from qidbayes.measure.run.sweep import sweep
from qidbayes.resources import shipped

HERE = Path(__file__).parent
TINY = shipped("measurements") / "tiny"
ORDERS = 4
CAP = 16 * 2**30
CHECKPOINTS = ("64x2/step16384", "96x2/step65536", "128x3/step1024", "128x3/step65536")
COLUMNS = ["machine", "model", "dtype", "method", "act_order", "bits", "qid", "qid_se", "qid_se_quantizer"]


def quantizers(size: int) -> list[Quantizer]:
    made: list[Quantizer] = [RTN(bits, size) for bits in (2, 3, 4)]
    return made + [GPTQ(bits, size, act_order=by) for bits in (2, 3, 4) for by in (False, True)]


def windows(name: str, count: int) -> Tensor:
    tokenizer = AutoTokenizer.from_pretrained(TINY / "tokenizer")
    return cut_windows(TextSet(name, path=TINY / f"{name}.txt"), tokenizer, 256, count, seed=0).tokens


def rows(machine: str, name: str, model: PreTrainedModel, size: int, texts: tuple[Tensor, Tensor]) -> Iterator[dict]:
    device, asked = next(model.parameters()).device, quantizers(size)
    found = sweep(model, asked, texts[0].to(device), [texts[1]], device, orders=ORDERS)
    for quantizer, variant in zip(asked, found.variants, strict=True):
        assert variant.report, variant.error
        parts = [one for (one,) in variant.orders]
        qid = paired_difference(Compared.mean(parts).losses, found.baseline[0])
        spread = torch.stack([one.losses.mean() for one in parts]).std() / len(parts) ** 0.5 if len(parts) > 1 else None
        made = [machine, name, str(model.dtype).removeprefix("torch."), quantizer.method]
        made += [getattr(quantizer, "act_order", False), quantizer.bits]
        numbers = [qid.mean, qid.standard_error, None if spread is None else float(spread)]
        yield dict(zip(COLUMNS, made + [x if x is None else float(f"{x:.6g}") for x in numbers], strict=True))


def tiny(device: torch.device) -> Iterator[dict]:
    texts = windows("calibration", 64)[:, :-1], windows("evaluation", 128)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    for folder in CHECKPOINTS:
        for dtype in (torch.float32, torch.float16):
            model = AutoModelForCausalLM.from_pretrained(TINY / "checkpoints" / folder, dtype=dtype).eval().to(device)
            yield from rows(machine, folder.replace("/", "@"), model, 32, texts)


def large(device: torch.device) -> Iterator[dict]:
    generator = torch.Generator().manual_seed(0)
    texts = tuple(torch.randint(50_304, shape, generator=generator) for shape in ((128, 2048), (64, 2049)))
    torch.manual_seed(0)
    shape = {"vocab_size": 50_304, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = GPTNeoXConfig(**shape, intermediate_size=3072, max_position_embeddings=2048)
    model = AutoModelForCausalLM.from_config(config).half().eval().to(device)
    name, total = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    yield from rows(name, "160M shape", model, 128, texts)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(CAP / total)
    yield from rows(f"{name}, 16 GiB of it", "160M shape", model, 128, texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", choices=("cuda", "cpu"), default=("cuda", "cpu"))
    parser.add_argument("--output", type=Path, default=HERE / "machines.csv")
    asked = parser.parse_args()
    with asked.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for kind in asked.devices:
            device = torch.device(kind)
            for row in [*tiny(device), *(large(device) if kind == "cuda" else [])]:
                writer.writerow(row)
                file.flush()


if __name__ == "__main__":
    main()
