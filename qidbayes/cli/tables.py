"""`qidbayes tables`: which measurement tables are shipped, and what stands in them."""

import click

from qidbayes.cli.options import table_name
from qidbayes.cli.output import echo_frame, format_option


@click.command()
@click.argument("names", nargs=-1, type=table_name())
@format_option
def tables(names: tuple[str, ...], fmt: str) -> None:
    """List the shipped measurement tables, or print the rows of those named.

    NAMES are shipped tables (pythia, pythia/awq-bnb, …) or .csv and .parquet files; several are joined. What a table
    says that was probably not meant, such as perplexities for losses, is told on stderr.
    """
    # polars takes a third of a second to import, and --help must not wait for it.
    from qidbayes.law.plausibility import doubts
    from qidbayes.table import list_tables, load_table

    if not names:
        echo_frame(list_tables(), fmt, title="Measurement tables")
        return
    table = load_table(*names)
    for doubt in doubts(table.filter(status="ok")):
        click.secho(f"warning: {doubt}", err=True, fg="yellow")
    if fmt == "table":
        # A person reads the columns that say something; programs get the whole schema.
        table = table[[column.name for column in table if column.null_count() < table.height]]
    echo_frame(table, fmt, title=", ".join(names))
