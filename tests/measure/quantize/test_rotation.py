"""Rotation against SciPy's Hadamard matrices; a turned model against itself before anything is rounded."""

from collections.abc import Callable

import pytest
import torch
from scipy.linalg import block_diag, hadamard
from torch import Tensor
from transformers import PreTrainedModel

from measure.decoders import sentences
from qidbayes.measure.decoder.compare import Reference, compare_windows
from qidbayes.measure.decoder.layers import restoring_weights, stack_linears
from qidbayes.measure.quantize import GPTQ, RTN, Floats, Quantizer
from qidbayes.measure.quantize.grid import round_to_grid
from qidbayes.measure.quantize.rotation import Rotation


def dense(size: int, block: int) -> Tensor:
    """The rotation as a matrix: its signs read off what it makes of the unit vectors."""
    turned = Rotation(size).turned(torch.eye(size, dtype=torch.float64))
    return turned[:, ::block].sum(1).sign()[:, None] * torch.tensor(block_diag(*[hadamard(block)] * (size // block)))


@pytest.mark.parametrize(("size", "block"), [(64, 64), (48, 16), (96, 32), (7, 1)])
def test_it_is_a_hadamard_matrix_of_random_signs(size: int, block: int) -> None:
    assert Rotation(size).block == block
    expected = dense(size, block) / block**0.5
    x = torch.randn(5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Rotation(size).turned(x), x @ expected)
    torch.testing.assert_close(expected @ expected.T, torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(Rotation(size).back(Rotation(size).turned(x)), x)
    moment = x.T @ x
    torch.testing.assert_close(Rotation(size).moment(moment), expected.T @ moment @ expected)
    if size > 32:
        assert 0.2 < float((dense(size, block).diagonal() > 0).double().mean()) < 0.8


def test_a_turned_model_has_the_loss_that_it_had(decoder: tuple[PreTrainedModel, int], tokens: Tensor) -> None:
    """Weights W R under inputs x R, nothing rounded: what a kernel would compute."""
    model, _ = decoder
    with torch.no_grad():
        before = model(input_ids=tokens, labels=tokens)
        with restoring_weights(model):
            handles = []
            for linear in stack_linears(model).values():
                turn = Rotation(linear.in_features)
                linear.weight.copy_(turn.turned(linear.weight))
                handles.append(linear.register_forward_pre_hook(lambda _, args, turn=turn: (turn.turned(args[0]),)))
            turned = model(input_ids=tokens, labels=tokens)
            for handle in handles:
                handle.remove()
            without = model(input_ids=tokens, labels=tokens)
    torch.testing.assert_close(turned.loss, before.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned.logits, before.logits, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(without.logits, before.logits, rtol=1e-3, atol=1e-4)


def test_what_is_rounded_is_the_turned_weight() -> None:
    generator = torch.Generator().manual_seed(1)
    linear = torch.nn.Linear(48, 8, bias=False)
    weight = linear.weight.detach()
    turn = (dense(48, 16) / 4).float()
    rounded, stored = RTN(3, 16, symmetric=False, rotate=True).round_linear(linear)
    torch.testing.assert_close(rounded, round_to_grid(weight @ turn, 3, 16, symmetric=False) @ turn.T)
    assert stored == RTN(3, 16, symmetric=False).round_linear(linear)[1]
    inputs = torch.randn(100, 48, generator=generator)
    moment = inputs.T @ inputs
    solved = GPTQ(3, 16, rotate=True).solve(weight.double(), moment.double())
    by_hand = GPTQ(3, 16).solve(weight.double() @ turn.double(), turn.double().T @ moment.double() @ turn.double())
    torch.testing.assert_close(solved, by_hand @ turn.double().T)


@pytest.mark.parametrize("quantizer", [RTN(4, None), Floats("mxfp4")])
def test_it_spreads_an_outlier(quantizer: RTN | Floats) -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(2))
    weight[:, 5] = 30
    linear = torch.nn.Linear(128, 64, bias=False)
    linear.weight.data = weight

    def error(made: RTN | Floats) -> float:
        return float((made.round_linear(linear)[0] - weight)[:, [c for c in range(128) if c != 5]].norm())

    turned = type(quantizer)(**{**vars(quantizer), "rotate": True})
    assert error(turned) < 0.75 * error(quantizer)


@pytest.mark.parametrize("make", [RTN, GPTQ])
def test_a_trained_model_hardly_changes_at_8_bits(
    make: Callable[..., Quantizer], trained: PreTrainedModel, calibration: Tensor
) -> None:
    reference = Reference(trained, sentences(16, 65, seed=10_002))

    def cost(bits: int) -> float:
        with restoring_weights(trained):
            make(bits, 32, rotate=True).quantize(trained, calibration)
            return float(compare_windows(trained, reference).kld.mean())

    assert 0 < cost(8) < cost(2) / 500
    assert float(compare_windows(trained, reference).kld.max()) == 0  # and nothing is left behind
