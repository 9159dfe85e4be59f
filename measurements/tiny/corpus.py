"""The public-domain text the tiny checkpoints were trained on, from three Debian packages.

    apt-get download r-cran-janeaustenr sword-text-web sword-comm-mhcc
    python corpus.py FOLDER_WITH_THE_DEBS OUT

Writes OUT/train.txt, OUT/evaluation.txt and OUT/calibration.txt: Jane Austen's six novels, the World English Bible and
Matthew Henry's concise commentary, one paragraph a line, cut into blocks of a few thousand characters, one block a
document, documents parted by a blank line. Which of the three files a block falls in is decided by a hash of its text.
"""

import hashlib
import html
import io
import re
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK = 4000  # characters a document, at least
HELD_OUT = 80  # one block in this many is held out for evaluation, another for calibration


def package_files(deb: Path) -> dict[str, bytes]:
    """Every file of a Debian package, by its path."""
    command = ["dpkg-deb", "--fsys-tarfile", deb]
    tar = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603 (the reader's own files)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def novels(files: dict[str, bytes]) -> Iterator[list[str]]:
    """The paragraphs of each novel in janeaustenr's lazy-load file: zlib chunks of R's XDR serialization."""
    (rdb,) = (data for name, data in files.items() if name.endswith("data/Rdata.rdb"))
    position = 0
    while position < len(rdb):  # each chunk: its unpacked length in four bytes, then a zlib stream
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(rdb[position + 4 :])
        position = len(rdb) - len(unpacker.unused_data)
        lines, at = [], 0
        while (at := data.find(b"\x00\x04\x00\x09", at)) >= 0:  # an R string: its type, length and bytes
            (length,) = struct.unpack_from(">i", data, at + 4)
            lines.append(data[at + 8 : at + 8 + length].decode())
            at += 8 + length
        yield [" ".join(p.split()) for p in "\n".join(lines).split("\n\n")]


def sword_books(files: dict[str, bytes]) -> Iterator[list[str]]:
    """The paragraphs of each book of a SWORD module: zlib blocks found through an index of (offset, size, length)."""
    for name in sorted(n for n in files if n.endswith(".bzz")):
        index = files[name[:-1] + "s"]
        for offset, size, _ in struct.iter_unpack("<III", index):
            text = zlib.decompress(files[name][offset : offset + size]).decode("utf-8", "replace")
            text = re.sub(r"<note.*?</note>", "", text, flags=re.DOTALL)
            text = re.sub(r"<(/?p|/?l|lb|lg|/?title|/?div|verse|br)\b[^>]*>|\0", "\n", text)
            text = html.unescape(re.sub(r"<[^>]*>", "", text))
            yield [" ".join(p.split()) for p in text.split("\n")]


def blocks(paragraphs: list[str]) -> Iterator[str]:
    """Runs of consecutive paragraphs, each run at least `BLOCK` characters long."""
    run: list[str] = []
    for paragraph in filter(None, paragraphs):
        run.append(paragraph)
        if sum(map(len, run)) >= BLOCK:
            yield "\n".join(run)
            run = []


def main(debs: Path, out: Path) -> None:
    documents: dict[str, list[str]] = {"train": [], "evaluation": [], "calibration": []}
    readers = {"r-cran-janeaustenr": novels, "sword-text-web": sword_books, "sword-comm-mhcc": sword_books}
    for package, read in readers.items():
        (deb,) = debs.glob(f"{package}_*.deb")
        for paragraphs in read(package_files(deb)):
            for block in blocks(paragraphs):
                bucket = int(hashlib.sha256(block.encode()).hexdigest(), 16) % HELD_OUT
                documents[{0: "evaluation", 1: "calibration"}.get(bucket, "train")].append(block)
    out.mkdir(parents=True, exist_ok=True)
    for name, texts in documents.items():
        (out / f"{name}.txt").write_text("\n\n".join(texts) + "\n")
        sys.stderr.write(f"{name}: {len(texts)} documents, {sum(map(len, texts)):,} characters\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
