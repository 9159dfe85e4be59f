"""The rooms of `qidbayes.measure`: an arrow points down the list, and what lies below inputs needs no torch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "qidbayes" / "measure"
ROOMS = ["drift", "run", "prequantized", "quantize", "decoder", "inputs", "storage", "plan", "errors"]  # from the top
MODULES = sorted(HOUSE.rglob("*.py"))


def test_every_file_is_in_a_room() -> None:
    assert {path.relative_to(HOUSE).parts[0].removesuffix(".py") for path in MODULES} == {*ROOMS, "__init__"}


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_down(room: str) -> None:
    """Imports within functions too: what is late is no less upward."""
    below = ROOMS[ROOMS.index(room) :]
    for path in MODULES:
        if path.relative_to(HOUSE).parts[0].removesuffix(".py") == room:
            for name in re.findall(r"^ *(?:from|import) qidbayes\.measure\.(\w+)", path.read_text(), re.M):
                assert name in below, f"{path.name} of {room} imports {name}"


@pytest.mark.parametrize("room", ["plan", "storage"])
def test_needs_no_torch(room: str) -> None:
    files = sorted((HOUSE / room).glob("*.py"))
    assert len(files) > 3
    modules = ", ".join(f"qidbayes.measure.{room}.{file.stem}" for file in files if file.stem != "__init__")
    code = f"import sys, {modules}; print(*{{'torch', 'transformers'}}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
