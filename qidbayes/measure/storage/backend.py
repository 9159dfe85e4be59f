"""Where a run is kept: a folder, or a prefix of an object store. What a store asks of either is `Backend`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from qidbayes.errors import InputError
from qidbayes.measure.storage.folder import Folder

type GetOrCreate = Callable[[str, Callable[[Path], None]], Path]
"""What `Backend.get_or_create` is, for who needs nothing else of a backend."""


class Backend(Protocol):
    """Named pieces of content that several runs, on several machines, write at the same time.

    Nothing is ever seen half-written, and nobody's change is lost. A claim only saves work from being done twice: what
    is written is right whether or not it held.

    Attributes
    ----------
    scratch
        A folder of this machine for what need not be kept.
    """

    scratch: Path

    def where(self, name: str) -> str:
        """Return a piece's path or address, as a reader would give it to polars."""

    def read(self, name: str) -> bytes | None:
        """Return a piece's content; None if there is none."""

    def names(self, prefix: str) -> list[str]:
        """Return the last parts of the names under `prefix/`, sorted."""

    def update(self, name: str, write: Callable[[bytes | None, Path], None]) -> None:
        """Replace a piece.

        `write` is given what stands there now and a path to put the new content at; it is called again if somebody else
        has replaced it meanwhile.
        """

    def get_or_create(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a file with a piece's content, which whoever comes first has written and nobody changes."""

    def claim(self, name: str, *, patient: bool) -> AbstractContextManager[bool]:
        """Hold a name while the block runs; yields False if somebody else holds it.

        `patient` says that it may take a while to find out that a holder is gone.
        """


def backend_at(where: Path | str) -> Backend:
    """Return the folder at a path, made where it is missing, or the object store at an address with `://` in it.

    Raises
    ------
    InputError
        If the folder cannot be made, or the address is of no kind that is known.
    """
    if ":/" in str(where):  # a path of Python's has one slash left of the two
        from qidbayes.measure.storage.object_store import SCHEMES, Bucket

        if isinstance(where, str) and "://" in where:
            return Bucket(where)
        scheme = str(where).partition(":/")[0]
        if scheme in SCHEMES:
            raise InputError(f"{scheme}:/…: not an address that is known; give it as text, {scheme}://BUCKET/…")
    return Folder(Path(where))
