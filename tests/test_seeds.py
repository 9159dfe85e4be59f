"""Each purpose draws from a stream of its own, the one it has always had."""

import numpy as np
import pytest

from qidbayes.seeds import Stream, generator

NUMBERS = {
    Stream.MODEL_EFFECTS: 0, Stream.NEW_MEASUREMENTS: 1, Stream.FORECASTS: 2, Stream.BOOTSTRAP: 3,
    Stream.STUDENT_T_VARIANCES: 4, Stream.JOINT_MEASUREMENTS: 5, Stream.SHARED_EFFECTS: 6,
    Stream.CONSTANTS: 7, Stream.PROPOSALS: 8, Stream.SIMULATION: 10, Stream.RANK_TIES: 11,
    Stream.REPLICATES: 12, Stream.PRIOR: 13, Stream.UNTOLD_TOKENS: 14,
}  # fmt: skip


@pytest.mark.parametrize("stream", Stream)
def test_a_stream_is_numpys_of_the_seed_and_its_number(stream: Stream) -> None:
    found = generator(5, stream).standard_normal(4)
    np.testing.assert_array_equal(found, np.random.default_rng([5, NUMBERS[stream]]).standard_normal(4))


def test_groups_of_one_stream_are_told_apart() -> None:
    found = generator(5, Stream.NEW_GROUPS, 77).standard_normal(4)
    np.testing.assert_array_equal(found, np.random.default_rng([5, 2, 77]).standard_normal(4))
    assert not np.isin(found, generator(5, Stream.FORECASTS).standard_normal(4)).any()
