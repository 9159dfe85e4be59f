"""Laws and plans are read from plain files and from what a shell has opened: never for ever, never without bound."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qidbayes.errors import InputError
from qidbayes.law import load_law
from qidbayes.measure import load_plan
from qidbayes.resources import shipped

LAW, PLAN = shipped("models") / "tokens.toml", shipped("measurements") / "spectra" / "plan.toml"
READERS = {"law": load_law, "plan": load_plan}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_device_and_a_fifo_are_refused_at_once(reader: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "link.toml").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo.toml", tmp_path / "link.toml", Path("/dev/zero"), Path("/dev/full")):
        with pytest.raises(InputError, match=f"{path}: is not a plain file; give a file that holds a (law|plan)"):
            reader(path)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_file_that_says_too_much_is_refused_unread(reader: Callable[[Path], object], tmp_path: Path) -> None:
    with (tmp_path / "sparse.toml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"sparse.toml: is larger than \d+ bytes; that is not a (law|plan)"):
        reader(tmp_path / "sparse.toml")


@pytest.mark.parametrize(("what", "file", "shows"), [("law", LAW, "equation"), ("plan", PLAN, "suite")])
@pytest.mark.parametrize("where", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_standard_input_is_read_as_a_file_is(what: str, file: Path, shows: str, where: str) -> None:
    module = {"law": "qidbayes.law", "plan": "qidbayes.measure"}[what]
    program = f"from {module} import load_{what} as load; print(load({where!r}).{shows})"
    done = subprocess.run(
        [sys.executable, "-c", program], input=file.read_bytes(), capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode().strip() == str(getattr(READERS[what](file), shows))


@pytest.mark.parametrize("what", READERS)
def test_an_endless_standard_input_ends(what: str) -> None:
    module = {"law": "qidbayes.law", "plan": "qidbayes.measure"}[what]
    with Path("/dev/zero").open("rb") as endless:
        done = subprocess.run(
            [sys.executable, "-c", f"from {module} import load_{what} as load; load('/dev/stdin')"],
            stdin=endless, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert "InputError: /dev/stdin: is larger than" in done.stderr


@pytest.mark.parametrize("what", READERS)
def test_a_byte_order_mark_is_no_part_of_the_text(what: str, tmp_path: Path) -> None:
    file = {"law": LAW, "plan": PLAN}[what]
    (tmp_path / file.name).write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert READERS[what](tmp_path / file.name) == READERS[what](file)
