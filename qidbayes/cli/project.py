"""`qidbayes project`: QiD far beyond the data, with bands."""

from typing import Any

import click

from qidbayes.cli.options import (
    Counts,
    Numbers,
    asked,
    at_option,
    ci_option,
    fit_file,
    given,
    kind_option,
    question,
    question_options,
    source_arguments,
)
from qidbayes.cli.output import caution, echo_frame, format_option, question_first
from qidbayes.law.law import RESPONSES


@click.command()
@source_arguments
@click.option("--tokens", type=Counts(), help="Training tokens, such as 15T,100T.  [default: 100T, the far end]")
@click.option("--params", type=Counts(), help="Non-embedding parameters, such as 7B,70B.  [default: 7B,70B,405B]")
@click.option("--bits", type=Numbers(), help="Bit widths, such as 2,3,4 or 2-4.  [default: 2,3,4]")
@question_options
@click.option(
    "--response",
    type=click.Choice(["qid", "loss_16bit", "loss"]),
    help="Band of another response, of a fit of law joint or of a law of the loss: `loss` is the quantized model's.",
)
@click.option(
    "--loss-16bit",
    type=fit_file(),
    help="A fit of a 16-bit law.  [default: the fit's own, or kaplan-16bit as published, scaled to the table's losses]",
)
@click.option("--vocabulary", type=click.IntRange(min=2),
              help="Its size: random guessing has the loss ln(vocabulary).  [default: 128256, Llama 3's]")  # fmt: skip
@at_option()
@kind_option
@ci_option
@format_option
def project(
    fit: str | None,
    published: str | None,
    tokens: list[float] | None,
    params: list[float] | None,
    bits: list[float] | None,
    response: str | None,
    loss_16bit: str | None,
    vocabulary: int | None,
    at: dict[str, list[float] | list[str]],
    kind: str,
    ci_prob: float,
    fmt: str,
    **named: Any,
) -> None:
    """Project QiD to more tokens and larger models, from a saved FIT (the shipped atlas if none is given) or
    from published constants.

    `worse_than_random` is the share of draws in which the quantized model's loss is above that of random guessing.
    `n_params_beyond`, `tokens_beyond` and `bits_beyond` are the factors by which the question lies outside the data.
    `not_fitted` names a suite or method that no fitted row has. If the fit carries a backtest (`qidbayes backtest
    --fit`), `held` is the share of held-out points as far outside that such bands held, with its standard error over
    runs. It is empty for fewer than 10 checkpoints or 3 runs. Where training is more than twice as long as any that
    was fitted, `walk_lower` and `walk_upper` are the band of a fit whose slopes wander: the default's slopes return.
    """
    from qidbayes.cli.summary import readable, warn
    from qidbayes.cli.wandering import beside
    from qidbayes.posterior import Fit, load_fit
    from qidbayes.posterior.assumed import FAR_END, at_the_far_end
    from qidbayes.posterior.query import needs

    source, about = question(asked(fit, published), named, kind)
    if response and not isinstance(source, Fit):
        raise click.UsageError("--response is asked of a saved FIT; published constants answer with their own")
    needed = needs(source.law)
    if params is None and "n_params" in needed:
        params = [7e9, 70e9, 405e9]
    if bits is None and "bits" in needed and response != "loss_16bit":
        bits = [2.0, 3.0, 4.0]
    if tokens is None and "tokens" in needed:
        tokens = [FAR_END]
        caution(at_the_far_end())
    values = given(n_params=params, tokens=tokens, bits=bits, **about, **at)
    if response and isinstance(source, Fit):
        frame = source.predict(response=response, kind=kind, ci_prob=ci_prob, **values)  # type: ignore[arg-type]
    elif isinstance(source, Fit) and source.law.response == "qid":
        base = load_fit(loss_16bit) if loss_16bit else None
        if base:
            warn(base)
        frame = source.project(loss_16bit=base, vocabulary=vocabulary, kind=kind, ci_prob=ci_prob, **values)  # type: ignore[arg-type]
        if kind == "response":
            frame = beside(source, frame, "predict", {"ci_prob": ci_prob, **values})
    else:
        frame = source.predict(kind=kind, ci_prob=ci_prob, **values)  # type: ignore[arg-type]
    if isinstance(source, Fit):
        warn(source, frame, kind)  # type: ignore[arg-type]
    frame = question_first(frame, values)
    what = {**RESPONSES, "loss": "Quantized loss"}[response or source.law.response]
    echo_frame(readable(frame) if fmt == "table" else frame, fmt, f"{what}, nats per token ({source.law.title})")
