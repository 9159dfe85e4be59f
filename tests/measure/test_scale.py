"""benchmarks/scale.py against cases that can be worked out by hand, and Graham's list scheduling."""

import heapq
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from scale import Job, simulate

FAST = 1e30


def list_schedule(seconds: list[float], gpus: int) -> float:
    free = [0.0] * gpus
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


@pytest.mark.parametrize("gpus", [1, 3, 10, 200])
def test_without_downloads_it_is_list_scheduling(gpus: int) -> None:
    rng = random.Random(0)
    seconds = [rng.expovariate(1) for _ in range(100)]
    found, downloading = simulate([[Job(0.0, one) for one in seconds]], gpus, FAST, FAST)
    assert found == pytest.approx(list_schedule(seconds, gpus), rel=1e-9)
    assert downloading == 0.0


def test_one_gpu_takes_the_sum() -> None:
    found, downloading = simulate([[Job(10.0, 3.0), Job(20.0, 4.0)]], 1, link=5.0, stream=2.0)
    assert (found, downloading) == pytest.approx((5 + 3 + 10 + 4, 15))


def test_downloads_share_the_link() -> None:
    # Both at 5 a second until the first has its 10, at 2 s; the other's remaining 10 then take 1 s alone.
    found, downloading = simulate([[Job(10.0, 0.0)], [Job(20.0, 7.0)]], 2, link=10.0, stream=FAST)
    assert (found, downloading) == pytest.approx((2 + 1 + 7, 2 + 3))


def test_a_narrow_link_takes_all_bytes() -> None:
    jobs = [Job(float(size), 0.0) for size in range(1, 50)]
    found, _ = simulate([jobs], 8, link=3.0, stream=FAST)
    assert found == pytest.approx(sum(job.bytes for job in jobs) / 3)
