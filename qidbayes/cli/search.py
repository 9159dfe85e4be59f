"""`qidbayes search`: a law's form, searched for in a small grammar."""

import click

from qidbayes.cli.options import table_name
from qidbayes.cli.output import echo_frame, format_option, say
from qidbayes.cli.rows import only, row_options

_SHOWN = 8


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=table_name())
@click.option("--column", multiple=True, metavar="NAME", help="A further column of numbers; may be repeated.")
@row_options
@format_option
def search(
    tables: tuple[str, ...],
    column: tuple[str, ...],
    method: tuple[str, ...],
    bits: list[float] | None,
    dataset: tuple[str, ...],
    fmt: str,
) -> None:
    """Search for a law of QiD that says more of held-out runs than Eq. 8 does.

    Forms are products of powers, logarithms and exponentials of N, D, P and further columns, and Eq. 8 plus one of
    them. Each run of the TABLE is held out in turn. `log_density` is in nats a held-out row. Half of the
    runs choose a form, and the others judge it: what so many looks bring by luck is not in the last line.
    """
    from qidbayes.cli.progress import sampling

    with sampling("searching", "reading the table") as progress:
        from qidbayes.score.search import LEVEL
        from qidbayes.score.search import search as run
        from qidbayes.table import load_table

        table = only(load_table(*tables), method, bits, dataset)
        found = run(table, column, progress=progress)
    shown = found.table if fmt != "table" else found.table.head(_SHOWN)
    echo_frame(shown, fmt, f"Forms by {found.runs} runs that were held out, the best of {found.table.height}")
    if found.left_out:
        say(f"left out: {found.left_out} rows whose QiD is not above 0, or a fifth noise and more", err=True)
    say(f"better than unified: {found.better}" if found.better else "no better than unified", err=True)
    say(f"what half of the runs choose is {found.ahead:+.3f} nats a row ahead of Eq. 8 on the other half "
        f"(p = {found.p_value:.2g}, of which below {LEVEL:g} counts)", err=True)  # fmt: skip
