"""Files that appear whole or not at all: written beside, synced, renamed."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qidbayes.errors import InputError

_PROBE = 2**20  # bytes


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is synced and renamed onto `path`.

    If the block raises, or the process dies, `path` is left as it was. Missing parent folders are made.

    Raises
    ------
    InputError
        If the folder cannot be made or written to, or its disk is full.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "answer.txt"
    >>> with replacing(target) as beside:
    ...     _ = beside.write_text("42")
    >>> target.read_text()
    '42'
    """
    path = Path(path)
    # Named before it is made, so that Ctrl-C at any moment finds it. The suffix is kept: writers choose a format by it.
    beside = path.parent / f".{path.stem}-{secrets.token_hex(4)}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch(exist_ok=False)
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    except BaseException as error:
        reason = None
        if isinstance(error, Exception) and not isinstance(error, InputError):
            plain = isinstance(error, OSError) and error.errno is not None
            reason = error if plain else _no_room(beside)
        with suppress(OSError):
            beside.unlink()
        if isinstance(reason, OSError):
            raise _refusal(path, reason) from error
        raise
    with suppress(OSError):  # the file is there; not every file system can promise more
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # so that the rename itself survives a power cut
        finally:
            os.close(folder)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file's bytes, whole or not at all.

    Raises
    ------
    InputError
        As `replacing`.
    """
    with replacing(path) as beside:
        beside.write_bytes(content)


def _no_room(beside: Path) -> OSError | None:
    """Return what the disk says to more bytes: libraries make errors of their own of a full one."""
    try:
        with beside.open("ab") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _refusal(path: Path, error: OSError) -> InputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "free some space, or choose another place" if full else "choose another place"
    return InputError(f"{path}: cannot be written ({error.strerror or error}); {what}")
