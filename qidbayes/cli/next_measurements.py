"""`qidbayes next-measurements`: which cells of a plan to measure next."""

from pathlib import Path
from typing import Any

import click

from qidbayes.cli.options import Counts, at_option, fit_file, given, kind_option, question, question_options
from qidbayes.cli.output import echo_frame, format_option


@click.command()
@click.argument("files", metavar="[FIT] PLAN...", nargs=-1, required=True, type=fit_file(path_type=Path))
@click.option("--params", type=Counts(), required=True, help="The answer: QiD of a model of this size, such as 70B …")
@click.option("--bits", type=click.FloatRange(min=0, min_open=True), help="… quantized to so many bits …")
@click.option("--tokens", type=Counts(), help="… trained on so many tokens, such as 15T;")
@click.option("--qid", type=click.FloatRange(min=0, min_open=True), help="or the tokens that reach this QiD.")
@question_options
@click.option("--picks", type=click.IntRange(min=1), default=5, show_default=True, help="How many cells.")
@at_option()
@kind_option
@format_option
def next_measurements(
    files: tuple[Path, ...],
    params: list[float],
    bits: float | None,
    tokens: list[float] | None,
    qid: float | None,
    picks: int,
    at: dict[str, list[float] | list[str]],
    kind: str,
    fmt: str,
    **named: Any,
) -> None:
    """Pick the cells of each PLAN, not measured yet, that narrow an answer of FIT most per GPU-second.

    A PLAN is a TOML file, or the name of a shipped one; without a FIT the shipped atlas is asked. `sd` is the standard
    deviation of the answer's logarithm that is expected when the picks so far have been measured, `variance_left` the
    share of the variance it has now.
    """
    import polars as pl

    import qidbayes
    from qidbayes.cli.measure import plan_file
    from qidbayes.cli.summary import warn
    from qidbayes.measure import load_plan
    from qidbayes.measure.plan.cells import planned_cells
    from qidbayes.posterior import load_fit

    if len(params) > 1 or (tokens and len(tokens) > 1) or any(len(values) > 1 for values in at.values()):
        raise click.UsageError("next-measurements narrows one answer: give one of --params, --tokens and each --at")
    plans = list(files)
    fit = "atlas" if plan_file(files[0]).suffix == ".toml" else str(plans.pop(0))
    if not plans:
        raise click.UsageError("give a PLAN after FIT: a .toml file, or the name of a shipped one")
    found, about = question(load_fit(fit), named, kind)
    if several := [name for name, value in about.items() if isinstance(value, list)]:
        raise click.UsageError(f"next-measurements narrows one answer: give one of --{several[0].replace('_', '-')}")
    cells = pl.concat([planned_cells(load_plan(plan_file(plan))) for plan in plans])
    asked: dict[str, Any] = {
        **given(bits=bits, qid=qid),
        **about,
        **{name: values[0] for name, values in at.items()},
    }
    asked |= {"tokens": tokens[0]} if tokens else {}
    frame = qidbayes.next_measurements(found, cells, n_params=params[0], picks=picks, **asked, kind=kind)  # type: ignore[arg-type]
    warn(found, pl.DataFrame({"n_params": params, **asked}), kind)  # type: ignore[arg-type]
    what = "log QiD" if tokens else "log tokens"
    echo_frame(frame, fmt, f"What to measure next for {what}; seconds on one H200 ({found.law.title})")
