"""`qidbayes advise`: how few bits keep QiD under a bound, or what to run in some memory."""

from typing import Any

import click

from qidbayes.cli.options import (
    Counts,
    Numbers,
    Sizes,
    at_option,
    ci_option,
    fit_file,
    given,
    kind_option,
    question,
    question_options,
)
from qidbayes.cli.output import echo_frame, format_option, question_first, say


@click.command()
@click.argument("fit", required=False, type=fit_file())
@click.option("--params", type=Counts(), help="Non-embedding parameters, such as 8B.")
@click.option("--memory", type=Sizes(), help="In place of --params: bytes for the quantized weights, such as 8GB,24GB.")
@click.option("--tokens", type=Counts(), help="Training tokens, such as 15T; the atlas may be asked without.")
@click.option(
    "--max-qid", type=click.FloatRange(min=0, min_open=True), help="With --params: the bound, nats per token."
)
@click.option("--prob", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95, show_default=True,
              help="With --params: with what probability QiD has to stay under the bound.")  # fmt: skip
@click.option(
    "--bits",
    type=Numbers(),
    help="Bit widths to choose from.  [default: those fitted, of the atlas 2,3,4,5,6,8; with --memory also 16]",
)
@question_options
@click.option("--loss-16bit", type=fit_file(),
              help="With --memory: a fit of a 16-bit law.  [default: the fit's own, or kaplan-16bit]")  # fmt: skip
@at_option()
@kind_option
@ci_option
@format_option
def advise(
    fit: str | None,
    params: list[float] | None,
    memory: list[float] | None,
    tokens: list[float] | None,
    max_qid: float | None,
    prob: float,
    bits: list[float] | None,
    loss_16bit: str | None,
    at: dict[str, list[float] | list[str]],
    kind: str,
    ci_prob: float,
    fmt: str,
    **named: Any,
) -> None:
    """Advise on bit widths, from a saved FIT, or from the shipped atlas if none is given.

    With --params and --max-qid: how likely QiD stays under the bound at each width, and the smallest width that is
    likely enough; exits with 1 if a model has none. With --memory: the models whose quantized weights take so many
    bytes, fewer bits with more parameters, their losses, and the chance that each is the best of them.
    """
    import polars as pl

    import qidbayes
    from qidbayes.cli.summary import readable, warn
    from qidbayes.decide.formats import UNQUANTIZED
    from qidbayes.posterior import load_fit

    if (params is None) == (memory is None):
        raise click.UsageError("give either --params or --memory")
    found, about = question(load_fit(fit or "atlas"), named, kind)
    further: dict[str, Any] = {
        **given(bits=bits),
        **about,
        **at,
        "kind": kind,
        "ci_prob": ci_prob,
    }
    if memory is not None:
        if max_qid is not None or tokens is None or len(tokens) > 1:
            raise click.UsageError("--memory goes with one count of --tokens and without --max-qid")
        base = load_fit(loss_16bit) if loss_16bit else None
        if base:
            warn(base)
        if "group_size" in further:
            further["group_size"] = int(further["group_size"])
        frame = qidbayes.pareto(found, memory=memory, tokens=tokens[0], loss_16bit=base, **further)
        title = f"Loss in nats per token of models that take the same memory ({found.law.title})"
    else:
        assert params is not None
        if max_qid is None:
            raise click.UsageError("--params goes with --max-qid, the bound on QiD")
        frame = qidbayes.advise(found, n_params=params, tokens=tokens, max_qid=max_qid, prob=prob, **further)
        title = f"QiD in nats per token, and how likely it is at most {max_qid:g} ({found.law.title})"
    warn(found, frame.filter(pl.col("bits") < UNQUANTIZED) if memory is not None else frame, kind)  # type: ignore[arg-type]
    names = ("memory", "format", "bits", "bits_per_weight") if memory is not None else ("n_params", "tokens", "bits")
    frame = question_first(frame, (*names, "n_params", "tokens", *about, *at, "prob"))
    echo_frame(readable(frame) if fmt == "table" else frame, fmt, title)
    if memory is None and frame["advised"].sum() < frame.height // frame["bits"].n_unique():
        hint = "" if bits else "; try other widths with --bits"
        say(f"no width keeps QiD of every model under {max_qid:g} with probability {prob:g}{hint}", err=True)
        raise click.exceptions.Exit(1)
