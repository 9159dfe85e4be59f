"""What every environment evaluates with, so that losses are of the same windows and the same sums."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def read_tokens(path: Path) -> tuple[Tensor, Tensor]:
    """Calibration and evaluation windows, `[n, length]` each."""
    tokens = load_file(path)
    return tokens["calibration"], tokens["evaluation"]


@torch.no_grad()
def loss_of(model: nn.Module, windows: Tensor) -> float:
    """Nats per token, the logits taken to float64 before the softmax."""
    total = 0.0
    for batch in windows.split(16):
        logits = model(input_ids=batch).logits[:, :-1].double()
        total += float(nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"))
    return total / windows[:, 1:].numel()


@torch.no_grad()
def weights_of(model: nn.Module, kind: type[nn.Module], dtype: torch.dtype) -> dict[str, Tensor]:
    """What each quantized linear multiplies by, `[out, in]`: its own kernel's answers to the unit vectors."""
    weights = {}
    for name, module in model.named_modules():
        if isinstance(module, kind):
            bias, module.bias = module.bias, None
            inputs = module.in_features if hasattr(module, "in_features") else module.infeatures
            weights[name] = module(torch.eye(inputs, dtype=dtype)).T.contiguous()
            module.bias = bias
    return weights


@contextmanager
def noting_solutions(
    owner: object, solver: str, problem_of: Callable, answer_of: Callable, path: Path
) -> Iterator[None]:
    """Save the weights, Hessian and quantized weights of every matrix that a library's solver is given meanwhile.

    Parameters
    ----------
    owner, solver
        The class or module, and which of its functions solves.
    problem_of, answer_of
        From that function's arguments to a weight and a Hessian; from what it returned and its arguments to the answer.
    path
        The file to write.
    """
    noted: dict[str, Tensor] = {}
    number = count()
    solve = getattr(owner, solver)

    def note(*args: object, **options: object) -> object:
        weight, hessian = (x.detach().clone() for x in problem_of(*args, **options))  # solvers work in place
        returned = solve(*args, **options)
        i = next(number)
        noted[f"{i}.weight"], noted[f"{i}.hessian"] = weight, hessian
        noted[f"{i}.quantized"] = answer_of(returned, *args, **options).detach().clone().contiguous()
        return returned

    with patch.object(owner, solver, note):
        yield
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(noted, path)
