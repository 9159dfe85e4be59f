"""Divide a plan's checkpoints among machines that do not talk to one another."""

from qidbayes.errors import InputError
from qidbayes.measure.plan.cost import seconds_of
from qidbayes.measure.plan.plan import Checkpoint, Plan


def longest_first(plan: Plan) -> list[Checkpoint]:
    """Return the checkpoints in the order in which those who take one after another end together."""
    return sorted(plan.checkpoints, key=lambda checkpoint: -seconds_of(plan, checkpoint))


def shard_of(plan: Plan, number: int, count: int) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of shard `number` of `count`, in the plan's order.

    Each checkpoint, the longest first, goes to the shard that has least to do so far. It depends on the plan alone, not
    on what has been measured: the same shard of a plan is always the same checkpoints.

    Parameters
    ----------
    plan
        What is to be measured.
    number, count
        Which shard, from 1, and how many there are. With more shards than checkpoints some are empty.

    Raises
    ------
    InputError
        If there is no such shard.

    Examples
    --------
    >>> from qidbayes.measure import load_plan
    >>> from qidbayes.resources import shipped
    >>> tiny = load_plan(shipped("measurements") / "tiny" / "plan.toml")
    >>> [len(shard_of(tiny, number, 5)) for number in (1, 2, 3, 4, 5)]
    [2, 2, 3, 2, 3]
    """
    if not 1 <= number <= count:
        raise InputError(f"shard {number}/{count}: give 1/{count} to {count}/{count}")
    dealt = deal(plan, count)
    return tuple(checkpoint for checkpoint in plan.checkpoints if dealt[checkpoint] == number)


def deal(plan: Plan, count: int) -> dict[Checkpoint, int]:
    """Return for each checkpoint which of `count` shards it is in, as `shard_of` has it."""
    loads = [0.0] * count
    dealt = {}
    for checkpoint in longest_first(plan):
        least = loads.index(min(loads))
        loads[least] += seconds_of(plan, checkpoint)
        dealt[checkpoint] = least + 1
    return dealt
