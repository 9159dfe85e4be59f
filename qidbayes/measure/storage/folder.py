"""A run kept in a folder, of this machine or of a file system that several share."""

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qidbayes.atomic import replacing
from qidbayes.errors import InputError

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class Folder:
    """A folder as a `Backend`. Files are renamed into place; claims are locks, which end with their process.

    Parameters
    ----------
    folder
        Made where it is missing.

    Raises
    ------
    InputError
        If it cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> backend = Folder(Path(tempfile.mkdtemp()))
    >>> _ = backend.get_or_create("pins/main", lambda path: path.write_text("1f3a"))
    >>> backend.get_or_create("pins/main", lambda path: path.write_text("never written")).read_text()
    '1f3a'
    >>> with backend.claim("step100", patient=False) as mine, backend.claim("step100", patient=False) as too:
    ...     mine, too
    (True, False)
    """

    def __init__(self, folder: Path) -> None:
        self.scratch = folder
        self._make(folder)

    def where(self, name: str) -> str:
        """Return a file's path."""
        return str(self.scratch / name)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none."""
        try:
            return (self.scratch / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, prefix: str) -> list[str]:
        """Return the names of a folder's files."""
        folder = self.scratch / prefix
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []

    def update(self, name: str, write: Callable[[bytes | None, Path], None]) -> None:
        """Replace a file while nobody else does."""
        with self._alone(name), replacing(self.scratch / name) as beside:
            write(self.read(name), beside)

    def get_or_create(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a file, written where it is missing."""
        path = self.scratch / name
        if not path.exists():
            with self._alone(name):
                if not path.exists():
                    with replacing(path) as beside:
                        write(beside)
        return path

    @contextmanager
    def claim(self, name: str, *, patient: bool) -> Iterator[bool]:  # noqa: ARG002 (locks of the dead are gone)
        """Hold a name while the block runs; yields False if another process holds it."""
        with self._open(f"{name}.lock") as lock:
            yield _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Wait for the lock beside `name`, and hold it while the block runs."""
        with self._open(str(Path(name).with_name(".lock"))) as lock:
            _locked(lock, fcntl.LOCK_EX)
            yield

    def _open(self, name: str) -> IO[str]:
        path = self.scratch / name
        self._make(path.parent)
        try:
            return path.open("w")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another path") from error

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another path") from error


def _locked(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise InputError(
            f"{lock.name}: its file system has no locks ({error.strerror}), so that runs could not share it; mount it "
            "with them (Lustre: -o flock), or keep the run elsewhere"
        ) from error
    return True
