"""Renew the pictures of docs/figures.md by the commands it holds: `make figures`.

With a folder, fits that it holds from before are not made again.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
_COLOURS = 128


def commands() -> list[list[str]]:
    """Return the arguments of each `qidbayes` command of the page, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", (HERE / "figures.md").read_text(), re.M | re.S)
    lines = [shlex.split(line.removeprefix("$ "), comments=True) for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines]


def output(command: list[str]) -> str:
    """Return the file that a command writes."""
    if "-o" in command:
        return command[command.index("-o") + 1]
    if command[0] == "plot":
        return f"{command[1]}.png"
    return f"{command[command.index('--law') + 1] if '--law' in command else 'unified'}.nc"


def renew(folder: Path) -> Iterator[Path]:
    """Run the commands in a folder, and move what is drawn to docs/images."""
    for command in commands():
        made = folder / output(command)
        if command[0] == "fit" and made.exists():
            continue
        print("qidbayes", *command, flush=True)
        done = subprocess.run([sys.executable, "-m", "qidbayes", *command], cwd=folder)
        # A fit whose checks fail is saved, and its figures say so.
        if done.returncode not in ((0, 1) if command[0] == "fit" else (0,)):
            sys.exit(done.returncode)
        if command[0] == "plot":
            picture = HERE / "images" / made.name
            # A page of twelve pictures should load fast, and none has more shades than this.
            Image.open(made).convert("RGB").quantize(_COLOURS).save(picture, optimize=True)
            yield picture


if __name__ == "__main__":
    if len(sys.argv) > 1:
        drawn = list(renew(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            drawn = list(renew(Path(scratch)))
    for picture in drawn:
        print(f"{picture.stat().st_size / 1000:6.0f} kB  {picture.relative_to(HERE.parent)}")
