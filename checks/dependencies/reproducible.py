"""Build wheel and sdist twice, from two folders, and hold their SHA-256 against each other: part of `make wheel`.

    python checks/dependencies/reproducible.py DIST       # the first build is kept there

Times in the archives come from SOURCE_DATE_EPOCH, the last commit's where git is there. The wheel is built from the
sdist, as `python -m build` does.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(source: Path, target: Path, environment: dict[str, str]) -> dict[str, str]:
    """Build in a folder, and return the digests by file name."""
    # With what is installed here, so that both builds have the same hatchling and nothing is downloaded twice.
    command = [sys.executable, "-m", "build", "--quiet", "--no-isolation", "--outdir", str(target), str(source)]
    subprocess.run(command, check=True, env=environment)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(target.iterdir())}


def main(dist: Path) -> int:
    """Build twice and compare."""
    git = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    epoch = git.stdout.strip() if git.returncode == 0 else "1577836800"
    environment = {"SOURCE_DATE_EPOCH": epoch, **os.environ}
    first = build(ROOT, dist, environment)
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(next(dist.glob("*.tar.gz")), folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        (unpacked / "PKG-INFO").unlink()  # made by the first build, and made again by the second
        second = build(unpacked, Path(folder, "again"), environment)
    for name, digest in first.items():
        print(
            f"{digest}  {name}{'' if second.get(name) == digest else f', and {second.get(name)} from another folder'}"
        )
    return int(first != second)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
