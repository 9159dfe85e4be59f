"""`qidbayes summary`: what a fit found, and whether to believe it."""

from typing import TYPE_CHECKING

import click

from qidbayes.cli.options import ci_option, fit_file
from qidbayes.cli.output import caution, echo_frame, format_option, say

if TYPE_CHECKING:
    import polars as pl

    from qidbayes.posterior import Fit
    from qidbayes.posterior.fit import Kind

_HELD = ("held", "held_se")


@click.command()
@click.argument("fit", type=fit_file(), default="atlas")
@ci_option
@click.option("--published", metavar="POINT", help="A published point of the law to stand beside, such as eq8.")
@format_option
def summary(fit: str, ci_prob: float, published: str | None, fmt: str) -> None:
    """Show the parameters of a saved FIT, or of the shipped atlas, with their credible intervals and diagnostics.

    Constants are in raw counts, as papers print them; names ending in _ref are at the law's reference point.
    """
    from qidbayes.posterior import load_fit

    found = load_fit(fit)
    frame = found.summary(ci_prob, published)
    if fmt == "table":
        say(f"{found.law}\n\n{found!r}")
        frame = readable(frame)
    echo_frame(frame, fmt)
    warn(found)


def readable(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Say "not identified" in the place of an answer, and in one column how bands held; leave out what is empty."""
    import polars as pl

    if "identified" in frame.columns:
        frame = frame.select(
            pl.selectors.by_name("response", "name", "group", require_all=False),
            pl.exclude("response", "name", "group"),
        )
        answer = pl.when("identified").then(pl.col("median").map_elements("{:.4g}".format, pl.String))
        frame = frame.with_columns(answer.otherwise(pl.lit("not identified")).alias("median")).drop("identified")
    if "held_of" in frame.columns:
        counts = ("held_of", "held_checkpoints", "held_runs")
        of = pl.format("of {} points of {} checkpoints of {} runs", *counts)
        parts = [pl.col(name).map_elements("{:.2f}".format, pl.String) for name in _HELD if name in frame.columns]
        share = pl.format("{} ± {} ", *parts) if parts else pl.lit("")
        told = pl.when(pl.col("held_of") > 0).then(share.fill_null("") + of)
        frame = frame.with_columns(told.alias("held")).drop(*_HELD[1:], *counts, strict=False)
    return frame.select(column.name for column in frame if column.null_count() < frame.height)


def warn(fit: "Fit", frame: "pl.DataFrame | None" = None, kind: "Kind" = "response") -> None:
    """Say on stderr which of a fit's checks failed, what its data do not identify, and what these questions rest on."""
    for problem in fit.diagnostics.problems():
        say(f"FAILED: {problem}", err=True, fg="red")
    for remark in [*fit.diagnostics.remarks(), *(fit.cautions(frame, kind) if frame is not None else ())]:
        caution(remark)
