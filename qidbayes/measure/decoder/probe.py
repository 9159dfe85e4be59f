"""Does the loss come out of the decoder stack, layer by layer? Two tokens tell, at the price of one layer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qidbayes.measure.decoder.layers import Call, decoder_layers, enter_stack, evaluating, replaced_forward, run_layer
from qidbayes.measure.errors import MeasureError


@torch.no_grad()
def check_stack(model: PreTrainedModel) -> None:
    """Check that changing the decoder stack's weights changes the loss, and that its layers can be run one by one.

    Quantizing, calibrating and the sweep take for granted that each layer is called once, with what the layer before
    has put out, and that the logits follow from what the last one puts out.

    Raises
    ------
    MeasureError
        If one of these is not so; it names the stack.
    """
    name, layers = decoder_layers(model)
    embedding: nn.Module = model.get_input_embeddings()
    rows = next(embedding.parameters())
    tokens = (torch.arange(3, 5, device=rows.device) % len(rows))[None]  # the first ids tend to be special tokens
    first = enter_stack(model, tokens)
    call = first.calls[0][0]
    plain = run_layer(layers[0], first.hidden[0], call)
    if torch.equal(plain, _with_other_weights(layers[0], first.hidden[0], call)):
        raise MeasureError(f"{name}.0 puts out the same with other weights: the loss does not depend on them")
    passes = [_pass(model, layers, tokens, first.tupled, scale) for scale in (1.0, 0.5)]
    for inputs, outputs, _, _ in passes:
        if len(inputs) != len(layers):
            raise MeasureError(f"{name} has {len(layers)} layers, and reading text calls them {len(inputs)} times")
        for index, (given, put_out) in enumerate(zip(inputs[1:], outputs, strict=False)):
            if not torch.equal(given, put_out):
                raise MeasureError(
                    f"{name}.{index + 1} is not given what {name}.{index} puts out: they cannot be run one by one"
                )
    (_, _, calls, logits), (_, _, other_calls, other_logits) = passes
    for index, (one, other) in enumerate(zip(calls, other_calls, strict=True)):
        if not all(torch.equal(x, y) for x, y in zip(_tensors(one), _tensors(other), strict=True)):
            raise MeasureError(f"{name}.{index} is called with more than the layer before it has put out")
    if torch.equal(logits, other_logits):
        raise MeasureError(f"the loss does not depend on {name}, which was taken for the decoder stack")


type _Pass = tuple[list[Tensor], list[Tensor], list[Call], Tensor]


def _pass(model: PreTrainedModel, layers: nn.ModuleList, tokens: Tensor, tupled: bool, scale: float) -> _Pass:
    """Run the model with stand-ins for its layers: what these are given, put out and are called with; the logits."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    calls: list[Call] = []

    def stand_in(index: int) -> Callable[..., object]:
        def forward(hidden_states: Tensor, *args: object, **kwargs: object) -> object:
            inputs.append(hidden_states)
            calls.append(Call(args, kwargs))
            # Another order of the numbers, for what only scales would be undone by a norm.
            output = hidden_states if scale == 1 else scale * hidden_states.roll(1 + index, -1)
            outputs.append(output)
            return (output,) if tupled else output

        return forward

    with ExitStack() as stack, evaluating(model):
        for index, layer in enumerate(layers):
            stack.enter_context(replaced_forward(layer, stand_in(index)))
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return inputs, outputs, calls, logits


def _with_other_weights(layer: nn.Module, hidden: Tensor, call: Call) -> Tensor:
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    kept = [linear.weight.data for linear in linears]
    generator = torch.Generator(kept[0].device if kept else "cpu").manual_seed(0)
    try:
        for linear, weight in zip(linears, kept, strict=True):
            noise = torch.randn(weight.shape, generator=generator, device=weight.device).to(weight)
            linear.weight.data = weight + noise * weight.float().std().clamp(min=0.01).to(weight.dtype)
        with evaluating(layer):
            return run_layer(layer, hidden, call)
    finally:
        for linear, weight in zip(linears, kept, strict=True):
            linear.weight.data = weight


def _tensors(of: object) -> Iterator[Tensor]:
    """All tensors in a call."""
    if isinstance(of, Call):
        yield from _tensors((of.args, of.kwargs))
    elif isinstance(of, Tensor):
        yield of
    elif isinstance(of, Mapping):
        for value in of.values():
            yield from _tensors(value)
    elif isinstance(of, tuple | list):
        for value in of:
            yield from _tensors(value)
