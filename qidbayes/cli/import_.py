"""`qidbayes import`: runs of lm-eval and llama.cpp, and perplexities, as a measurement table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qidbayes.cli.output import caution, say

if TYPE_CHECKING:
    import polars as pl


def _values(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        column, equals, value = text.partition("=")
        if not (column and equals and value):
            raise click.BadParameter(f"{text!r} is not a column and its value, such as n_params=6.5B", ctx, param)
        if column in found:
            raise click.BadParameter(f"{column} is given twice", ctx, param)
        found[column] = value
    return found


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table: .parquet or .csv.")
@click.option("--set", "values", multiple=True, metavar="COLUMN=VALUE", callback=_values,
              help="What holds for all runs, such as n_params=6.5B or tokens=2T; may be repeated.")  # fmt: skip
@click.option("--labels", type=click.Path(path_type=Path),
              help="A table with a row for a file: `qidbayes template FILE...` writes one to fill in.")  # fmt: skip
@click.option("--tokenizer", type=click.Path(path_type=Path),
              help="A tokenizer.json, or its folder, to count lm-eval's texts in tokens.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite another table.")
def import_(
    files: tuple[Path, ...],
    output: Path,
    values: dict[str, str],
    labels: Path | None,
    tokenizer: Path | None,
    force: bool,
) -> None:
    """Make a measurement table of runs of other programs.

    FILE is a results_….json of lm-eval, a log of llama.cpp's llama-perplexity (with --kl-divergence or without), a
    table with perplexities, or a folder of such files. With lm-eval's samples beside the results, errors are paired.
    Runs before and after quantization are paired by model, revision, data set and context.

    Exits with 1 if runs were left out, which stderr names; the table is written all the same.
    """
    from qidbayes.table import write_table
    from qidbayes.table.read import check_suffix, read_raw
    from qidbayes.table.runs.imported import import_runs

    check_suffix(output)
    found = import_runs(files, values, None if labels is None else read_raw(labels), tokenizer, str(output))
    if not force:
        _keep_another(output, found.table)
    write_table(found.table, output)
    for assumption in found.assumed:
        caution(assumption)
    for run in found.left_out:
        say(f"left out: {run}", err=True)
    pairs = int((found.table["method"] != "none").sum())
    say(f"{output}: {found.table.height} rows, {pairs} of them quantized", err=True)
    sys.exit(1 if found.left_out else 0)


def _keep_another(path: Path, table: "pl.DataFrame") -> None:
    from qidbayes.errors import InputError
    from qidbayes.table import table_hash
    from qidbayes.table.read import read_file

    if path.exists():
        try:
            same = table_hash(read_file(path)) == table_hash(table)
        except InputError:
            same = False
        if not same:
            raise InputError(f"{path}: holds something else; choose another --output, or overwrite it with --force")
