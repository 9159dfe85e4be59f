"""Tables to fill in."""

import os
from collections.abc import Sequence

import polars as pl

from qidbayes.table.runs.imported import read_runs
from qidbayes.table.runs.labels import FILE


def example() -> pl.DataFrame:
    """Return a table of an example's three rows: a model in 16 bits and twice quantized.

    Examples
    --------
    >>> from qidbayes.table import read_table
    >>> read_table(example().drop("group_size")).select("method", "bits", pl.col("qid").round(3)).rows()
    [('none', 16.0, None), ('gptq', 4.0, 0.025), ('gptq', 3.0, 0.132)]
    """
    rows = [("fp16", 16, None, 5.47), ("gptq", 4, 128, 5.61), ("gptq", 3, 128, 6.24)]
    return pl.DataFrame(
        [
            {
                "suite": "example", "model": "example-7b", "revision": "", "n_params": "6.5B", "tokens": "1T",
                "method": method, "bits": bits, "group_size": group_size, "settings": "", "dataset": "wikitext2",
                "seq_len": 2048, "ppl": ppl, "source": "replace these rows by yours",
            }
            for method, bits, group_size, ppl in rows
        ]
    )  # fmt: skip


def labels(files: Sequence[str | os.PathLike[str]]) -> pl.DataFrame:
    """Return a row for each file of runs, with what it says of its run and the rest empty.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    rows = {}
    for run in read_runs(files):
        said = run.quantization
        rows[run.file] = {
            FILE: run.file, "model": run.stem or None, "revision": run.revision or None, "n_params": None,
            "tokens": None, "method": said.method or None, "bits": said.bits, "group_size": said.group_size,
            "settings": said.settings or None, "dataset": run.dataset or None, "n_eval_tokens": run.n_eval_tokens,
            "seq_len": run.seq_len,
        }  # fmt: skip
    return pl.DataFrame(list(rows.values()), infer_schema_length=None)
