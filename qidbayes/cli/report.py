"""`qidbayes report`: saved fits as one HTML page."""

from pathlib import Path

import click

from qidbayes.cli.options import ci_option, fit_file
from qidbayes.cli.output import say


@click.command()
@click.argument("fits", metavar="[FIT]...", nargs=-1, type=fit_file())
@click.option("-o", "--output", type=click.Path(path_type=Path), default="report.html", show_default=True,
              help="The page.")  # fmt: skip
@click.option("--title", help="What the page is called.  [default: the laws, and what they were fitted to]")
@ci_option
def report(fits: tuple[str, ...], output: Path, title: str | None, ci_prob: float) -> None:
    """Write each saved FIT, or the shipped atlas, into one HTML page that needs no network.

    It has sliders of N, D and P with the band of a new checkpoint, figures, and tables. It also says what was fitted to
    what, and shows the posterior and its diagnostics.
    """
    from qidbayes.cli.progress import sampling
    from qidbayes.cli.summary import warn

    with sampling("writing", "reading the fits") as progress:
        from qidbayes.posterior import load_fit
        from qidbayes.reports.report import report as write

        loaded = [load_fit(fit) for fit in fits or ("atlas",)]
        for found in loaded:
            warn(found)
        write(loaded, output, ci_prob=ci_prob, title=title, progress=progress)
    say(f"written to {output}", err=True)
