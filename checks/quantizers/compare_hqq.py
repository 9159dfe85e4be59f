"""Hold our HQQ against the library's, matrix by matrix: `python checks/quantizers/compare_hqq.py`, beside hqq 0.2.8.

The library demands no version of torch, so it stands beside this package and its `measure` extra: `make check-hqq`
installs it in a folder of its own and runs this, which writes hqq.csv.
"""

# ruff: noqa: T201
import csv
from pathlib import Path

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
from torch import nn
from transformers import AutoModelForCausalLM

from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.quantize import HQQ
from qidbayes.resources import shipped

BITS = (1, 2, 3, 4, 5, 6, 8)  # the library has no 7
GROUPS = (16, 64, None)
DTYPES = ("float32", "bfloat16", "float16")


def linears() -> dict[str, nn.Linear]:
    """Those of a trained model, and one whose rows differ in size, with a row of zeros."""
    model = AutoModelForCausalLM.from_pretrained(shipped("measurements") / "tiny/checkpoints/128x3/step16384")
    torch.manual_seed(0)
    uneven = nn.Linear(128, 96, bias=False)
    with torch.no_grad():
        uneven.weight.mul_(torch.randn(96, 1).exp())
        uneven.weight[3] = 0
    return {**stack_linears(model), "uneven": uneven}


@torch.no_grad()
def main() -> None:
    """Compare, and write the table: a row a setting."""
    rows = []
    matrices = linears()
    for dtype in DTYPES:
        for bits in BITS:
            for size in GROUPS:
                config = BaseQuantizeConfig(nbits=bits, group_size=size, axis=1)
                equal = 0
                for linear in matrices.values():
                    own = nn.Linear(linear.in_features, linear.out_features, bias=False)
                    own.weight.data = linear.weight.detach().to(getattr(torch, dtype))
                    theirs = HQQLinear(own, config, compute_dtype=own.weight.dtype, device="cpu", del_orig=False)
                    equal += torch.equal(HQQ(bits, size).round_linear(own)[0], theirs.dequantize())
                rows.append((dtype, bits, size or "channel", len(matrices), equal))
    path = Path(__file__).with_name("hqq.csv")
    with path.open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("dtype", "bits", "group_size", "matrices", "equal_to_the_bit"))
        writer.writerows(rows)
    print(f"{sum(row[4] for row in rows)} of {sum(row[3] for row in rows)} matrices are equal to the bit")


if __name__ == "__main__":
    main()
