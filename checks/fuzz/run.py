"""Fuzz every reader of files that somebody else may have written: `make fuzz`, or a part of it.

    python checks/fuzz/run.py --reader laws --cases 100000 --seed 1 --output checks/fuzz/results.csv

A case is a valid file, damaged at random (`damage.py`). It has to be read or refused with an `InputError` (of a
checkpoint: a `MeasureError` too): no other exception, no crash of the interpreter, nothing run or written, and within
bounds of memory and time. Exits with 1 if a case breaks that, and says which.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from worker import PROGRESS  # noqa: E402 (beside this file)

CASES = {
    "equations": 800_000,
    "laws": 100_000,
    "plans": 60_000,
    "prequantized": 30_000,
    "compressed": 100_000,
    "gguf": 10_000,
    "parquet": 4_000,
    "csv": 100_000,
    "lm-eval": 100_000,
    "llama.cpp": 100_000,
    "labels": 10_000,
    "configs": 100_000,
    "fits": 3_000,
    "checkpoints": 300,
}
ROOM_GIB = 2  # address space a reader may take beyond what its process had
HANGS = 60.0  # seconds of the clock for one case, on however busy a machine
SLOW = 10.0  # seconds of the process's own time for one case


def fuzz(reader: str, cases: int, seed: int, shared: Path) -> dict[str, object]:
    """Run a reader's cases in one process after the other; a new one takes over where one dies."""
    began, done = time.perf_counter(), 0
    accepted = refused = 0
    peak, slowest = 0, 0.0
    broken: Counter[str] = Counter()
    while done < cases:
        with tempfile.TemporaryDirectory(dir=shared) as folder, Path(folder, "out").open("w+") as out:
            progress = Path(folder, "progress")
            # A process takes no more than this, so that what one leaks does not count as what a case takes.
            last = min(done + 50_000, cases)
            command = [sys.executable, str(HERE / "worker.py"), reader, str(seed), str(done), str(last),
                       str(ROOM_GIB * 2**30), folder]  # fmt: skip
            process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"OMP_NUM_THREADS": "1"})
            hung = _wait(process, progress)
            said = progress.read_bytes() if progress.exists() else PROGRESS.pack(done, 0, 0, 0, 0.0)
            at, ok, no, most, longest = PROGRESS.unpack(said)
            accepted, refused = accepted + ok, refused + no
            peak, slowest = max(peak, most), max(slowest, longest)
            out.seek(0)
            told = out.read()
            if process.returncode == 0:
                report = json.loads(told.splitlines()[-1])
                for place, (count, example) in report["tracebacks"].items():
                    broken[f"{place}, such as {example}"] += count
                broken.update(report["events"])
                done = report["last"]
            elif process.returncode == 1 or not progress.exists():
                raise SystemExit(f"{reader}: the worker itself failed with {process.returncode}\n{told}")
            else:
                broken[f"{'hung' if hung else f'died with {process.returncode}'} (case {at}): {told[-200:]!r}"] += 1
                done = at + 1
    if slowest > SLOW:
        broken[f"{slowest:.1f} s for one case"] += 1
    for what, count in broken.most_common():
        print(f"{reader}: {count} × {what}", file=sys.stderr)
    return {
        "reader": reader, "cases": cases, "seed": seed, "read": accepted, "refused": refused,
        "broken": sum(broken.values()), "slowest_ms": round(1000 * slowest, 1), "peak_mib": peak // 1024,
        "seconds": round(time.perf_counter() - began),
    }  # fmt: skip


def _wait(process: "subprocess.Popen[bytes]", progress: Path) -> bool:
    """Wait for a process; returns True if it had to be killed because one case took too long."""
    at, since = None, time.monotonic()
    while process.poll() is None:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            now = progress.read_bytes() if progress.exists() else None
            if now != at:
                at, since = now, time.monotonic()
            elif now and time.monotonic() - since > HANGS:
                process.kill()
                process.wait()
                return True
    return False


def main() -> None:
    """Read the command line, run, and write a row a reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reader", action="append", choices=[*CASES, "several"], help="may be repeated; all if left out"
    )
    parser.add_argument("--cases", type=int, help="of each reader; by default what results.csv has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a CSV file to put the readers' rows in")
    asked = parser.parse_args()
    memory = Path("/dev/shm")  # files of cases live for a millisecond
    rows = []
    for reader in asked.reader or CASES:
        cases = asked.cases or CASES.get(reader, 1000)
        row = fuzz(reader, cases, asked.seed, memory if memory.is_dir() else Path(tempfile.gettempdir()))
        rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if asked.output:
            _keep(row, asked.output)
    sys.exit(1 if any(row["broken"] for row in rows) else 0)


def _keep(row: dict[str, object], path: Path) -> None:
    old = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    rows = {r["reader"]: r for r in old} | {str(row["reader"]): row}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in CASES if name in rows)


if __name__ == "__main__":
    main()
