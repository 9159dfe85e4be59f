"""Sub-streams of a seed: what is drawn with one seed for different purposes is independent."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for. The numbers are part of what a seed gives, and stay as they are."""

    MODEL_EFFECTS = 0
    NEW_MEASUREMENTS = 1
    NEW_GROUPS = FORECASTS = 2  # told apart by the group, which follows in the first
    BOOTSTRAP = 3
    STUDENT_T_VARIANCES = 4
    JOINT_MEASUREMENTS = 5
    SHARED_EFFECTS = 6
    CONSTANTS = 7
    PROPOSALS = 8
    SIMULATION = 10
    RANK_TIES = 11
    REPLICATES = 12
    PRIOR = 13
    UNTOLD_TOKENS = 14


def generator(seed: int, stream: Stream, *further: int) -> np.random.Generator:
    """Return the generator of one stream of a seed.

    Parameters
    ----------
    seed
        The user's seed.
    stream
        What is drawn.
    *further
        Numbers that tell apart what is drawn within the stream.

    Examples
    --------
    >>> drawn = generator(7, Stream.BOOTSTRAP).normal()
    >>> bool(drawn == np.random.default_rng([7, 3]).normal())
    True
    """
    return np.random.default_rng([seed, stream, *further])
