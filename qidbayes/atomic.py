"""Files that appear whole or not at all: written beside, synced, renamed."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qidbayes.errors import InputError

_PROBE = 2**20  # bytes
_KEPT_OF_NAME = 100  # bytes of a stem and of a suffix; a system allows 255 of a name, and the name beside adds some


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is synced and renamed onto `path`.

    If the block raises, or the process dies, `path` is left as it was. Missing parent folders are made. A file that is
    replaced hands down its permissions, and a link leads to the file that is replaced.

    Raises
    ------
    InputError
        If the folder cannot be made or written to, its disk is full, or there is a file that may not be written to.

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
    target, older = _replaced(path)
    beside = _beside(target)  # named before it is made, so that Ctrl-C at any moment finds it
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.touch(mode=0o600 if older else 0o666, exist_ok=False)
        yield beside
        with beside.open("rb") as written:
            if older:
                _hand_down(older, beside)
            os.fsync(written.fileno())
        beside.replace(target)
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
        folder = os.open(target.parent, os.O_RDONLY)
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


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """Refuse a path that `replacing` could not write to, before what is written there has been worked out.

    Raises
    ------
    InputError
        As `replacing`.
    """
    path = Path(path)
    target, _ = _replaced(path)
    beside = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.touch(exist_ok=False)
        beside.unlink()
    except OSError as error:
        raise _refusal(path, error) from error


def _replaced(path: Path) -> tuple[Path, os.stat_result | None]:
    """Return the file that a path leads to, and what is known of it, if there is one.

    Raises
    ------
    InputError
        If it may not be written to.
    """
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        found = target.stat()
    except FileNotFoundError:
        return target, None
    except OSError as error:
        raise _refusal(path, error) from error
    code = 0
    if stat.S_ISDIR(found.st_mode):
        code = errno.EISDIR
    elif not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: cannot be written (it is no plain file); choose another path")
    # Root may write to any file; one that nobody may write to was meant to stay as it is.
    elif not found.st_mode & 0o222 or not os.access(
        target, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        code = errno.EACCES
    if code:
        raise _refusal(path, OSError(code, os.strerror(code)))
    return target, found


def _beside(target: Path) -> Path:
    # The suffix is kept: writers choose a format by it.
    stem, suffix = (part.encode(errors="ignore") for part in (target.stem, target.suffix))
    kept = stem[:_KEPT_OF_NAME].decode(errors="ignore")
    known = suffix.decode() if len(suffix) <= _KEPT_OF_NAME else ""
    return target.parent / f".{kept}-{secrets.token_hex(4)}{known}"


def _hand_down(older: os.stat_result, beside: Path) -> None:
    if hasattr(os, "chown"):
        with suppress(OSError):  # only root may give a file away
            os.chown(beside, older.st_uid, older.st_gid)
    beside.chmod(stat.S_IMODE(older.st_mode))


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
    what = "free some space, or choose another path" if full else "choose another path"
    return InputError(f"{path}: cannot be written ({error.strerror or error}); {what}")
