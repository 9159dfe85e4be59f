"""Mixtures of experts as linears: one an expert's matrix, where transformers keeps all of a layer's in one tensor."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any

import torch
from torch import Tensor, nn

_FUSED = ("gate_up_proj", "up_proj", "down_proj")
_ROUTERS = ("gate", "router", "shared_expert_gate")  # beside the experts, in every model of transformers


class Experts(nn.Module):
    """A layer's experts, one `Linear` for each one's matrix: `down_proj.3` is `down_proj[3]` of the fused module.

    It computes what the fused module does (`grouped_mm` of transformers' `integrations/moe.py`), in its order of sums.
    Each linear is called at each pass, also without tokens, and all first ones before all second ones: so who watches
    inputs sees every expert, and experts of one matrix can be calibrated at once.

    Parameters
    ----------
    fused
        A module with transformers' interface for experts (`use_experts_implementation`). Its tensors are taken out of
        it; the linears' weights are views of them.
    """

    fused: Any
    down_proj: nn.ModuleList

    def __init__(self, fused: Any) -> None:
        super().__init__()
        self._first = "gate_up_proj" if fused.has_gate else "up_proj"
        for name in (self._first, "down_proj"):
            weights, biases = getattr(fused, name), getattr(fused, f"{name}_bias", None)
            delattr(fused, name)
            if biases is not None:
                delattr(fused, f"{name}_bias")
            if fused.is_transposed:
                weights = weights.transpose(1, 2)
            linears = [_linear(w, None if biases is None else biases[e]) for e, w in enumerate(weights)]
            self.add_module(name, nn.ModuleList(linears))
        self.fused = fused  # its activation, what it is gated by, and a norm that some have

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs.

        Parameters
        ----------
        hidden_states
            `[tokens, width]`.
        top_k_index, top_k_weights
            `[tokens, chosen]`: which experts see a token, and what each one's output counts.
        """
        chosen = top_k_index.reshape(-1)
        order = torch.argsort(chosen, stable=True)
        first, second = self.get_submodule(self._first), self.down_proj
        counts = torch.bincount(chosen, minlength=len(second)).tolist()
        inner = _each(first, hidden_states[order // top_k_index.shape[-1]], counts)
        inner = self.fused._apply_gate(inner) if self.fused.has_gate else self.fused.act_fn(inner)
        outputs = _each(second, inner, counts)
        if getattr(self.fused, "has_post_expert_norm", False):  # transformers 5.17 knows of none
            outputs = self.fused.post_expert_norm(outputs)
        weighted = outputs * top_k_weights.reshape(-1)[order, None]
        by_token = torch.empty_like(weighted).index_copy_(0, order, weighted)
        return by_token.view(*top_k_index.shape, -1).sum(1).to(hidden_states.dtype)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
    return made


def _each(linears: nn.Module, inputs: Tensor, counts: list[int]) -> Tensor:
    """Put the first rows through the first linear, and so on."""
    parts = torch.split(inputs, counts)
    return torch.cat([linear(part) for linear, part in zip(linears.children(), parts, strict=True)])


def list_experts(model: nn.Module) -> None:
    """Put `Experts` in the place of every fused module of transformers' interface: linears can be quantized.

    What the model computes stays the same, and no weight is copied. Modules that keep their experts in another way
    (Llama 4, Step 3, DBRX) stay as they are; `stack_linears` refuses them by name.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, MixtralConfig
    >>> model = AutoModelForCausalLM.from_config(MixtralConfig(
    ...     vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
    ...     num_key_value_heads=2, num_local_experts=4))
    >>> list_experts(model)
    >>> model.model.layers[0].mlp.experts.gate_up_proj[3]
    Linear(in_features=16, out_features=48, bias=False)
    """
    fused = [name for name, module in model.named_modules() if _is_fused(module)]
    for name in fused:
        model.set_submodule(name, Experts(model.get_submodule(name)))


def _is_fused(module: nn.Module) -> bool:
    known = hasattr(module, "is_transposed") and hasattr(module, "has_gate") and hasattr(module, "_apply_gate")
    tensors = [p for name in _FUSED if isinstance(p := getattr(module, name, None), nn.Parameter)]
    return known and len(tensors) == 2 and all(p.dim() == 3 for p in tensors)


def routers(root: nn.Module) -> list[str]:
    """Return the names of the modules that choose experts, or weigh a shared one: they stay in 16 bits."""
    found = []
    for name, module in root.named_modules():
        if any(isinstance(child, Experts) or _is_fused(child) for child in module.children()):
            found += [f"{name}.{child}".lstrip(".") for child, _ in module.named_children() if child in _ROUTERS]
    return found


def routed(root: nn.Module) -> Iterator[tuple[str, list[str]]]:
    """Yield the lists of experts' linears: each one's name, and those of its linears in the order in which they run."""
    for name, module in root.named_modules():
        if isinstance(module, Experts):
            for part, linears in module.named_children():
                if isinstance(linears, nn.ModuleList):
                    whole = f"{name}.{part}".lstrip(".")
                    yield whole, [f"{whole}.{number}" for number in range(len(linears))]


def in_stages(
    root: nn.Module, groups: Sequence[tuple[str, ...]], most: int | None = None
) -> list[list[tuple[str, ...]]]:
    """Return what is calibrated at a time where later linears are to see the rounded earlier ones' outputs.

    Parameters
    ----------
    root
        A layer.
    groups
        Its linears in groups that share an input, in the order in which they run. Each is a stage; experts of one list
        do not see each other's outputs, and are one together.
    most
        Experts in a stage; None for all.
    """
    list_of = {linear: whole for whole, linears in routed(root) for linear in linears}
    stages: list[list[tuple[str, ...]]] = []
    for _, some in groupby(groups, lambda group: list_of.get(group[0], group)):
        stage = list(some)
        size = most or len(stage)
        stages += [stage[start : start + size] for start in range(0, len(stage), size)]
    return stages


def expert_of(linear: str) -> str:
    """Return which expert a linear of `routed` belongs to.

    Examples
    --------
    >>> expert_of("model.layers.0.mlp.experts.down_proj.3")
    'model.layers.0.mlp.experts.3'
    """
    whole, _, number = linear.rpartition(".")
    return f"{whole.rpartition('.')[0]}.{number}"


def tensors_of(root: nn.Module, names: Sequence[str]) -> set[int]:
    """Return the identities of the parameters below some modules."""
    return {id(p) for p in chain.from_iterable(root.get_submodule(name).parameters() for name in names)}
