"""Rotary position embeddings by one kernel instead of transformers' dozen operations.

Those copy queries and keys so often that they take a quarter of the time of a small layer. Nearly every decoder calls
a function `apply_rotary_pos_emb` of its module, and nearly all of these do the same.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

try:
    from qidbayes.measure.decoder import rotary_triton
except ImportError:  # Triton comes with torch's CUDA builds only
    rotary_triton = None  # type: ignore[assignment]

_NAME = "apply_rotary_pos_emb"

type Both = tuple[Tensor, Tensor]


@contextmanager
def fused_rotary(layers: nn.ModuleList, device: torch.device) -> Iterator[None]:
    """In this context, layers on a GPU rotate queries and keys by one kernel, if it gives the bits of their own way.

    That is seen at their first call. Other decoders, and CPUs, keep their own.
    """
    with ExitStack() as stack:
        if rotary_triton is not None and device.type == "cuda":
            for module in {sys.modules[type(part).__module__] for part in layers.modules()}:
                if callable(getattr(module, _NAME, None)):
                    stack.enter_context(_replaced(module))
        yield


@contextmanager
def _replaced(module: ModuleType) -> Iterator[None]:
    own = getattr(module, _NAME)
    setattr(module, _NAME, checked(own, rotary_triton.rotate))
    try:
        yield
    finally:
        setattr(module, _NAME, own)


def checked(own: Callable[..., Both], rotate: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Both]:
    """Return a function that does what `own` does, by `rotate` if that gave the same bits at the first call.

    Parameters
    ----------
    own
        Turns queries and keys, `[batch, heads, length, width]` each, by cosines and sines.
    rotate
        Turns either.
    """
    alike: bool | None = None

    def apply(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: object, **kwargs: object) -> Both:
        nonlocal alike
        if alike is False or args or kwargs or not (_usual(q, cos) and _usual(k, cos)):
            return own(q, k, cos, sin, *args, **kwargs)
        found = rotate(q, cos, sin), rotate(k, cos, sin)
        if alike is None:
            wanted = own(q, k, cos, sin)
            alike = all(map(torch.equal, found, wanted))
            return wanted
        return found

    return apply


def _usual(x: Tensor, cos: Tensor) -> bool:
    """Whether the kernel can take them."""
    fits = x.dim() == 4 and cos.dim() == 3 and cos.shape[1] == x.shape[2] and cos.shape[2] <= x.shape[3]
    return fits and cos.dtype == x.dtype and x.stride(3) == 1 and len(cos) in (1, len(x))
