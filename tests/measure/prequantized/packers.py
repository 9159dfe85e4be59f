"""Writers of each format, independent of the readers: they pack bit by bit, one code at a time, in plain Python."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel


def words_of(codes: list[int], bits: int) -> list[int]:
    """A stream of codes, lowest bit first, cut into signed 32-bit words."""
    stream = sum(code << (bits * i) for i, code in enumerate(codes))
    count = len(codes) * bits // 32
    return [
        word - (1 << 32) if word >> 31 else word for word in ((stream >> 32 * i) & 0xFFFFFFFF for i in range(count))
    ]


def gptq_tensors(
    codes: Tensor, zeros: Tensor, scales: Tensor, g_idx: Tensor, bits: int, version: int
) -> dict[str, Tensor]:
    """From codes `[in, out]`, zeros and scales `[groups, out]`."""
    stored_zeros = zeros - 1 if version == 1 else zeros
    return {
        "qweight": torch.tensor(
            [words_of(column, bits) for column in codes.T.tolist()], dtype=torch.int32
        ).T.contiguous(),
        "qzeros": torch.tensor([words_of(row, bits) for row in stored_zeros.tolist()], dtype=torch.int32),
        "scales": scales.half(),
        "g_idx": g_idx.int(),
    }


def awq_tensors(codes: Tensor, zeros: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """From codes `[in, out]`, zeros and scales `[groups, out]`."""

    def pack(values: Tensor) -> Tensor:
        order = [0, 2, 4, 6, 1, 3, 5, 7]  # AutoAWQ's: which of eight outputs each nibble holds, lowest first
        rows = []
        for row in values.tolist():
            eights = [row[i : i + 8] for i in range(0, len(row), 8)]
            rows.append([word for eight in eights for word in words_of([eight[o] for o in order], 4)])
        return torch.tensor(rows, dtype=torch.int32)

    return {"qweight": pack(codes), "qzeros": pack(zeros), "scales": scales.half()}


def random_linear(n_in: int, n_out: int, groups: int, bits: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, zeros (1 and up, which version 1 can say) and scales."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, (n_in, n_out), generator=generator)
    zeros = torch.randint(1, 2**bits, (groups, n_out), generator=generator)
    return codes, zeros, (0.01 + torch.rand(groups, n_out, generator=generator)).half().float()


def nearest_linear(weight: Tensor, groups: int, bits: int, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Codes `[in, out]`, zeros and scales `[groups, out]` of a weight `[out, in]`, rounded to nearest."""
    by_group = weight.float().T.reshape(groups, -1, weight.shape[0])
    low, high = by_group.amin(1).clamp(max=0), by_group.amax(1).clamp(min=0)
    if symmetric:
        high = torch.maximum(high, -low)
        low = -high
    scales = ((high - low) / (2**bits - 1)).half().float()
    zeros = torch.full_like(scales, 2 ** (bits - 1)) if symmetric else (-low / scales).round().clamp(1, 2**bits - 1)
    codes = ((by_group / scales[:, None]).round() + zeros[:, None]).clamp(0, 2**bits - 1)
    return codes.reshape(-1, weight.shape[0]).int(), zeros.int(), scales


def by_hand(codes: Tensor, zeros: Tensor, scales: Tensor, g_idx: Tensor) -> Tensor:
    """`[out, in]`, one weight at a time."""
    return torch.tensor(
        [
            [float(scales[g, o]) * (int(codes[i, o]) - int(zeros[g, o])) for i, g in enumerate(g_idx.tolist())]
            for o in range(codes.shape[1])
        ]
    )


def write_checkpoint(
    folder: Path, model: PreTrainedModel, tensors: dict[str, Tensor], declared: dict[str, Any]
) -> None:
    """The files of a quantized checkpoint, as the libraries lay them out."""
    config = model.config.to_dict() | {"quantization_config": declared}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
