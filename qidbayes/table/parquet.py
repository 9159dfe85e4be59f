"""Frames to Parquet and back, with a digest of the whole file in it, held against it before anything else is read.

A damaged file may be read as another table, and some damage ends the process inside polars. The digest is the SHA-256
of the file with 64 zeros in the digest's place. It tells accidents from what was written; it is no signature.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

DIGEST_KEY = "qidbayes.digest"  # in the metadata of a Parquet file
_BLANK = "0" * 64
# How a Parquet file's last part, in Thrift's compact protocol, holds the key and the head of a value of 64 bytes.
_MARK = DIGEST_KEY.encode() + b"\x18\x40"


class UnreadableError(ValueError):
    """A Parquet file that cannot be read, or has been changed since it was written."""


@dataclass(frozen=True)
class Parquet:
    """What a Parquet file holds.

    Attributes
    ----------
    frame
        Its rows.
    metadata
        What was written beside them.
    """

    frame: pl.DataFrame
    metadata: Mapping[str, str]


def to_parquet(frame: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the Parquet file of a frame, with its digest in the metadata.

    Examples
    --------
    >>> content = to_parquet(pl.DataFrame({"bits": [2, 3]}), {"plan": "nano"})
    >>> from_parquet(content).metadata["plan"]
    'nano'
    >>> from_parquet(content.replace(b"nano", b"nani"))
    Traceback (most recent call last):
    ...
    qidbayes.table.parquet.UnreadableError: it is not as it was written: its digest is of another content
    """
    written = io.BytesIO()
    frame.write_parquet(written, metadata={**(metadata or {}), DIGEST_KEY: _BLANK})
    content = written.getvalue()
    start = _start_of_digest(content)
    assert start is not None, "polars writes metadata as the Parquet format says"
    return content[:start] + _digest(content, start) + content[start + len(_BLANK) :]


def from_parquet(content: bytes, *, digested: bool = False) -> Parquet:
    """Return what a Parquet file holds.

    Parameters
    ----------
    content
        The file's bytes.
    digested
        Whether to refuse a file without a digest, as other programs write it.

    Raises
    ------
    UnreadableError
        If it is none, or not as it was written.
    """
    start = _start_of_digest(content)
    if start is None and digested:
        raise UnreadableError("it has no digest; earlier versions wrote none")
    if start is not None and content[start : start + len(_BLANK)] != _digest(content, start):
        raise UnreadableError("it is not as it was written: its digest is of another content")
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
        return Parquet(pl.read_parquet(io.BytesIO(content)), metadata)
    # A panic inside polars is no Exception in Python's eyes, and a damaged file can cause one.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise UnreadableError(str(error)) from error


def _start_of_digest(content: bytes) -> int | None:
    found = content.rfind(_MARK)
    return None if found < 0 else found + len(_MARK)


def _digest(content: bytes, start: int) -> bytes:
    made = hashlib.sha256(content[:start])
    made.update(_BLANK.encode())
    made.update(content[start + len(_BLANK) :])
    return made.hexdigest().encode()
