"""Passes that wait within a layer against passes that start anew."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from qidbayes.measure.decoder import passes as module
from qidbayes.measure.decoder.hidden_states import HiddenStates
from qidbayes.measure.decoder.layers import Call
from qidbayes.measure.decoder.passes import Passes, Replayed, Suspended
from qidbayes.measure.errors import MeasureError

CALL = Call((), {})


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = x + self.second(torch.relu(self.first(x)))
        return answer


@pytest.fixture
def layer() -> Layer:
    torch.manual_seed(0)
    return Layer().eval().requires_grad_(requires_grad=False)


def stream() -> HiddenStates:
    return HiddenStates([torch.full((1, 2, 4), float(i)) for i in range(3)], torch.device("cpu"), kept_outside=False)


def walked(layer: Layer, one: Passes, states: HiddenStates) -> Iterator[Tensor]:
    """What each linear sees when each is doubled once it has been seen, and what comes out."""
    seen: list[Tensor] = []
    for linear, name in ((layer.first, "first"), (layer.second, "second")):
        one.run_to({name: seen.append})
        linear.weight.data = 2 * linear.weight.data
    one.finish()
    one.close()
    yield from seen
    yield from states


def test_both_see_and_give_the_same(layer: Layer) -> None:
    found = []
    for kind in (Replayed, Suspended):
        states = stream()
        own = layer.first.weight.data, layer.second.weight.data
        found.append(list(walked(layer, kind(layer, states, [CALL] * 3), states)))
        layer.first.weight.data, layer.second.weight.data = own
    assert len(found[0]) == 9
    assert all(map(torch.equal, *found))
    x = torch.full((1, 2, 4), 2.0)
    hidden = torch.relu(x @ (2 * layer.first.weight.T) + layer.first.bias)
    torch.testing.assert_close(found[0][-1], x + hidden @ (2 * layer.second.weight.T) + layer.second.bias)


def test_threads_are_used_again_even_after_passes_were_given_up(layer: Layer) -> None:
    for _ in range(3):
        one = Suspended(layer, stream(), [CALL] * 3)
        one.run_to({"first": lambda _: None})
        one.close()
    assert not any(worker.busy for worker in module._WORKERS)
    made = len(module._WORKERS)
    one = Suspended(layer, stream(), [CALL] * 3)
    one.run_to({"first": lambda _: None})
    one.finish()
    one.close()
    assert len(module._WORKERS) == made


def test_errors_reach_whoever_asked(layer: Layer) -> None:
    one = Suspended(layer, stream(), [CALL] * 3)
    with pytest.raises(MeasureError, match="idle was not reached"):
        one.run_to({"idle": lambda _: None})
    one.close()

    def refuse(_: Tensor) -> None:
        raise ValueError("no")

    other = Suspended(layer, stream(), [CALL] * 3)
    with pytest.raises(ValueError, match="no"):
        other.run_to({"first": refuse})
    other.close()
    assert not any(worker.busy for worker in module._WORKERS)
