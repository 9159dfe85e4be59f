"""Say where a committed table comes from: `python checks/provenance.py COMMAND TABLE…` after the command has made it.

`checks/provenance.csv` has a row for each table of `benchmarks/` and `checks/`: the command, the commit and version of
the code, the date, the machine, and the table's SHA-256, so that a table made anew without its row is found by a test.
"""

import csv
import datetime
import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "checks" / "provenance.csv"
COLUMNS = ("table", "command", "commit", "version", "date", "machine", "sha256")


def machine() -> str:
    """Return the processor's name and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def commit() -> str:
    """Return the commit the working tree is at, with a plus sign where tracked files were changed since."""
    found = subprocess.check_output(["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, text=True)
    return found.strip()


def sha256(table: Path) -> str:
    """Return the digest of a table's bytes."""
    return hashlib.sha256(table.read_bytes()).hexdigest()


def rows() -> dict[str, dict[str, str]]:
    """Return what is known of each table, by its path from the root."""
    with TABLE.open(newline="") as file:
        return {row["table"]: row for row in csv.DictReader(file)}


def record(command: str, tables: list[Path]) -> None:
    """Write that the command has just made these tables here."""
    known = rows() if TABLE.exists() else {}
    for table in tables:
        name = table.resolve().relative_to(ROOT).as_posix()
        known[name] = {
            "table": name,
            "command": command,
            "commit": commit(),
            "version": version("qidbayes"),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine(),
            "sha256": sha256(table),
        }
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(known[name] for name in sorted(known))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python checks/provenance.py COMMAND TABLE…")
    record(sys.argv[1], [Path(table) for table in sys.argv[2:]])
