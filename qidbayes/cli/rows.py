"""Which rows of its tables a command uses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from qidbayes.cli.options import Numbers, options

if TYPE_CHECKING:
    import polars as pl

row_options = options(
    click.option("--method", multiple=True, help="Use only rows of this method; may be repeated."),
    click.option("--bits", type=Numbers(), help="Use only rows of these bit widths, such as 2,3,4."),
    click.option("--dataset", multiple=True, help="Use only rows of this evaluation set; may be repeated."),
)
"""The parameters that `only` takes."""


def only(
    table: "pl.DataFrame", method: Sequence[str], bits: Sequence[float] | None, dataset: Sequence[str]
) -> "pl.DataFrame":
    """Return the rows that were asked for, all of what was not named.

    Raises
    ------
    InputError
        If there are none.
    """
    import polars as pl

    from qidbayes.errors import InputError
    from qidbayes.table.question import as_in_tables

    for column, given in (("method", method), ("bits", bits), ("dataset", dataset)):
        if given:
            held = sorted(table[column].unique())
            wanted = as_in_tables(pl.DataFrame({column: given}))[column].to_list()
            table = table.filter(pl.col(column).is_in(wanted))
            if table.is_empty():
                raise InputError(
                    f"--{column}: no row has {', '.join(map(str, wanted))}; there are {', '.join(map(str, held))}"
                )
    return table
