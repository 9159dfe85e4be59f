"""A slow fit says that it is slow, and Ctrl-C ends it."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from plain import plain

import qidbayes as qb
from qidbayes import memory
from qidbayes.errors import SlowWarning
from qidbayes.infer.pace import Pace
from qidbayes.infer.threads import NAME, run

HEARD = 2.0
"""Seconds; what is measured on a busy machine may be twice as much."""


def irregular(models: int) -> pl.DataFrame:
    """Ten rows of each model at training tokens of their own, which no grid holds: every density is dense."""
    rng = np.random.default_rng(0)
    n = np.repeat(np.exp(rng.uniform(np.log(1e8), np.log(1e10), models)).round(), 10)
    d, p = np.exp(rng.uniform(np.log(1e9), np.log(3e11), len(n))).round(), rng.choice([2.0, 3.0, 4.0], len(n))
    log_qid = 0.5 * np.log(d / 1e11) - 0.3 * np.log(n / 1e9) - 5 * np.log(p / 4) - 3 + 0.2 * rng.standard_normal(len(n))
    model = [f"m{i // 10}" for i in range(len(n))]
    return pl.DataFrame(
        {"model": model, "revision": [f"{t:.0f}" for t in d], "n_params": n, "tokens": d, "bits": p}
    ).with_columns(suite=pl.lit("irregular"), method=pl.lit("gptq"), qid=pl.Series(np.exp(log_qid)))


def test_the_command_line_says_so_and_is_ended(tmp_path: Path) -> None:
    irregular(250).write_csv(tmp_path / "slow.csv")
    command = [sys.executable, "-m", "qidbayes", "fit", "slow.csv", "--seed", "0", "-o", "slow.nc"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        said = started.stderr.readline()
        assert "sampling 2,500 rows will take about" in said and "Ctrl-C" in said
        begun = time.monotonic()
        started.send_signal(signal.SIGINT)
        assert next(line for line in started.stderr if line.strip()) == "qidbayes: stopped\n"
        assert time.monotonic() - begun < 2 * HEARD
        assert started.wait() == 130  # when Python has put everything away
    assert [path.name for path in tmp_path.iterdir()] == ["slow.csv"]


def test_a_notebook_is_given_back_and_can_fit_again() -> None:
    table = irregular(40)
    sent = []

    def interrupt(done: int, total: int) -> None:
        if not sent:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    def fit() -> qb.Fit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return qb.fit(table.head(60), plain("unified"), draws=50, tune=100, chains=2, random_seed=0)

    before = fit()
    with pytest.raises(KeyboardInterrupt):
        qb.fit(table, "unified", random_seed=0, progress=interrupt)
    assert time.monotonic() - sent[0] < 2 * HEARD
    until = time.monotonic() + 30
    while any(thread.name == NAME for thread in threading.enumerate()):  # the last gradient ends, and no other begins
        assert time.monotonic() < until
        time.sleep(0.05)
    np.testing.assert_array_equal(fit().draws["beta"], before.draws["beta"])


def test_who_waits_is_given_back_whatever_a_task_does() -> None:
    held, begun = threading.Event(), threading.Event()

    def deaf() -> None:
        begun.set()
        held.wait()

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run([deaf], lambda: None)
    assert time.monotonic() - start < 2 * HEARD
    held.set()


def test_a_failure_ends_the_others() -> None:
    stopped = threading.Event()

    def fails() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([fails, lambda: stopped.wait(30)], stopped.set)
    assert run([lambda: 1, lambda: 2, lambda: 3], stopped.set, width=2) == [1, 2, 3]


def test_only_what_takes_more_than_a_minute_is_said() -> None:
    said: list[str] = []
    pace = Pace(rows=7, transitions=8000, say=said.append)
    time.sleep(2.1)
    pace.look(2)
    pace.look(3)
    # A second or so a gradient, 31 gradients a transition.
    assert len(said) == 1 and "sampling 7 rows will take about 3" in said[0] and "days" in said[0]
    quick = Pace(rows=7, transitions=8000, say=said.append)
    time.sleep(2.1)
    quick.look(1_000_000)
    assert len(said) == 1
    assert issubclass(SlowWarning, UserWarning)


def test_what_does_not_fit_is_refused_with_figures() -> None:
    with pytest.raises(qb.InputError, match=r"3 rows would need about 1000000000\.0 GB of memory, and [\d.]+ are free"):
        memory.check(1e18, "3 rows", "take fewer")
    memory.check(0.0, "3 rows", "take fewer")


def test_a_table_whose_grids_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    """With 2 GB to spare a search among 5,000 models at 50,000 training tokens would need 28."""
    irregular(5000).write_parquet(tmp_path / "large.parquet")
    program = (
        "import resource, polars as pl, qidbayes as qb\n"
        "from qidbayes.infer.inputs import inputs\n"
        "rows = inputs(pl.read_parquet('large.parquet'), qb.load_law('unified'))\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 2 * 2**30,) * 2)\n"
        "rows.partition\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "InputError: the search for a grid among 50,000 rows of 5,000 models" in done.stderr
    assert "GB of memory" in done.stderr
