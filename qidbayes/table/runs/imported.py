"""Files of lm-eval and llama.cpp to one measurement table."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from qidbayes.errors import InputError, TableWarning
from qidbayes.methods import NONE
from qidbayes.model_names import read_name
from qidbayes.table.join import join_named
from qidbayes.table.problems import refuse
from qidbayes.table.read import SUFFIXES as TABLE_SUFFIXES
from qidbayes.table.read import validate_file
from qidbayes.table.runs import llama_cpp, lm_eval
from qidbayes.table.runs.labels import OF_RUN, QUANTIZER, Labels, read_labels
from qidbayes.table.runs.pairing import Paired, pair
from qidbayes.table.runs.rows import as_table, by_context, some, without_repetitions
from qidbayes.table.runs.run import Run
from qidbayes.table.runs.tokens import counted, in_nats, open_tokenizer, refuse_uncounted

SUFFIXES = (".json", ".log", ".txt", ".out", ".err", ".md")
"""Of files that hold runs."""
_IN_FOLDERS = ("results*.json", "*.log")


@dataclass(frozen=True)
class Imported:
    """A table of runs.

    Attributes
    ----------
    table
        The measurement table.
    left_out
        A sentence for each run that is no row of it.
    assumed
        What was taken for granted, a sentence each.
    """

    table: pl.DataFrame
    left_out: tuple[str, ...]
    assumed: tuple[str, ...]


def import_runs(
    files: Sequence[str | os.PathLike[str]],
    values: Mapping[str, Any],
    labels: pl.DataFrame | None = None,
    tokenizer: Path | None = None,
    where: str = "runs",
) -> Imported:
    """Return the measurement table of runs that other programs wrote.

    Parameters
    ----------
    files
        lm-eval's ``results_….json``, llama-perplexity's logs, and folders of them. Tables are joined to what comes of
        these; values stand in for columns that they lack.
    values, labels
        What the files do not say; see `read_labels`.
    tokenizer
        A ``tokenizer.json``, or the folder of one, to count lm-eval's texts in tokens.
    where
        What messages call the table; its stem is the suite, if no value says another.

    Raises
    ------
    InputError
        If a file cannot be read, nothing in them can be a row, or something is missing that a table has to say.
    """
    tables = [file for file in map(Path, files) if file.suffix.lower() in TABLE_SUFFIXES]
    others = [file for file in map(Path, files) if file not in tables]
    said = read_labels(values, labels, "labels")
    if tables:
        given = [(str(file), validate_file(file, said.of_all)) for file in tables]
        found = import_runs(others, values, labels, tokenizer, where) if others else Imported(given[0][1], (), ())
        return replace(found, table=join_named([*given, *([(where, found.table)] if others else [])]))
    runs = [_labelled(run, said) for run in read_runs(others)]
    if tokenizer is not None:
        opened = open_tokenizer(tokenizer)
        runs = [counted(run, opened) if run.bits_per_byte and not run.n_eval_tokens else run for run in runs]
    _refuse_one_length(runs, said)
    runs = [in_nats(run) for run in runs]
    refuse_uncounted(runs)
    paired = pair(runs)
    if not any(run.qid is not None for run in paired.runs):
        refuse(
            where, [*paired.left_out, "no run can be compared with a 16-bit run of the same model, text and context"]
        )
    assumed = _assumed(paired)
    rows, dropped = without_repetitions(paired.runs)
    rows, told_apart = by_context(rows)
    assumed += told_apart
    table = as_table(rows, said, where)
    unknown = table.filter(pl.col("tokens").is_null())["model"].unique(maintain_order=True).to_list()
    if unknown:
        assumed.append(f"training tokens are not known of {some(unknown)}: laws with D need them")
    return Imported(table, (*paired.left_out, *dropped), tuple(assumed))


def warn(found: Imported) -> pl.DataFrame:
    """Return the table, with a warning for what was left out and one for what was taken for granted."""
    for text in (*(("left out: " + "; ".join(found.left_out),) if found.left_out else ()), *found.assumed):
        warnings.warn(text, TableWarning, skip_file_prefixes=(str(Path(__file__).parents[2]),))
    return found.table


def read_runs(files: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Return the runs of files and folders, in their order.

    Raises
    ------
    InputError
        If one cannot be read, or a folder holds none.
    """
    paths: list[Path] = []
    for file in map(Path, files):
        try:
            inside = sorted({p for name in _IN_FOLDERS for p in file.rglob(name)}) if file.is_dir() else [file]
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror})") from error
        if not inside:
            raise InputError(f"{file}: holds no {' and no '.join(_IN_FOLDERS)}; name the files")
        paths += inside
    return [run for path in dict.fromkeys(paths) for run in _read(path)]


def _read(path: Path) -> list[Run]:
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file; give lm-eval's results_….json or a log of llama-perplexity")
        if path.suffix.lower() == ".json":
            return lm_eval.read_results(path)
        if path.suffix.lower() == ".jsonl":
            raise InputError(f"{path}: samples are read with the results_….json beside them; give that")
        return llama_cpp.read_log(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({error})") from error


def _labelled(run: Run, said: Labels) -> Run:
    """Return a run with what a user says of it in the place of what its file says."""
    given = said.of(run.file)
    if not (run.model or "model" in given):
        raise InputError(f"{run.file}: names no model (config, model_args); name it in a table of labels")
    # What is said of all runs of their quantizer is not said of the 16-bit ones.
    of_quantizer = said.of_one(run.file) if run.quantization.method == NONE else given
    told = {name: of_quantizer[name] for name in QUANTIZER if name in of_quantizer}
    return replace(
        run,
        **{name: given[name] for name in OF_RUN if name in given},
        stem=read_name(given["model"])[0] if "model" in given else run.stem,
        quantization=replace(run.quantization, **told),
    )


def _assumed(paired: Paired) -> list[str]:
    found = []
    silent = [run.file for run in paired.runs if run.quantization.method == NONE and not _says_16_bits(run)]
    if silent:
        found.append(f"taken as 16-bit runs, since nothing says otherwise: {some(silent)}")
    compared = []
    for run in paired.runs:
        if run.qid is not None and run.loss is None:
            base = run.base.replace("\\", "/").rpartition("/")[2]
            said = read_name(base)[1].method
            if said in ("", NONE):
                compared.append(run.file)
            else:
                found.append(f"{run.file}: {run.model} was compared with {base}, which is {said}: QiD is from there")
    if compared:
        found.append(f"the base model of a KL-divergence log is taken to be the 16-bit one: {some(compared)}")
    return found


def _says_16_bits(run: Run) -> bool:
    return read_name(run.model)[1].method == NONE or run.program.startswith("llama.cpp")


def _refuse_one_length(runs: Sequence[Run], said: Labels) -> None:
    texts = list(dict.fromkeys(run.dataset for run in runs if run.bits_per_byte is not None))
    for column in ("n_eval_tokens", "n_eval_bytes"):
        if column in said.of_all and len(texts) > 1:
            raise InputError(
                f"{column}: one value for {len(texts)} texts ({some(texts)}); import one after the other, or give the "
                "model's tokenizer.json, by which each is counted"
            )
