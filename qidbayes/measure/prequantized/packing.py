"""Codes packed in 32-bit words, and checks of the tensors that hold them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from qidbayes.errors import InputError


def unpack_rows(words: Tensor, bits: int) -> Tensor:
    """Read each column of int32 words as one little-endian stream of `bits`-wide codes.

    Three-bit codes cross the words' borders, 32 of them in three words, which is what the stream says by itself.

    Parameters
    ----------
    words
        `[n_words, columns]` int32.
    bits
        Width of a code.

    Returns
    -------
    Tensor
        `[n_words * 32 // bits, columns]` int32 codes.

    Examples
    --------
    >>> unpack_rows(torch.tensor([[0x76543210]], dtype=torch.int32), bits=4).T
    tensor([[0, 1, 2, 3, 4, 5, 6, 7]], dtype=torch.int32)
    """
    position = torch.arange(words.shape[0] * 32 // bits, device=words.device) * bits
    word, shift = position // 32, (position % 32)[:, None]
    unsigned = words.long() & 0xFFFFFFFF
    following = torch.cat([unsigned[1:], torch.zeros_like(unsigned[:1])])
    pair = unsigned[word] | (following[word] << 32)
    codes: Tensor = (pair >> shift) & (2**bits - 1)
    return codes.int()


def require(parts: Mapping[str, Tensor], name: str, shape: tuple[int | None, ...], *dtypes: torch.dtype) -> Tensor:
    """Take the tensor `name`, sure of its dtype and shape (None: any length).

    Raises
    ------
    InputError
        If it is missing or is something else. The message starts with the tensor's name.
    """
    if name not in parts:
        raise InputError(f"{name} is missing")
    tensor = parts[name]
    if tensor.dtype not in dtypes:
        raise InputError(f"{name} is {tensor.dtype}, expected {' or '.join(map(str, dtypes))}")
    fits = tensor.dim() == len(shape) and all(s is None or s == t for s, t in zip(shape, tensor.shape, strict=True))
    if not fits:
        expected = ", ".join("any" if s is None else str(s) for s in shape)
        raise InputError(f"{name} has shape {list(tensor.shape)}, expected [{expected}]")
    return tensor
