"""What a device has room for, and tensors that are there for a while."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn


def room(device: torch.device) -> int:
    """Return the bytes that this process may still take on a device; without limit on a CPU."""
    if device.type != "cuda":
        return sys.maxsize
    free, total = torch.cuda.mem_get_info(device)  # less than what is ours where other processes are on the device too
    mine = torch.cuda.memory_allocated(device)
    kept = torch.cuda.memory_reserved(device) - mine
    return min(int(total * torch.cuda.get_per_process_memory_fraction(device.index)) - mine, free + kept)


def model_bytes(model: nn.Module) -> int:
    """Return the bytes that a model's parameters take."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


@contextmanager
def borrowed(*tensors: Iterable[Tensor], device: torch.device) -> Iterator[None]:
    """Have parameters and buffers on a device; afterwards they are where they were, and what they were."""
    lent = [(tensor, tensor.data) for tensor in chain(*tensors)]
    for tensor, home in lent:
        tensor.data = home.to(device, non_blocking=True)
    try:
        yield
    finally:
        for tensor, home in lent:
            tensor.data = home
