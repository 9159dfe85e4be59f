"""Shards: every checkpoint once, always the same, about as long."""

import heapq
from collections import Counter
from dataclasses import replace

import pytest
from click.testing import CliRunner

from measure.conftest import TINY
from qidbayes.cli.measure import measure as command
from qidbayes.errors import InputError
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.plan.cost import estimate, seconds_of
from qidbayes.measure.plan.plan import Checkpoint
from qidbayes.measure.plan.shard import deal, shard_of
from qidbayes.resources import shipped

PLANS = {name: load_plan(shipped("measurements") / name / "plan.toml") for name in ("tiny", "pythia-full")}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 64, 500])
def test_every_checkpoint_is_in_one_shard(name: str, count: int) -> None:
    plan = PLANS[name]
    dealt = deal(plan, count)
    assert Counter(dealt.keys()) == Counter(plan.checkpoints)
    seconds = [0.0] * count
    for checkpoint, number in dealt.items():
        seconds[number - 1] += seconds_of(plan, checkpoint)
    for number in {1, count // 2 + 1, count}:
        assert shard_of(plan, number, count) == tuple(c for c in plan.checkpoints if dealt[c] == number)
    longest = max(seconds_of(plan, c) for c in plan.checkpoints)
    assert max(seconds) - min(seconds) <= longest * (1 + 1e-12)
    # Graham's bound of longest-first against any schedule; the mean and the longest are below every schedule.
    assert max(seconds) <= (4 / 3) * max(sum(seconds) / count, longest, two_of_the_longest(plan, count)) * (1 + 1e-12)


def two_of_the_longest(plan: Plan, count: int) -> float:
    """Of count + 1 checkpoints two share a shard: the least two of the longest, at best."""
    longest = sorted((seconds_of(plan, c) for c in plan.checkpoints), reverse=True)
    return longest[count - 1] + longest[count] if count < len(longest) else 0.0


@pytest.mark.parametrize("count", [2, 7, 16])
def test_they_are_what_a_queue_would_give(count: int) -> None:
    plan = PLANS["pythia-full"]
    queue = [(0.0, number) for number in range(1, count + 1)]
    expected: dict[Checkpoint, int] = {}
    for checkpoint in sorted(plan.checkpoints, key=lambda c: seconds_of(plan, c), reverse=True):
        load, number = heapq.heappop(queue)
        expected[checkpoint] = number
        heapq.heappush(queue, (load + seconds_of(plan, checkpoint), number))
    assert deal(plan, count) == expected


def test_a_checkpoint_takes_what_the_dry_run_says() -> None:
    plan = PLANS["pythia-full"]
    swept = replace(plan, quantizations=tuple(q for q in plan.quantizations if q.method != "awq"))
    said = sum(part.gpu_hours for part in estimate(swept)) * 3600
    assert sum(seconds_of(swept, c) for c in swept.checkpoints) == pytest.approx(said, rel=1e-3)  # but for once a model


@pytest.mark.parametrize("number, count", [(0, 3), (4, 3), (1, 0)])
def test_no_such_shard(number: int, count: int) -> None:
    with pytest.raises(InputError, match=f"shard {number}/{count}: give 1/{count}"):
        shard_of(PLANS["tiny"], number, count)


@pytest.mark.parametrize("given", ["0/3", "4/3", "3", "1/2/3", "a/b", "-1/3", "1/0", "١/٣x"])
def test_the_option_refuses_what_is_no_shard(given: str) -> None:
    done = CliRunner().invoke(command, [str(TINY / "plan.toml"), f"--shard={given}", "--dry-run"])
    assert done.exit_code == 2
    assert "is not a shard; give 1/8 to 8/8" in done.output


def test_a_dry_run_is_of_the_shard() -> None:
    done = CliRunner().invoke(command, [str(TINY / "plan.toml"), "--shard=1/5", "--dry-run"])
    assert done.exit_code == 0
    (together,) = [line for line in done.output.splitlines() if line.startswith(" together")]
    assert together.split()[1] == str(len(shard_of(PLANS["tiny"], 1, 5)))
