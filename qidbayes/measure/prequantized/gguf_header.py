"""Walk a GGUF file's header before any library reads it: what it claims has to be in the file.

The `gguf` library makes several NumPy views for every entry of the metadata, and dequantizes whatever range of the file
a tensor names. A small file could so ask for all memory there is.
"""

import math
import mmap
import struct
from pathlib import Path

from qidbayes.errors import InputError

_MOST_ENTRIES = 2_000_000  # of metadata, entries of arrays included; Gemma's vocabulary has 786,432
_MOST_TENSORS = 20_000
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes, by the number of a type
_STRING, _ARRAY = 8, 9


def check_header(path: Path) -> int:
    """Check that what a header claims is in the file, and return its number of tensors.

    Raises
    ------
    InputError
        If it is no GGUF file of version 2 or 3 in this machine's byte order, or claims more than it holds.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Walk(content, path).tensors()
    except (OSError, ValueError) as error:  # mmap's word for an empty file is ValueError
        raise InputError(f"{path}: not a readable GGUF file ({error})") from error


class _Walk:
    """One walk through a header, from its first byte on."""

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self._content, self._path = content, path
        self._at = self._entries = 0

    def tensors(self) -> int:
        """Walk over metadata and tensors."""
        from gguf.constants import GGML_QUANT_SIZES, GGUF_MAGIC, GGMLQuantizationType

        magic, version = self._take("<II")
        if magic != GGUF_MAGIC or version not in (2, 3):
            raise self._wrong("expected GGUF of version 2 or 3, little-endian")
        tensors, pairs = self._take("<QQ")
        if tensors > _MOST_TENSORS or pairs > _MOST_ENTRIES:
            raise self._wrong(f"its header claims {tensors:,} tensors and {pairs:,} settings")
        for _ in range(pairs):
            self._string()
            (kind,) = self._take("<I")
            self._value(kind)
        sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
        total = 0
        for _ in range(tensors):
            name = self._string().decode(errors="replace")
            (dimensions,) = self._take("<I")
            if not 1 <= dimensions <= 4:
                raise self._wrong(f"{name} has {dimensions:,} dimensions")
            shape = self._take(f"<{dimensions}Q")
            kind, _ = self._take("<IQ")
            if kind not in sizes:
                raise self._wrong(f"{name} is of type {kind}, which the installed gguf does not know")
            block, size = sizes[kind]
            if not all(shape):
                raise self._wrong(f"{name} has the shape {list(shape)}")
            if shape[0] % block:
                raise self._wrong(f"{name} has rows of {shape[0]:,}, which blocks of {block} do not divide")
            total += math.prod(shape) // block * size
            if total > len(self._content):
                said = GGMLQuantizationType(kind).name
                raise self._wrong(f"its tensors up to {name} ({said}, {list(shape)}) take more bytes than it has")
        return int(tensors)

    def _value(self, kind: int) -> None:
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY:
            inner, count = self._take("<IQ")
            self._entries += count
            if self._entries > _MOST_ENTRIES:
                raise self._wrong(f"its metadata have more than {_MOST_ENTRIES:,} entries")
            if inner == _STRING:
                for _ in range(count):
                    self._string()
            else:
                self._skip(count * self._size(inner))
        else:
            self._skip(self._size(kind))

    def _size(self, kind: int) -> int:
        if kind not in _SIZES:
            raise self._wrong(f"its metadata have a value of type {kind}")
        return _SIZES[kind]

    def _string(self) -> bytes:
        (length,) = self._take("<Q")
        start = self._at
        self._skip(length)
        return self._content[start : min(self._at, start + 200)]

    def _take(self, form: str) -> tuple[int, ...]:
        start = self._at
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self._content, start)

    def _skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._content):
            raise self._wrong("its header goes on behind its end")

    def _wrong(self, why: str) -> InputError:
        return InputError(f"{self._path}: not a readable GGUF file ({why})")
