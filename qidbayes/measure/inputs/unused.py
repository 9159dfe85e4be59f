"""Refuse files with weights that the model does not use: without these weights it is another model."""

import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from qidbayes.measure.errors import MeasureError

# What older versions of transformers kept beside the weights and works out anew today.
_BUFFERS = re.compile(
    r"(^|\.)(rotary_emb\.inv_freq|rotary_emb\.(cos|sin)_cached|position_ids|attn(ention)?\.(masked_)?bias|"
    r"self_attn(ention)?\.masked_bias|causal_mask)$"
)


def refuse_unused(whose: str, unexpected: Iterable[str], read: Callable[[str], Tensor | None]) -> None:
    """Refuse files with weights that the model does not use, unless they are all zero.

    Parameters
    ----------
    whose
        What the message begins with.
    unexpected
        Names of tensors that the model has no place for.
    read
        Returns a tensor of the files by its name; None if it is not there under that name.

    Raises
    ------
    MeasureError
        If one of them is not all zero; it is named.

    Examples
    --------
    AutoGPTQ writes a bias of zeros for every linear, also where the model has none:

    >>> refuse_unused("mine", ["layers.0.up_proj.bias"], lambda _: torch.zeros(4))
    >>> refuse_unused("mine", ["layers.0.up_proj.bias"], lambda _: torch.ones(4))
    Traceback (most recent call last):
    ...
    qidbayes.measure.errors.MeasureError: mine: the model that config.json describes does not use ...
    """
    found = [name for name in sorted(unexpected) if not _BUFFERS.search(name) and not _is_zero(read(name))]
    if found:
        raise MeasureError(
            f"{whose}: the model that config.json describes does not use {found[0]}, which is not all zero "
            f"({len(found)} such tensors); give the config.json that belongs to these files"
        )


def _is_zero(tensor: Tensor | None) -> bool:
    return tensor is not None and not bool(torch.count_nonzero(tensor.float()))  # float8 cannot be counted
