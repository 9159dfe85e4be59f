"""Put small faults into the code, one at a time, and say which of them the tests find: `make mutants`, or a part of it.

    python checks/mutants/run.py --only jacobian --jobs 1 --output results.csv

A mutant is an exact replacement in one file (`mutants.toml`). It is applied to a temporary copy of the tree, where its
tests run until the first fails: then it is killed. Exits with 1 if a mutant survives, and with 2 if the list is not in
step with the code or the tests fail without any mutant.
"""

import argparse
import ast
import csv
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

LIMIT = 900.0  # seconds for a mutant's tests: a fault may also make them go round for ever
_RESULTS = {0: "survived", 1: "killed"}
_FIELDS = ("mutant", "file", "result", "seconds", "tests", "commit", "date", "processor")


class ListError(Exception):
    """The list of mutants and the code do not go together."""


@dataclass(frozen=True)
class Mutant:
    """One replacement: where, what by what, whom it would hurt, and the tests (files, or `file::test`) to find it."""

    name: str
    file: str
    find: str
    put: str
    hurts: str
    tests: tuple[str, ...]

    def applied(self, root: Path) -> str:
        """Return the file's text with the fault in it; refuse one that is not there exactly once, or no Python."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.find)) != 1:
            raise ListError(f"{self.name}: {self.file} has its text {count} times, not once; mend mutants.toml")
        changed = text.replace(self.find, self.put)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise ListError(f"{self.name}: {self.file} would be no Python ({error})") from None
        if changed == text:
            raise ListError(f"{self.name}: it changes nothing")
        return changed

    def check(self, root: Path) -> None:
        """Refuse a mutant that cannot be applied, or names a test that is not there."""
        self.applied(root)
        for test in self.tests:
            file, _, function = test.partition("::")
            if not (root / file).is_file() or f"def {function}" not in (root / file).read_text(encoding="utf-8"):
                raise ListError(f"{self.name}: there is no test {test}")


def load(path: Path) -> list[Mutant]:
    """Read a list of mutants."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Mutant(name, **{**entry, "tests": tuple(entry["tests"])}) for name, entry in found.items()]


def copy_tree(root: Path, to: Path) -> Path:
    """Copy what git does not ignore."""
    for file in filter(None, _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        if (root / file).is_file():  # one that was removed stays listed until that is committed
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / file, to / file)
    return to


def run(copy: Path, tests: tuple[str, ...], says: bool = False) -> tuple[str, float]:
    """Run tests in a copy; return what came of it, and the seconds it took; say what failed if that is asked for."""
    # No bytecode: of a file changed twice in a second, Python would run the old one. No example is replayed.
    own = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    own["JAX_COMPILATION_CACHE_DIR"] = str(copy.parent / "jax")
    shutil.rmtree(copy / ".hypothesis", ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=copy, env=os.environ | own, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return "killed by the clock", time.perf_counter() - began
    if done.returncode not in _RESULTS or (done.returncode and says):
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
    return _RESULTS.get(done.returncode, f"pytest {done.returncode}"), time.perf_counter() - began


def try_one(mutant: Mutant, free: SimpleQueue[Path]) -> tuple[str, float]:
    """Apply a mutant to a free copy, run its tests there, and take it back."""
    copy = free.get()
    whole = (copy / mutant.file).read_bytes()
    try:
        (copy / mutant.file).write_text(mutant.applied(copy), encoding="utf-8")
        return run(copy, mutant.tests)
    finally:
        (copy / mutant.file).write_bytes(whole)
        free.put(copy)


def main() -> int:
    """Run the mutants asked for, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the tree to try them on")
    parser.add_argument("--only", default="", help="mutants whose name or file this pattern finds")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, help="a CSV, a row a mutant")
    given = parser.parse_args()
    every = load(given.root / "checks/mutants/mutants.toml")
    mutants = [mutant for mutant in every if re.search(given.only, f"{mutant.name} {mutant.file}")]
    try:
        for mutant in mutants:
            mutant.check(given.root)
    except ListError as error:
        print(error, file=sys.stderr)
        return 2
    commit = _git(given.root, "describe", "--always", "--dirty", "--exclude", "*").strip()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        Path(folder).chmod(0o755)  # some tests run as nobody
        first = copy_tree(given.root, Path(folder, "0"))
        result, seconds = run(first, tuple(sorted({test for mutant in mutants for test in mutant.tests})), True)
        print(f"{result:20} {seconds:5.0f} s  no mutant at all", flush=True)
        if result != "survived":
            print("tests fail without any mutant, so that none would say anything", file=sys.stderr)
            return 2
        free: SimpleQueue[Path] = SimpleQueue()
        for copy in (first, *(copy_tree(given.root, Path(folder, str(i))) for i in range(1, given.jobs))):
            free.put(copy)
        with ThreadPoolExecutor(given.jobs) as pool:
            for mutant, (result, seconds) in zip(mutants, pool.map(lambda m: try_one(m, free), mutants), strict=True):
                print(f"{result:20} {seconds:5.0f} s  {mutant.name}", flush=True)
                about = [mutant.name, mutant.file, result, f"{seconds:.0f}", " ".join(mutant.tests)]
                rows.append([*about, commit, str(datetime.datetime.now(datetime.UTC).date()), _processor()])
    if given.output:
        with given.output.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([_FIELDS, *rows])
    left = [row[0] for row in rows if not row[2].startswith("killed")]
    print(f"{len(rows) - len(left)} of {len(rows)} killed" + "".join(f"\n  {name} was not" for name in left))
    return 1 if left else 0


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text(encoding="utf-8")) if info.exists() else None
    return f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
