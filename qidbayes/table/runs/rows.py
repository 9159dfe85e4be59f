"""Runs to the rows of a measurement table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from qidbayes.errors import InputError
from qidbayes.methods import NONE
from qidbayes.table.catalogue import shipped_sizes
from qidbayes.table.runs.labels import OF_RUN, QUANTIZER, Labels
from qidbayes.table.runs.run import Run
from qidbayes.table.schema import validate

_ALWAYS = ("n_params", "tokens")
_SHOWN = 5
_PRINTED = 1e-4
"""Two runs that differ by less, in nats, may differ in the digits that were printed alone."""


def without_repetitions(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Leave out what a run before says too, and a perplexity where a comparison of the same quantization says more."""
    first: dict[tuple[object, ...], Run] = {}
    for run in sorted(runs, key=lambda run: run.loss is not None):  # comparisons come first
        first.setdefault(_identity(run), run)
    told = []
    for run in runs:
        taken = first[_identity(run)]
        if taken is not run:
            told.append(f"{run.file}: {taken.file} {_instead(run, taken)}")
    return [run for run in runs if first[_identity(run)] is run], told


def _instead(run: Run, taken: Run) -> str:
    kind, mine, theirs = ("QiD", run.qid, taken.qid) if taken.loss is None else ("loss", run.loss, taken.loss)
    alike = (run.loss is None) == (taken.loss is None)  # a perplexity beside a comparison is rounded
    if alike and mine is not None and theirs is not None and abs(mine - theirs) > _PRINTED:
        return (
            f"has another {kind} of what is called the same ({theirs:g} against {mine:g}) and is taken; tell them "
            "apart in a table of labels, by settings"
        )
    return "compares the same with its base, token by token" if taken.loss is None else "says the same and is taken"


def _identity(run: Run) -> tuple[object, ...]:
    q = run.quantization
    return (run.stem.lower(), run.revision, q.method, q.bits, q.group_size, q.settings, run.dataset, run.seq_len)


def by_context(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Tell data sets apart by context where one was evaluated in several: a table's cells do not know of it."""
    contexts: dict[tuple[object, ...], set[int | None]] = {}
    for run in runs:
        contexts.setdefault(_identity(run)[:-1], set()).add(run.seq_len)
    several = {run.dataset for run in runs if len(contexts[_identity(run)[:-1]]) > 1}
    found = [
        replace(run, dataset=f"{run.dataset or 'unspecified'}-ctx{run.seq_len}") if run.dataset in several else run
        for run in runs
    ]
    named = ", ".join(sorted(name or "unspecified" for name in several))
    return found, [f"evaluated in several contexts, and told apart by -ctx in its name: {named}"] if several else []


def as_table(runs: Sequence[Run], said: Labels, where: str) -> pl.DataFrame:
    """Return the table of paired runs, with what labels say besides.

    Raises
    ------
    InputError
        If nobody says how large a model is, or one size is said of several.
    """
    sizes = shipped_sizes()
    # A model is called as its 16-bit run's repository, else by what is left of its file's name.
    names = {run.stem.lower(): run.model for run in reversed(runs) if run.quantization.method == NONE}
    names = {stem: name for stem, name in names.items() if "/" in name}
    rows = []
    for run in runs:
        model = said.of(run.file).get("model") or names.get(run.stem.lower()) or run.stem or run.model
        own = {
            "model": model, "revision": run.revision, "n_params": sizes.get(model.rpartition("/")[2].lower()),
            "tokens": None, **vars(run.quantization), "dataset": run.dataset, "n_eval_tokens": run.n_eval_tokens,
            "seq_len": run.seq_len, "loss_16bit": run.loss if run.qid is None else run.loss_16bit, "qid": run.qid,
            "qid_se": run.qid_se, "source": f"{run.program}, {Path(run.file).name}", **run.further,
        }  # fmt: skip
        given = said.of(run.file)
        rows.append(own | {name: value for name, value in given.items() if name not in (*OF_RUN, *QUANTIZER)})
    _refuse_unsized(rows, said)
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    empty = [c.name for c in frame if c.null_count() == c.len() and c.name not in _ALWAYS]
    return validate(frame.drop(empty), where)


def _refuse_unsized(rows: Sequence[Mapping[str, Any]], said: Labels) -> None:
    models = list(dict.fromkeys(row["model"] for row in rows))
    for column in ("n_params", "tokens"):
        if column in said.of_all and len(models) > 1:
            raise InputError(
                f"{column}: one value for {len(models)} models ({some(models)}); give a table of labels with "
                f"the columns file and {column}"
            )
    unsized = list(dict.fromkeys(row["model"] for row in rows if row["n_params"] is None))
    if unsized:
        raise InputError(
            f"n_params: nobody says how many non-embedding parameters {some(unsized)} has; give n_params "
            "(--set n_params=6.5B), which `qidbayes params` counts from a config.json"
        )


def some(names: Sequence[str]) -> str:
    """Return a few of some names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
