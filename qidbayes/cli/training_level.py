"""`qidbayes training-level`: how far a model is trained, from what quantization costs it."""

import warnings
from typing import Any

import click

from qidbayes.cli.options import Counts, Numbers, at_option, ci_option, fit_file, given, question, question_options
from qidbayes.cli.output import echo_frame, format_option, question_first, say


@click.command("training-level")
@click.argument("fit", required=False, type=fit_file())
@click.option("--qid", type=Numbers(), required=True, help="Measured QiD, nats per token; several of one checkpoint.")
@click.option("--qid-se", type=Numbers(), help="Its standard error; one for each QiD, or one for all.")
@click.option("--params", type=Counts(), help="Non-embedding parameters, such as 7B.")
@click.option("--bits", type=Numbers(), help="Bit width; one for each QiD, or one for all.")
@question_options
@click.option("--between", type=Counts(), default="1M,1000T", show_default=True,
              help="The ends of the prior, which is flat in log tokens.")  # fmt: skip
@at_option(answer="tokens")
@ci_option
@format_option
def training_level(
    fit: str | None,
    qid: list[float],
    qid_se: list[float] | None,
    params: list[float] | None,
    bits: list[float] | None,
    between: list[float],
    at: dict[str, list[float] | list[str]],
    ci_prob: float,
    fmt: str,
    **named: Any,
) -> None:
    """Tokens a model was trained on, from QiDs measured of one checkpoint, by a saved FIT or the shipped atlas.

    Several measurements of the checkpoint (bit widths, methods) are taken together; what they share is not counted
    twice. The prior is flat in log tokens between two ends.
    """
    from qidbayes.cli.summary import warn
    from qidbayes.errors import UnfittedWarning
    from qidbayes.posterior import load_fit
    from qidbayes.posterior.training_level import PriorEdgeWarning, measurements

    if len(between) != 2:
        raise click.UsageError("--between takes two counts, such as 1B,100T")
    found, about = question(load_fit(fit or "atlas"), named)
    values = given(n_params=params, bits=bits, **about, **at)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", PriorEdgeWarning)
        frame = found.training_level(qid, qid_se=qid_se, between=(between[0], between[1]), ci_prob=ci_prob, **values)
    warn(found, measurements(qid, qid_se, values))
    for warning in told:
        if issubclass(warning.category, PriorEdgeWarning | UnfittedWarning):
            say(f"warning: {warning.message}", err=True, fg="yellow")
    frame = question_first(frame, values)
    title = f"Tokens the model was trained on ({found.law.title})"
    echo_frame(frame, fmt, title, counts=("median", "lower", "upper"))
