"""Walk with a table from `fit` to the first density: `python checks/walk.py [TABLE [LAW]]`.

Printed is a line for each stay: the file, and its functions that are handed the rows (a frame, a column, an array of as
many rows, or what the fit has made of them). A file that is entered again is a return: few of them are easy to follow.
"""

import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.infer import collapsed, fit, independent, threads  # noqa: F401 (imported before the walk begins)

ROOT = Path(qb.__file__).parent
MADE_OF_ROWS = ("Partition", "Fitted", "Problems")


class Arrived(Exception):  # noqa: N818 (no error)
    """The density is worked out from here on, in threads."""


def walk(table: pl.DataFrame, law: str) -> list[tuple[str, str]]:
    """Return the file and the function of each call that is handed the rows, up to the density."""
    trail: list[tuple[str, str]] = []

    def holds(value: Any) -> bool:
        if isinstance(value, pl.DataFrame | pl.Series):
            return len(value) == table.height
        if isinstance(value, np.ndarray):
            return table.height in value.shape
        return type(value).__module__.startswith("qidbayes.infer") or type(value).__name__ in MADE_OF_ROWS

    def called(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(ROOT)) or code.co_name.startswith("<"):
            return
        if code.co_filename == threads.__file__:
            raise Arrived
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(holds(frame.f_locals.get(name)) for name in given):
            trail.append((str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    sys.setprofile(called)
    try:
        qb.fit(table, law, random_seed=0, progress=False)
    except Arrived:
        pass
    finally:
        sys.setprofile(None)
    return trail


def main(name: str = "pythia", law: str = "unified") -> None:
    """Print the walk and its length."""
    stays = [
        (file, Counter(f for _, f in calls)) for file, calls in groupby(walk(qb.load_table(name), law), lambda c: c[0])
    ]
    files = [file for file, _ in stays]
    folders = [folder for folder, _ in groupby(file.rpartition("/")[0] for file in files)]
    for file, functions in stays:
        print(f"{file:28}", ", ".join(f"{name} × {n}" if n > 1 else name for name, n in functions.items()))
    print(f"{len(set(files))} files, {len(files) - len(set(files))} returns", end="; ")
    print(f"{len(set(folders))} folders, {len(folders) - len(set(folders))} returns")


if __name__ == "__main__":
    main(*sys.argv[1:])
