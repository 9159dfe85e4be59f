import pytest
import torch

from qidbayes.errors import InputError
from qidbayes.measure.prequantized.gptq import GPTQFormat
from qidbayes.measure.prequantized.packing import unpack_rows

from .packers import by_hand, gptq_tensors, random_linear


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("group_size", [16, None])
def test_reads_what_an_independent_writer_packed(bits: int, version: int, group_size: int | None) -> None:
    groups = 4 if group_size else 1
    codes, zeros, scales = random_linear(64, 32, groups, bits, seed=bits)
    g_idx = torch.arange(64) // (group_size or 64)
    expected = by_hand(codes, zeros, scales, g_idx)
    kind = GPTQFormat(bits, group_size, version)
    tensors = gptq_tensors(codes, zeros, scales, g_idx, bits, version)
    assert torch.equal(kind.dequantize(tensors), expected)
    del tensors["g_idx"]
    assert torch.equal(kind.dequantize(tensors), expected)


def test_act_order_groups_follow_g_idx() -> None:
    codes, zeros, scales = random_linear(64, 32, 4, 4, seed=0)
    g_idx = torch.arange(64)[torch.randperm(64, generator=torch.Generator().manual_seed(0))] // 16
    tensors = gptq_tensors(codes, zeros, scales, g_idx, 4, 1)
    assert torch.equal(GPTQFormat(4, 16, 1).dequantize(tensors), by_hand(codes, zeros, scales, g_idx))


def test_three_bit_codes_cross_words_as_autogptq_writes_them() -> None:
    """The borders spelled out in its `pack`: code 10 in bits 30, 31 and 32, code 21 in bits 63, 64 and 65."""
    codes = [0] * 32
    codes[10], codes[21] = 0b101, 0b110
    words = [(codes[10] << 30) & 0xFFFFFFFF, codes[10] >> 2 | (codes[21] & 1) << 31, codes[21] >> 1]
    signed = torch.tensor(words).to(torch.int32)[:, None]
    assert unpack_rows(signed, 3)[:, 0].tolist() == codes


def test_zero_of_version_one_is_read_as_autogptq_does() -> None:
    """What its writer leaves for a zero point of 0 is the largest code, and its kernels add one without wrapping."""
    codes, zeros, scales = random_linear(32, 32, 1, 4, seed=0)
    g_idx, sixteen = torch.zeros(32, dtype=torch.long), torch.full_like(zeros, 16)
    tensors = gptq_tensors(codes, sixteen, scales, g_idx, 4, 1)
    assert torch.equal(GPTQFormat(4, None, 1).dequantize(tensors), by_hand(codes, sixteen, scales, g_idx))


def test_malformed_tensors_are_named() -> None:
    codes, zeros, scales = random_linear(64, 32, 4, 4, seed=0)
    good = gptq_tensors(codes, zeros, scales, torch.arange(64) // 16, 4, 1)
    kind = GPTQFormat(4, 16, 1)
    for change, message in [
        ({"scales": good["scales"][:3]}, r"scales has shape \[3, 32\], expected \[4, 32\]"),
        ({"qzeros": good["qzeros"][:, :2]}, r"qzeros has shape \[4, 2\], expected \[4, 4\]"),
        ({"qweight": good["qweight"].float()}, r"qweight is torch.float32, expected torch.int32"),
        ({"qweight": good["qweight"][0]}, r"qweight has shape \[32\], expected \[any, any\]"),
        ({"g_idx": good["g_idx"][:5]}, r"g_idx has shape \[5\], expected \[64\]"),
        ({"g_idx": good["g_idx"] + 1}, "g_idx points outside the 4 groups"),
        ({"g_idx": good["g_idx"] - 1}, "g_idx points outside the 4 groups"),
    ]:
        with pytest.raises(InputError, match=message):
            kind.dequantize(good | change)
    with pytest.raises(InputError, match="scales is missing"):
        kind.dequantize({"qweight": good["qweight"]})
    with pytest.raises(InputError, match="bits = 9"):
        GPTQFormat(9, 16, 1)
    mixed = GPTQFormat(4, 16, 1, mixed=True)
    with pytest.raises(InputError, match="qzeros has 9 words for 32 outputs: no width from 2 to 8"):
        mixed.of_linear(good | {"qzeros": torch.zeros(4, 9, dtype=torch.int32)})
    with pytest.raises(InputError, match=r"scales has shape \[3, 32\], expected \[4, 32\]"):
        mixed.of_linear(good | {"scales": good["scales"][:3]})
