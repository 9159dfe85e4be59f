import pytest
import torch

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.awq import AWQFormat

from .packers import awq_tensors, by_hand, random_linear


@pytest.mark.parametrize("group_size", [16, None])
def test_reads_what_an_independent_writer_packed(group_size: int | None) -> None:
    codes, zeros, scales = random_linear(64, 24, 4 if group_size else 1, 4, seed=3)
    expected = by_hand(codes, zeros, scales, torch.arange(64) // (group_size or 64))
    assert torch.equal(AWQFormat(group_size).dequantize(awq_tensors(codes, zeros, scales)), expected)


def test_malformed_tensors_are_named() -> None:
    good = awq_tensors(*random_linear(64, 24, 4, 4, seed=3))
    with pytest.raises(InputError, match="which groups of 48 do not divide"):
        AWQFormat(48).dequantize(good)
    with pytest.raises(InputError, match=r"scales has shape \[4, 24\], expected \[2, 24\]"):
        AWQFormat(32).dequantize(good)
    with pytest.raises(InputError, match=r"qzeros has shape \[4, 2\], expected \[4, 3\]"):
        AWQFormat(16).dequantize(good | {"qzeros": good["qzeros"][:, :2]})
