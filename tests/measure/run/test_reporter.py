"""How a run is going, where stderr is no terminal: lines that say more than that it has begun."""

import time

import pytest

from qidbayes.measure import load_plan
from qidbayes.measure.run.progress import console_reporter
from qidbayes.resources import shipped


def test_a_long_checkpoint_is_told_of_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = load_plan(shipped("measurements") / "tiny" / "plan.toml")
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with console_reporter(12) as report:
        report.checkpoint(plan.checkpoints[0])
        for layer in range(8):
            clock[0] += 8
            report.step(f"layer {layer + 1} of 8", 3.25)
            report.done(1)
    name = str(plan.checkpoints[0])
    assert capsys.readouterr().err.splitlines() == [
        f"0 of 12 cells done; {name}",
        f"3 of 12 cells done; {name}: layer 4 of 8, loss 3.2500",
        f"7 of 12 cells done; {name}: layer 8 of 8, loss 3.2500",
    ]
