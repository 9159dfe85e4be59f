"""A run kept in an object store, through the library that polars reads such addresses with.

An object store has no locks and no renames. It puts objects whole, and refuses a put whose condition does not hold:
"only if there is none", "only if it is still the one I read". On the second rests that no change is lost. On both rest
claims: a claim is an object that its holder keeps changing, and one that has not changed for a while is taken over. How
long "a while" is, each machine measures for itself, so that no two clocks are ever compared.
"""

import random
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qidbayes.atomic import replacing
from qidbayes.errors import InputError
from qidbayes.measure.plan.plan import digest
from qidbayes.measure.storage.folder import Folder
from qidbayes.resources import cache_folder

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_PLAIN = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")  # the name of a bucket, a container or a host
BEAT = 20.0  # seconds from one change of a claim to the next
PATIENCE = 120.0  # seconds without a change after which its holder counts as gone


@dataclass(frozen=True)
class _Held:
    """An object as it was read."""

    content: bytes
    tag: dict[str, str]  # what the store calls this version of it


class Bucket:
    """An address such as `s3://bucket/runs/mine` as a `Backend`.

    Parameters
    ----------
    address
        Credentials, region and endpoint are taken from the environment, as polars takes them (`AWS_…`, `GOOGLE_…`,
        `AZURE_…`).
    store
        What to ask instead of the address, in tests.

    Raises
    ------
    InputError
        If the address is of no kind that is known or holds credentials, or the library is not installed.
    """

    def __init__(self, address: str, store: "ObjectStore | None" = None) -> None:
        check_address(address)
        self._address = address.rstrip("/")
        self._objects = _Objects(self._address, _open(self._address) if store is None else store)
        cache = cache_folder()
        if cache is None:
            raise InputError(f"{address}: this user has no home to keep its files in meanwhile; set XDG_CACHE_HOME")
        self._local = Folder(cache / "runs" / _folder_name(self._address))
        self.scratch = self._local.scratch
        # Whoever shares this folder shares its locks, a machine's processes above all; a claim they left is known dead.
        self._host_id = self._local.get_or_create("neighbours", lambda path: _write_new_id(path)).read_bytes()
        self._seen: dict[str, tuple[dict[str, str], float]] = {}

    def where(self, name: str) -> str:
        """Return an object's address."""
        return f"{self._address}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None if there is none."""
        held = self._objects.get(name)
        return held.content if held else None

    def names(self, prefix: str) -> list[str]:
        """Return the names under a prefix."""
        return self._objects.names(prefix)

    def update(self, name: str, write: Callable[[bytes | None, Path], None]) -> None:
        """Replace an object; done again if somebody else has replaced it meanwhile."""
        while True:
            held = self._objects.get(name)
            content = _written(name, lambda path, held=held: write(held.content if held else None, path))  # type: ignore[misc]
            if self._objects.put(name, content, held):
                return
            time.sleep(random.uniform(0, 0.5))  # noqa: S311 (not a secret)

    def get_or_create(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a file here with an object's content, made where it is missing."""
        content = self.read(name)
        if content is None:
            content = _written(name, write)
            if not self._objects.put(name, content, None):
                content = self.read(name) or b""  # somebody else's, who came first
        path = self.scratch / name
        with replacing(path) as beside:
            beside.write_bytes(content)
        return path

    @contextmanager
    def claim(self, name: str, *, patient: bool) -> Iterator[bool]:
        """Hold a name while the block runs; yields False if another machine, or another process here, holds it.

        A holder that died on another machine is found out by waiting: up to `PATIENCE` seconds when `patient`, and
        otherwise by having been seen unchanged for so long.
        """
        with self._local.claim(f"claims/{name}", patient=False) as mine:
            lease = self._take(f"{name}.claim", patient) if mine else None
            if lease is None:
                yield False
                return
            with lease.kept():
                yield True

    def _take(self, name: str, patient: bool) -> "_Lease | None":
        while True:
            held = self._objects.get(name)
            if held and not held.content.startswith(self._host_id):
                known, since = self._seen.get(name, ({}, 0.0))
                if known != held.tag:
                    self._seen[name] = (held.tag, time.monotonic())
                    if known or not patient:
                        return None  # its holder is alive, or has to be watched first
                    continue
                if time.monotonic() - since < PATIENCE:
                    if not patient:
                        return None
                    time.sleep(min(1.0, PATIENCE / 10))
                    continue
            lease = _Lease(self._objects, name, self._host_id)
            return lease if lease.beat(held) else None


class _Lease:
    """A claim's object, changed again and again while it is held."""

    def __init__(self, objects: "_Objects", name: str, host_id: bytes) -> None:
        self._objects, self._name, self._host_id = objects, name, host_id
        self._mine: _Held | None = None

    def beat(self, held: _Held | None) -> bool:
        """Put the object anew in place of `held`; returns False if somebody else came first."""
        content = self._host_id + uuid.uuid4().bytes
        tag = self._objects.put(self._name, content, held)
        self._mine = _Held(content, tag) if tag else None
        return tag is not None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep it alive while the block runs; then remove it."""
        from obstore.exceptions import BaseError

        over = threading.Event()

        def keep() -> None:
            while not over.wait(BEAT):
                # Where the store does not answer for a moment, the next beat may do.
                with suppress(BaseError, OSError):
                    if not self.beat(self._mine):
                        return  # this process stood still for too long, and another has taken over

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()
            if self._mine:
                self._objects.remove(self._name, self._mine)


class _Objects:
    """What is asked of the object store."""

    def __init__(self, address: str, store: "ObjectStore") -> None:
        self._address, self._store = address, store

    def get(self, name: str) -> _Held | None:
        import obstore

        try:
            got = self._asked(obstore.get, name)
        except FileNotFoundError:
            return None
        return _Held(bytes(got.bytes()), _tag(got.meta))

    def put(self, name: str, content: bytes, held: _Held | None) -> dict[str, str] | None:
        """Put an object in place of the one that was read, or where there was none; None if that has changed."""
        from obstore import put
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if held is None else held.tag
        try:
            return _tag(self._asked(put, name, content, mode=mode))
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError as error:
            if held is not None:
                return None  # removed meanwhile
            raise InputError(f"{self._address}: there is no such bucket; make it first") from error

    def remove(self, name: str, held: _Held) -> None:
        """Remove an object if it is still this one."""
        import obstore

        now = self.get(name)
        if now and now.content == held.content:
            with suppress(FileNotFoundError):
                self._asked(obstore.delete, name)

    def names(self, prefix: str) -> list[str]:
        import obstore

        found = obstore.list(self._store, prefix=prefix).collect()
        return sorted(str(one["path"]).rsplit("/", 1)[-1] for one in found)

    def _asked(self, ask: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            return ask(self._store, *args, **settings)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            raise
        except BaseError as error:
            said = str(error).split("\n", 1)[0]
            raise InputError(f"{self._address}: {said}; check the address, its rights and its endpoint") from error


def _tag(meta: Any) -> dict[str, str]:
    return {key: meta[key] for key in ("e_tag", "version") if meta[key]}


def check_address(address: str) -> None:
    """Refuse an address of no kind that is known, or with credentials in it; what might be a secret is not repeated.

    Examples
    --------
    >>> check_address("s3://me:secret@bucket/run")
    Traceback (most recent call last):
    ...
    qidbayes.errors.InputError: s3://…: the name of a bucket and a path have to follow, and nothing else; give \
s3://BUCKET/…, and keys in the environment (AWS_…, GOOGLE_…, AZURE_…)
    """
    scheme, _, rest = address.partition("://")
    if scheme not in SCHEMES:
        shown = f"{scheme}://…: " if _PLAIN.fullmatch(scheme) else ""
        raise InputError(f"{shown}not an address that is known; give a folder, or {'://, '.join(SCHEMES)}://")
    azure = scheme.startswith("abfs")
    named, _, prefix = rest.partition("/")
    container, at, host = named.rpartition("@")
    plain = _PLAIN.fullmatch(host) and (not at or (azure and _PLAIN.fullmatch(container)))
    if not plain or "?" in prefix or "#" in prefix:
        raise InputError(
            f"{scheme}://…: the name of a bucket and a path have to follow, and nothing else; give {scheme}://"
            f"{'CONTAINER@ACCOUNT.dfs.core.windows.net' if azure else 'BUCKET'}/…, and keys in the environment "
            "(AWS_…, GOOGLE_…, AZURE_…)"
        )


def _folder_name(address: str) -> str:
    """Return a folder's name for an address: readable, and different for every address.

    >>> _folder_name("s3://a/b-c"), _folder_name("s3://a-b/c")
    ('s3-a-b-c-94ed1727', 's3-a-b-c-d58eb495')
    """
    name = "-".join(part for part in address.split("/") if part).replace(":", "")
    return f"{name[:100]}-{digest(address)[:8]}"


def _open(address: str) -> "ObjectStore":
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(f"{address}: needs obstore; pip install 'qidbayes[measure]'") from error
    try:
        return from_url(address)
    except (BaseError, ValueError) as error:
        said = str(error).split("\n", 1)[0]
        raise InputError(f"{address}: {said}") from error


def _written(name: str, write: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name  # writers choose their format by its suffix
        write(path)
        return path.read_bytes()


def _write_new_id(path: Path) -> None:
    path.write_bytes(uuid.uuid4().hex.encode())
