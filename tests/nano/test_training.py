"""The training script at micro size: what it computes, what it keeps, and that stopping changes nothing."""

import contextlib
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPTNeoXForCausalLM

from qidbayes.measure.inputs.checkpoint import count_parameters


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / name / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def elsewhere(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    (made / "corpus").symlink_to(folder / "corpus")
    return made


def test_every_size_has_the_parameters_that_the_plan_says(train: ModuleType) -> None:
    for run in train.read_suite(Path(train.__file__).with_name("suite.toml")):
        with torch.device("meta"):
            assert count_parameters(train.new_model(run)) == run.n_params, run.name


def test_the_rates_are_the_schedules(train: ModuleType, folder: Path) -> None:
    cosine, stable = train.read_suite(folder / "suite.toml")
    assert cosine.kept == [100, 141, 200]
    assert cosine.branches == {}
    assert stable.branches == {100: 80, 200: 160}
    for step in (1, 4, 100, 141, 200):
        warm = min(1, step / 4) * 4e-3
        down = 0.1 + 0.9 * (1 + math.cos(math.pi * max(0, step - 4) / 196)) / 2
        assert cosine.rate(step) == pytest.approx(warm * down)
        assert stable.rate(step) == pytest.approx(warm)
    assert [stable.rate(step, decaying_to=200) for step in (160, 180, 200)] == pytest.approx([4e-3, 2.2e-3, 4e-4])


def test_every_pass_reads_every_window_once_and_a_seed_fixes_the_order(train: ModuleType, folder: Path) -> None:
    run = train.read_suite(folder / "suite.toml")[0]
    tokens = train.read_tokens(folder / "corpus" / "train.u16")
    windows = (len(tokens) - 1) // 32
    order = train.reading_order(run, len(tokens)).flatten()
    assert len(order) == 200 * 32
    first, second = order[:windows], order[windows : 2 * windows]
    assert sorted(first.tolist()) == sorted(second.tolist()) == [32 * n for n in range(windows)]
    assert not torch.equal(first, second)
    assert torch.equal(order, train.reading_order(run, len(tokens)).flatten())
    assert sorted(tokens.tolist()) == sorted(train.np.fromfile(folder / "corpus" / "train.u16", dtype="<u2").tolist())


def test_the_loss_is_that_of_transformers(train: ModuleType, folder: Path) -> None:
    run = train.read_suite(folder / "suite.toml")[0]
    trainer = train.Trainer(run, train.read_tokens(folder / "corpus" / "train.u16"))
    windows = trainer.tokens[trainer.order[0][:, None] + trainer.offsets].long()
    theirs = trainer.model(input_ids=windows[:, :-1]).logits
    plain = torch.nn.functional.cross_entropy(theirs.flatten(0, 1), windows[:, 1:].flatten())
    assert trainer._loss(windows).item() == pytest.approx(plain.item(), abs=5e-3)  # bfloat16 against float32


def test_a_step_never_waits_for_a_value(train: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph cannot hold a step that reads a tensor's value; on the meta device such a read raises."""

    class NoOptimizer:
        def __init__(self, *_: object, **__: object) -> None:
            self.state: dict[object, object] = {}

        def step(self) -> None: ...
        def zero_grad(self) -> None: ...

    monkeypatch.setattr(torch.optim, "AdamW", NoOptimizer)  # the real one checks its rate's value once, when it is made
    monkeypatch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(train.Trainer, "_forget_warm_up", lambda *_: None)
    plain = train.new_model
    monkeypatch.setattr(train, "new_model", lambda run: plain(run).bfloat16())
    run = train.read_suite(folder / "suite.toml")[0]
    train.Trainer(run, torch.zeros(10_000, dtype=torch.int16, device="meta")).update()


def test_stopped_runs_end_where_others_do_and_branches_leave_no_trace(
    train: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (folder / "suite.toml").read_text()
    for large, small in {"window = 32": "window = 8", "batch = 32": "batch = 4", "first = 100": "first = 25"}.items():
        said = said.replace(large, small)
    (folder / "suite.toml").write_text(said.replace("steps = 200", "steps = 50"))
    stable = train.read_suite(folder / "suite.toml")[1]
    train.train(stable, folder, "cpu")
    names = ("stable-0/step50", "decayed-0/step25", "decayed-0/step50")
    kept = {name: weights(folder, f"64x1-{name}") for name in names}
    assert not equal(kept["stable-0/step50"], kept["decayed-0/step50"])

    ticks = iter(range(10_000))
    monkeypatch.setattr(train.time, "time", lambda: next(ticks))
    stopped = elsewhere(folder, "stopped")
    for _ in range(10):
        train.train(stable, stopped, "cpu", next(ticks) + 15)  # steps, or a few less
    for name, one in kept.items():
        assert equal(one, weights(stopped, f"64x1-{name}")), name

    monkeypatch.setattr(train.Run, "branches", property(lambda _: {}))
    straight = elsewhere(folder, "straight")
    train.train(stable, straight, "cpu")
    assert equal(kept["stable-0/step50"], weights(straight, "64x1-stable-0/step50"))


def test_it_learns_and_what_it_keeps_is_read_by_transformers(train: ModuleType, folder: Path) -> None:
    train.main(folder, "64x1-cosine-0")
    model = GPTNeoXForCausalLM.from_pretrained(folder / "checkpoints/64x1-cosine-0/step200", dtype=torch.float32)
    run = train.read_suite(folder / "suite.toml")[0]
    tokens = train.read_tokens(folder / "corpus" / "train.u16")
    windows = tokens[train.reading_order(run, len(tokens))[0][:, None] + torch.arange(33)].long()
    loss = model(input_ids=windows[:, :-1], labels=windows[:, :-1]).loss.item()
    # A document's tokens follow from one another up to a choice of three: ln 3 nats; ln 40 before training.
    assert loss < 2.0 < math.log(40)
