"""Several settings solved together against each alone, and the Triton kernels, interpreted, against plain torch."""

import os
import subprocess
import sys

import pytest
import torch

from measure.quantize.test_gptq import problem
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.quantize import GPTQ, GPTQFloats
from qidbayes.measure.quantize import factorize as factorization
from qidbayes.measure.quantize.factorize import factorize, factorize_fast
from qidbayes.measure.quantize.float_grid import FORMATS
from qidbayes.measure.quantize.gptq import GPTQKind
from qidbayes.measure.quantize.gptq_batched import solve_together

SETTINGS = [
    {"group_size": 8},
    {"group_size": None},
    {"group_size": 12, "symmetric": False},
    {"group_size": 4, "act_order": True},
    {"group_size": 8, "act_order": True, "static_groups": True},
]


@pytest.mark.parametrize("block_size", [1, 5, 8, 128])
def test_together_is_each_alone(block_size: int) -> None:
    weight, hessian = problem()
    quantizers = [GPTQ(bits=bits, block_size=block_size, **s) for s in SETTINGS for bits in (2, 4)]  # type: ignore[arg-type]
    together = solve_together(quantizers, [q.prepare(weight, hessian.clone()) for q in quantizers])
    for quantizer, solved in zip(quantizers, together, strict=True):
        torch.testing.assert_close(solved, quantizer.solve(weight, hessian), rtol=0, atol=1e-12)


@pytest.mark.parametrize("block_size", [5, 32])
def test_floating_point_grids_beside_integers(block_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 64, dtype=torch.float64, generator=generator)
    weight = torch.randn(12, 64, dtype=torch.float64, generator=generator)
    hessian = inputs.T @ inputs / 200
    quantizers: list[GPTQKind] = [GPTQ(bits=3, group_size=16, block_size=block_size)]
    for settings in ({}, {"act_order": True}, {"static_groups": True, "rotate": True}):
        quantizers += [GPTQFloats(kind, block_size=block_size, **settings) for kind in FORMATS]
    sizes = [5, 7]
    together = solve_together(quantizers, [q.prepare(weight, hessian.clone(), sizes=sizes) for q in quantizers])
    for quantizer, solved in zip(quantizers, together, strict=True):
        alone = quantizer.solve(weight, hessian, sizes=sizes)
        torch.testing.assert_close(solved, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("columns", [8, 9, 50])  # below, above and twice above where halving begins
def test_the_fast_factor_is_the_factor(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factorization, "_SMALL", 8)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * columns, columns, dtype=torch.float64, generator=generator)
    hessian = inputs.T @ inputs / len(inputs)
    found = factorize_fast(hessian.clone(), 0.01)
    torch.testing.assert_close(found, factorize(hessian, 0.01), rtol=0, atol=1e-10)


def test_damping_grows_as_it_does_there() -> None:
    hessian = torch.diag(torch.tensor([1.0, 1.0, -0.05]))
    torch.testing.assert_close(factorize_fast(hessian.clone(), 0.001), factorize(hessian, 0.001))
    with pytest.raises(MeasureError, match="even with damping 1"):
        factorize_fast(torch.full((3, 3), torch.nan), 0.01)


KERNELS = """
import torch
from qidbayes.measure.quantize import round_block_triton
from qidbayes.measure.quantize.block import WHOLE, Block, Codes
from qidbayes.measure.quantize.round_block import round_block_plain
from qidbayes.measure.decoder.evaluate import token_losses
from qidbayes.measure.decoder import token_losses_triton

generator = torch.Generator().manual_seed(0)
for columns in (5, 16, 37):  # the last is more than the kernel holds at a time
    matrix = torch.randn(3, 21, 40, generator=generator)
    spread = torch.triu(torch.randn(3, columns, columns, generator=generator) / 9) + torch.eye(columns)
    scale = torch.rand(3, 21, 2, generator=generator) + 0.1
    index = (torch.arange(columns) // (columns // 2 + 1)).int().expand(3, -1)
    # A width of 2 and one of 3 bits beside E2M1; then E4M3 and E3M2, which have numbers below the normal ones.
    whole = torch.full((2,), WHOLE, dtype=torch.int32)
    if columns == 5:
        low, top = torch.tensor([0.0, 0.0, -6.0]), torch.tensor([3.0, 7.0, 6.0])
        least, mantissa = (torch.cat([whole, torch.tensor([k], dtype=torch.int32)]) for k in (0, 1))
        zero = torch.tensor([2.0, 3.0, 0.0])[:, None, None].expand_as(scale)
    else:
        low, top = torch.tensor([-448.0, -28.0, 0.0]), torch.tensor([448.0, 28.0, 15.0])
        least, mantissa = (torch.tensor([a, b, WHOLE], dtype=torch.int32) for a, b in ((-6, -2), (3, 2)))
        zero = torch.tensor([0.0, 0.0, 8.0])[:, None, None].expand_as(scale)
    codes = Codes(low, top, least, mantissa)
    block = Block(matrix[:, :, 3 : 3 + columns], spread, scale, zero, index, codes)
    plain = round_block_plain(block)
    done = round_block_triton.round_block(block)
    quantized, errors = done.quantized, done.errors
    torch.testing.assert_close(quantized, plain.quantized)
    torch.testing.assert_close(errors, plain.errors, rtol=1e-4, atol=1e-5)
    assert quantized.unique().numel() > 20

logits = (20 * torch.randn(3, 9000, generator=generator)).half()
logits[0, 7] = -torch.inf
targets = torch.tensor([0, 4096, 8999])
losses, logs, firsts = token_losses_triton.summarize(logits, targets)
torch.testing.assert_close(losses, token_losses(logits, targets)[0])
torch.testing.assert_close(logs, logits.float().logsumexp(1))
assert firsts.tolist() == logits.argmax(1).tolist()
logits[1, 5] = torch.nan
assert token_losses_triton.summarize(logits, targets)[0].isfinite().tolist() == [True, False, True]

from qidbayes.measure.decoder import hessian_triton

for columns in (7, 1500):
    into, parts = torch.randn(5, 2000, generator=generator), torch.randn(9, 5, columns, generator=generator)
    wanted, found = into.clone(), into.clone()
    for part in parts:
        wanted[:, 3 : 3 + columns] += part
    hessian_triton.add_parts(found[:, 3 : 3 + columns], parts)
    assert torch.equal(found, wanted) and not torch.equal(found, into)

from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from qidbayes.measure.decoder import rotary_triton

for own, turned, dtype, batches in (
    (modeling_gpt_neox.apply_rotary_pos_emb, 4, torch.float16, 1),
    (modeling_gpt_neox.apply_rotary_pos_emb, 12, torch.float32, 2),
    (modeling_llama.apply_rotary_pos_emb, 12, torch.float16, 2),  # not bfloat16: interpreted, it is cut, not rounded
):
    both = torch.randn(2, 7, 3, 24, generator=generator).to(dtype).transpose(1, 2)
    q, k = both.chunk(2, dim=-1)
    k = k[:, :2]
    angles = 9 * torch.rand(batches, 7, turned, generator=generator)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    for found, wanted in zip((rotary_triton.rotate(x, cos, sin) for x in (q, k)), own(q, k, cos, sin)):
        assert found.dtype == dtype and torch.equal(found, wanted), (own, dtype)
        assert not torch.equal(found, q) and found.transpose(1, 2).is_contiguous()
"""


def test_kernels_do_what_plain_torch_does() -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", KERNELS],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
