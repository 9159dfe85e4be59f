"""A terminal of a test's own, of a width it chooses."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path


def on_a_terminal(arguments: list[str], folder: Path, width: int = 80) -> str:
    """Return what the command line shows on a terminal of that many columns."""
    return python_on_a_terminal(["-m", "qidbayes", *arguments], folder, width)


def python_on_a_terminal(arguments: list[str], folder: Path, width: int = 80) -> str:
    """Return what Python shows on a terminal of that many columns."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder, env=environment, stdin=side, stdout=side, stderr=side, close_fds=True,
    )  # fmt: skip
    os.close(side)
    found = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        found += part
    os.close(main)
    child.wait()
    return found.decode()
