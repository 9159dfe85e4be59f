"""A run's folder under faults: full, closed, cut short, and dated wrongly.

Tried: 4 sizes of what is left of the disk; a folder that may not be written to; 2 cuts of each kind of file it keeps;
every file dated 1970 and 2100.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.test_disk import _open_up_to, as_nobody, room

from qidbayes.errors import InputError
from qidbayes.measure import Plan
from qidbayes.measure.run.local import measure
from qidbayes.table import read_table


@pytest.fixture
def measured(plan: Plan, tmp_path: Path) -> Iterator[Path]:
    """The folder of a whole run."""
    measure(plan, tmp_path / "run")
    yield tmp_path / "run"


def test_a_full_disk_leaves_a_folder_that_can_go_on(plan: Plan, measured: Path, tmp_path: Path) -> None:
    whole = read_table(measured / "table.parquet")
    for left in (0, 100, 4_000, 9_000):
        folder = tmp_path / f"full-{left}"
        with room(left), pytest.raises(InputError, match=r"cannot be written .File too large.; free some space"):
            measure(plan, folder)
        for path in folder.rglob("*.parquet"):
            read_table(path) if path.name == "table.parquet" else path  # whole, or not there
        outcome = measure(plan, folder)
        assert outcome.failed == ()
        cost = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")
        assert read_table(folder / "table.parquet").drop(cost).equals(whole.drop(cost))


def test_a_folder_that_may_not_be_written_to(plan: Plan, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    _open_up_to(tmp_path)
    closed.chmod(0o555)
    with as_nobody(), pytest.raises(InputError, match=r"cannot be written .Permission denied.; choose another path"):
        measure(plan, closed / "run")


@pytest.mark.parametrize("kind", ["checkpoints/*.parquet", "windows/*.safetensors"])
def test_a_file_cut_short_is_named_with_what_to_do(kind: str, plan: Plan, measured: Path) -> None:
    path = next(iter(sorted(measured.glob(kind))))
    whole = path.read_bytes()
    for length in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        if kind.startswith("windows"):  # asked for only where something is still to be measured
            shutil.rmtree(measured / "checkpoints")
            outcome = measure(plan, measured)
            assert outcome.failed and all("remove it to cut them anew" in line for line in outcome.failed)
        else:
            with pytest.raises(InputError, match="remove it to measure again") as told:
                measure(plan, measured)
            assert str(path) in str(told.value)
    path.unlink()
    assert measure(plan, measured).failed == ()


def test_no_decision_rests_on_the_time_of_day(plan: Plan, measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured_again(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("qidbayes.measure.run.checkpoint_run.load_model", measured_again)
    before = read_table(measured / "table.parquet")
    for moment in (0, 4_102_444_800):  # 1970 and 2100
        for path in measured.rglob("*"):
            os.utime(path, (moment, moment))
        assert measure(plan, measured).failed == ()
        assert read_table(measured / "table.parquet").equals(before)
