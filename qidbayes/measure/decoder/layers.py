"""A decoder's layers one at a time: find them, capture what enters them, replay them.

Everything here is a function of a layer and its inputs, so that several quantized variants of one model can walk side
by side: they share the `Call`s (masks, rotary angles) and differ only in their hidden states and weights.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.decoder.hessian import SUMMED
from qidbayes.measure.decoder.memory import room
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.experts import routers, tensors_of
from qidbayes.measure.inputs.language_model import ends, language_model

Tap = Callable[[Tensor], None]
"""Receives the input of a linear, `[..., in_features]`, at each batch."""

# Numbers in a batch of hidden states: what keeps a GPU busy and leaves room for the layer's own, what a cache holds.
_NUMBERS_CUDA, _MEMORY_PER_NUMBER = 2**28, 2**8
_NUMBERS_CPU = 2**19
_MOST_TOKENS = 2**18  # in a batch

NEARLY_ALL = 0.95
"""Share of the weights in matrices, embeddings and head left out, that must be quantized to call a model quantized."""


@dataclass(frozen=True)
class Call:
    """How the model calls one layer for one batch: every argument but the hidden state."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class StackInputs:
    """What enters the decoder stack, batch by batch.

    Attributes
    ----------
    hidden
        One `[batch, length, width]` tensor per batch: the first layer's input.
    calls
        `calls[layer][batch]`. They differ between layers where attention alternates (full and sliding in Gemma).
    tupled
        Whether the layers answer with a tuple that begins with their output, or with the output.
    """

    hidden: list[Tensor]
    calls: list[list[Call]]
    tupled: bool


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the decoder stack: the largest `ModuleList` of the language model whose blocks all have one type.

    Returns
    -------
    tuple of str and torch.nn.ModuleList
        The stack's name in the model's module tree, and the stack.

    Raises
    ------
    InputError
        If there is no such list, or it does not hold nearly all weight matrices outside embeddings and head:
        quantizing a part and calling the model quantized would be wrong.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, GPTNeoXConfig
    >>> config = GPTNeoXConfig(
    ...     vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    >>> name, layers = decoder_layers(AutoModelForCausalLM.from_config(config))
    >>> name, len(layers)
    ('gpt_neox.layers', 2)
    """
    decoder = language_model(model)
    root = next(name for name, module in model.named_modules() if module is decoder)
    lists = [
        (sum(p.numel() for p in module.parameters()), f"{root}.{name}".lstrip("."), module)
        for name, module in decoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    ]
    equal = [one for one in lists if len({type(block) for block in one[2]}) == 1]
    if not equal:
        raise InputError(f"{type(model).__name__} has no list of equal layers; only decoder stacks are quantized")
    _, name, layers = max(equal, key=lambda one: one[0])
    held = sum(p.numel() for p in layers.parameters() if p.dim() > 1)
    outside = _matrices_outside(model, decoder, layers)
    total = held + sum(outside.values())
    if held < NEARLY_ALL * total:
        others = [one for one in lists if one[2] is not layers]
        listed = ""
        if others:
            _, other, blocks = max(others, key=lambda one: one[0])
            listed = f", and {other} is a list of {', '.join(sorted({type(block).__name__ for block in blocks}))}"
        raise InputError(
            f"{name}, the largest list of equal layers, holds {held / total:.1%} of the weights in matrices outside "
            f"embeddings and head: {max(outside, key=outside.__getitem__)} is not in it{listed}; only decoders whose "
            "layers are one list of equal blocks can be quantized"
        )
    return name, layers


def _matrices_outside(model: nn.Module, decoder: nn.Module, layers: nn.ModuleList) -> dict[str, int]:
    """Name and size of each weight matrix of the decoder that is neither in the layers, nor an embedding or the head.

    A projection between the width of the embeddings and that of the layers (OPT's `project_in`) belongs to the former.
    """
    embeddings = [module for module in decoder.modules() if isinstance(module, nn.Embedding)]
    known = {id(p) for module in (*ends(model), *embeddings, layers) for p in module.parameters()}
    width = getattr(getattr(decoder, "config", None), "hidden_size", None)
    ways = [{width, module.embedding_dim} for module in embeddings if module.embedding_dim != width]
    known |= {id(p) for p in decoder.parameters() if p.dim() == 2 and set(p.shape) in ways}
    return {name: p.numel() for name, p in decoder.named_parameters() if p.dim() > 1 and id(p) not in known}


def stack_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Every `Linear` of the decoder stack by its full name, in the tree's order. Embeddings and heads are not in it.

    Nor is what chooses among experts, or weighs a shared one: routers stay in 16 bits.

    Raises
    ------
    InputError
        If the stack holds weight matrices that are not `Linear`s (GPT-2's `Conv1D`, experts in one tensor): quantizing
        the rest and calling the model quantized would be wrong.
    """
    stack, layers = decoder_layers(model)
    left = routers(layers)
    kept = tensors_of(layers, left)
    linears = {
        f"{stack}.{name}": m
        for name, m in layers.named_modules()
        if isinstance(m, nn.Linear) and id(m.weight) not in kept
    }
    known = {id(linear.weight) for linear in linears.values()} | kept
    others = [name for name, p in layers.named_parameters() if p.dim() > 1 and id(p) not in known]
    if others:
        holder, _, _ = others[0].rpartition(".")
        kind = type(layers.get_submodule(holder)).__name__
        raise InputError(
            f"{stack}.{others[0]} of {kind} is a weight matrix outside a Linear ({len(others)} such); "
            f"only stacks whose matrices are all Linear can be quantized{_of_experts(layers, others[0])}"
        )
    return linears


def _of_experts(layers: nn.Module, name: str) -> str:
    """What to add for experts in one tensor."""
    if layers.get_parameter(name).dim() < 3:
        return ""
    return (
        ". Experts are, once list_experts of qidbayes.measure.inputs.experts has parted them, as reading files does: "
        "those with transformers' interface for experts (Mixtral, Qwen 2 and 3, OLMoE, gpt-oss, DeepSeek and some "
        "sixty more)"
    )


def sequences_at_once(
    model: PreTrainedModel, length: int, device: torch.device | None = None, halvings: int = 0
) -> int:
    """How many sequences go through a layer at a time; everything that must sum in one order asks here.

    On a GPU that is by the memory which is free. Second moments are summed there in parts of so many inputs, so that
    batches of whole parts, if there can be such, give the same sums whatever memory there is.

    Parameters
    ----------
    model
        Any decoder of transformers.
    length
        Tokens in a sequence.
    device
        Where the layers run; where the model is, if not given.
    halvings
        How often what seems right is halved.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, GPTNeoXConfig
    >>> config = GPTNeoXConfig(
    ...     vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    >>> sequences_at_once(AutoModelForCausalLM.from_config(config), length=256)
    128
    """
    embedding: nn.Module = model.get_input_embeddings()
    weight = next(embedding.parameters())
    device = device or weight.device
    if device.type != "cuda":
        return max(1, (min(_MOST_TOKENS, _NUMBERS_CPU // weight.shape[1]) >> halvings) // length)
    numbers = min(_NUMBERS_CUDA, room(device) // _MEMORY_PER_NUMBER)
    return in_whole_parts((min(_MOST_TOKENS, numbers // weight.shape[1]) >> halvings) // length, length)


def in_whole_parts(sequences: int, length: int) -> int:
    """Return the most sequences up to so many that are a whole number of parts of second moments; else those, if any.

    Examples
    --------
    >>> in_whole_parts(6, 2048), in_whole_parts(3, 2048), in_whole_parts(0, 2048)
    (4, 3, 1)
    """
    least = SUMMED // math.gcd(SUMMED, length)
    return max(1, sequences - sequences % least if sequences >= least else sequences)


@torch.no_grad()
def enter_stack(model: PreTrainedModel, tokens: Tensor, batch_size: int = 8) -> StackInputs:
    """Run the model on `tokens` with stand-ins for its layers, recording what each would have been called with.

    Parameters
    ----------
    model
        Any decoder of transformers.
    tokens
        `[n, length]` token ids.
    batch_size
        Sequences in a batch.

    Raises
    ------
    MeasureError
        If the model reads text without its layers.
    """
    name, layers = decoder_layers(model)
    tokens = tokens.to(_device(model))
    hidden: list[Tensor] = []
    calls: list[list[Call]] = [[] for _ in layers]
    # Some decoders' layers answer with a tuple, some with a tensor; one token through the first tells which.
    answers: list[object] = []

    def pass_on(hidden_states: Tensor, *_: object, **__: object) -> object:
        return (hidden_states,) if isinstance(answers[0], tuple) else hidden_states

    def stand_in(index: int) -> Callable[..., object]:
        def forward(hidden_states: Tensor, *args: object, **kwargs: object) -> object:
            if index == 0:
                hidden.append(hidden_states)
            calls[index].append(Call(args, kwargs))
            return pass_on(hidden_states)

        return forward

    with ExitStack() as stack, evaluating(model):
        stack.enter_context(_hook(layers[0].register_forward_hook(lambda _m, _i, output: answers.append(output))))
        for layer in layers[1:]:
            stack.enter_context(replaced_forward(layer, pass_on))
        model.base_model(input_ids=tokens[:1, :1], use_cache=False)
    if not answers:
        raise MeasureError(f"{name} was taken for the decoder stack, and reading text does not call its layers")
    with ExitStack() as stack, evaluating(model):
        for index, layer in enumerate(layers):
            stack.enter_context(replaced_forward(layer, stand_in(index)))
        for batch in torch.split(tokens, batch_size):
            # The base model: the head's logits are not wanted, and for large vocabularies they are the largest tensor.
            model.base_model(input_ids=batch, use_cache=False)
    return StackInputs(hidden, calls, isinstance(answers[0], tuple))


def leave_stack(model: PreTrainedModel, tokens: Tensor, hidden: Tensor, tupled: bool) -> Tensor:
    """Return the logits that the model gives after its last layer has put out `hidden`.

    Parameters
    ----------
    model
        Any decoder of transformers; its layers are not run.
    tokens, hidden
        One batch: `[n, length]` ids and `[n, length, width]` states.
    tupled
        From `enter_stack`.

    Returns
    -------
    torch.Tensor
        `[n, length, vocabulary]`, in the model's type.
    """
    with leaving(model, tupled) as logits_of:
        return logits_of(tokens, hidden)


@contextmanager
def leaving(model: PreTrainedModel, tupled: bool) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    """In this context there is a function that does what `leave_stack` does, made ready once for many batches."""
    _, layers = decoder_layers(model)
    device = _device(model)
    put_out: list[Tensor] = []

    def stand_in(*_: object, **__: object) -> object:
        return (put_out[0],) if tupled else put_out[0]

    @torch.no_grad()
    def logits_of(tokens: Tensor, hidden: Tensor) -> Tensor:
        put_out[:] = [hidden]
        logits: Tensor = model(input_ids=tokens.to(device), use_cache=False).logits
        put_out.clear()
        return logits

    with ExitStack() as stack, evaluating(model):
        for layer in layers:
            stack.enter_context(replaced_forward(layer, stand_in))
        yield logits_of


@torch.no_grad()
def replay(
    layer: nn.Module, hidden: Sequence[Tensor], calls: Sequence[Call], taps: Mapping[str, Tap] | None = None
) -> list[Tensor]:
    """Run one layer over all batches and return its outputs, the next layer's hidden states.

    Parameters
    ----------
    layer
        A block of the decoder stack.
    hidden, calls
        Its inputs, batch by batch.
    taps
        By the name of a linear within the layer: what to do with its inputs.
    """
    with ExitStack() as stack:
        stack.enter_context(evaluating(layer))
        for name, tap in (taps or {}).items():
            stack.enter_context(tapped(layer.get_submodule(name), tap))
        return [run_layer(layer, x, call) for x, call in zip(hidden, calls, strict=True)]


@torch.no_grad()
def replay_until(layer: nn.Module, hidden: Iterable[Tensor], calls: Sequence[Call], taps: Mapping[str, Tap]) -> None:
    """Run one layer over all batches for its `taps` alone: each pass ends when the last of them has its input.

    `taps` are in the order in which their linears run, as `input_groups` gives them.
    """
    *_, last = taps

    def tap_and_stop(x: Tensor) -> None:
        taps[last](x)
        raise _ReachedError

    with ExitStack() as stack:
        stack.enter_context(evaluating(layer))
        for name, tap in taps.items():
            stack.enter_context(tapped(layer.get_submodule(name), tap_and_stop if name == last else tap))
        for x, call in zip(hidden, calls, strict=True):
            try:
                run_layer(layer, x, call)
            except _ReachedError:
                continue
            raise MeasureError(f"{last} was not reached when its layer was replayed")


@torch.no_grad()
def input_groups(layer: nn.Module, hidden: Tensor, call: Call) -> list[tuple[str, ...]]:
    """Names of a layer's linears, grouped by the input tensor they share, in the order in which they run.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, LlamaConfig
    >>> model = AutoModelForCausalLM.from_config(LlamaConfig(
    ...     vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2))
    >>> inputs = enter_stack(model, torch.arange(8)[None])
    >>> for group in input_groups(decoder_layers(model)[1][0], inputs.hidden[0], inputs.calls[0][0]):
    ...     print(*group)
    self_attn.q_proj self_attn.k_proj self_attn.v_proj
    self_attn.o_proj
    mlp.gate_proj mlp.up_proj
    mlp.down_proj
    """
    seen: dict[tuple[object, ...], list[str]] = {}
    alive: list[Tensor] = []  # a freed tensor's address is handed out again, and would join strangers

    def note(name: str) -> Tap:
        def tap(x: Tensor) -> None:
            alive.append(x)
            # Where an expert sees no token, its input has no address of its own.
            key = (x.data_ptr(), x.shape, x.stride()) if x.numel() else (id(x),)
            seen.setdefault(key, []).append(name)

        return tap

    left = tensors_of(layer, routers(layer))
    names = [name for name, m in layer.named_modules() if isinstance(m, nn.Linear) and id(m.weight) not in left]
    replay(layer, [hidden], [call], {name: note(name) for name in names})
    idle = set(names).difference(*seen.values())
    if idle:
        raise MeasureError(f"{min(idle)} saw no input during calibration, so it cannot be quantized from data")
    return [tuple(group) for group in seen.values()]


@contextmanager
def restoring_weights(model: nn.Module) -> Iterator[None]:
    """Put the decoder stack's linear weights back on leaving, so that one loaded model serves several quantizations.

    The copies wait in main memory: a GPU needs room for one model only.
    """
    kept = {name: linear.weight.detach().to("cpu", copy=True) for name, linear in stack_linears(model).items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, linear in stack_linears(model).items():
                linear.weight.copy_(kept[name])


def _device(model: PreTrainedModel) -> torch.device:
    embedding: nn.Module = model.get_input_embeddings()
    return next(embedding.parameters()).device


class _ReachedError(Exception):
    """Ends a replay at the linear that was wanted."""


def run_layer(layer: nn.Module, hidden: Tensor, call: Call) -> Tensor:
    """Return a layer's output for one batch."""
    output = layer(hidden, *call.args, **call.kwargs)
    answer: Tensor = output[0] if isinstance(output, tuple) else output
    return answer


@contextmanager
def _hook(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def tapped(module: nn.Module, tap: Tap) -> Any:
    """Within this context a tap is given the module's input before it runs."""
    return _hook(module.register_forward_pre_hook(lambda _module, args: tap(args[0])))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off, and every submodule's own mode back afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def replaced_forward(layer: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    own = layer.__dict__.get("forward")
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del layer.__dict__["forward"]
        else:
            layer.__dict__["forward"] = own
