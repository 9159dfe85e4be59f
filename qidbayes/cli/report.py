"""`qidbayes report`: saved fits as one HTML page."""

from pathlib import Path

import click

from qidbayes.cli.options import ci_option
from qidbayes.cli.output import say


@click.command()
@click.argument("fits", metavar="[FIT]...", nargs=-1, type=click.Path())
@click.option("-o", "--output", type=click.Path(path_type=Path), default="report.html", show_default=True,
              help="The page.")  # fmt: skip
@ci_option
def report(fits: tuple[str, ...], output: Path, ci_prob: float) -> None:
    """Write each saved FIT, or the shipped atlas, into one HTML page: what was fitted on what, posterior, diagnostics,
    figures, tables, and sliders of N, D and P with the band of a new checkpoint. The page needs no network.
    """
    import qidbayes
    from qidbayes.cli.summary import warn
    from qidbayes.posterior import load_fit

    loaded = [load_fit(fit) for fit in fits or ("atlas",)]
    for found in loaded:
        warn(found)
    qidbayes.report(loaded, output, ci_prob=ci_prob)
    say(f"written to {output}", err=True)
