"""Files that somebody else may have named, read within bounds."""

import os
import stat
from pathlib import Path

from qidbayes.errors import InputError

_OPENED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # what a shell has opened for this process: a pipe, say


def read_bounded(path: str | os.PathLike[str], most: int, what: str) -> bytes:
    """Return the bytes of a plain file, or of standard input.

    A device may go on for ever, and a FIFO may never begin, so no other is read.

    Parameters
    ----------
    path
        The file's.
    most
        Bytes that are read at most.
    what
        What the file should hold, for messages: `a law`.

    Raises
    ------
    InputError
        If it is a device, a FIFO or a socket, or holds more than `most` bytes.
    OSError
        If it cannot be opened or read.

    Examples
    --------
    >>> read_bounded("/dev/zero", 1_000, "a law")
    Traceback (most recent call last):
    ...
    qidbayes.errors.InputError: /dev/zero: is not a plain file; give a file that holds a law
    """
    path = Path(path)
    kind = path.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or str(path).startswith(_OPENED)):
        raise InputError(f"{path}: is not a plain file; give a file that holds {what}")
    with path.open("rb") as file:  # a folder says by itself that it is one
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path}: is larger than {most} bytes; that is not {what}")
    return content
