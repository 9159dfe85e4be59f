"""The tests that sample, as other processors, thread counts and seeds would run them: `make test-elsewhere`.

XLA and OpenBLAS are told to use the instructions of older processors, and every fit is given another seed. Draws of one
seed differ between processors, so a test that hangs on what one seed happens to draw fails here. A warning counts as a
failure: whoever reads a log should not have to tell those that are meant from those that are not.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SETTINGS = {
    "sse4.2": {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2", "OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "1"},
    "avx2, seeds + 1000": {
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2", "OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "1",
        "QIDBAYES_TEST_SEED_SHIFT": "1000",
    },
    "its own, two threads, seeds + 7": {"OMP_NUM_THREADS": "2", "QIDBAYES_TEST_SEED_SHIFT": "7"},
    "avx512, seeds + 31": {
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX512", "OMP_NUM_THREADS": "1", "QIDBAYES_TEST_SEED_SHIFT": "31",
    },
}  # fmt: skip
DO_NOT_SAMPLE = ["tests/measure", "tests/faults", "tests/nano", "tests/test_fuzz.py", "tests/test_dependencies.py",
                 "qidbayes/measure"]  # fmt: skip

NOT_SHIFTED = [
    "tests/score/test_backtest.py::test_processes_change_nothing",
    "tests/infer/test_program.py::test_fits_of_equal_shapes_are_those_of_a_process_that_ran_the_other_one_first",
]
"""The processes they start draw from the seeds as they are given."""


def run(name: str, processes: int, tests: list[str]) -> dict[str, object]:
    """Run the tests with the settings of that name and return how many passed, failed and warned."""
    ignored = [f"--ignore={path}" for path in DO_NOT_SAMPLE]
    if "QIDBAYES_TEST_SEED_SHIFT" in SETTINGS[name]:
        ignored += [f"--deselect={test}" for test in NOT_SHIFTED]
    asked = ["-n", str(processes), "--dist", "worksteal", "-rfE", *ignored, *tests]
    environment = {**os.environ, **SETTINGS[name]}
    done = subprocess.run([sys.executable, "-m", "pytest", *asked], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    told = done.stdout.decode()
    print(told[-4000:])
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error|warning)s?\b", told[-300:])}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", told, re.MULTILINE)
    if done.returncode and not failed:
        sys.exit(f"{name}: pytest ended with {done.returncode} and named no test")
    return {
        "settings": name,
        "passed": counts.get("passed", 0),
        "failed": len(failed),
        "warnings": counts.get("warning", 0),
        "which": " ".join(failed),
    }


def main() -> None:
    """Run each of the settings, write a row for each, and exit 1 if a test failed or warned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "results.csv")
    parser.add_argument("--settings", choices=SETTINGS, action="append", help="all of them, if not given")
    parser.add_argument("tests", nargs="*", default=["tests", "qidbayes"])
    given = parser.parse_args()
    rows = []
    for name in given.settings or SETTINGS:
        rows.append(run(name, given.processes, given.tests))
        with given.output.open("w", newline="") as file:  # as it grows: each takes minutes
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    sys.exit(any(row["failed"] or row["warnings"] for row in rows))


if __name__ == "__main__":
    main()
