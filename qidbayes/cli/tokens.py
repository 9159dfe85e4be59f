"""`qidbayes tokens`: the paper's Table 1 with intervals."""

from typing import Any

import click

from qidbayes.cli.options import (
    Counts,
    Numbers,
    asked,
    at_option,
    ci_option,
    given,
    kind_option,
    question,
    question_options,
    source_arguments,
)
from qidbayes.cli.output import echo_frame, format_option, question_first


@click.command()
@source_arguments
@click.option("--qid", type=Numbers(), default="0.2,0.3,0.4,0.5", show_default=True, help="Thresholds, nats per token.")
@click.option("--params", type=Counts(), help="Non-embedding parameters, such as 7B,70B.  [default: 1B,7B,70B,405B]")
@click.option("--bits", type=Numbers(), help="Bit widths, such as 2,3,4 or 2-4.  [default: 2,3,4]")
@question_options
@at_option(answer="tokens")
@kind_option
@ci_option
@format_option
def tokens(
    fit: str | None,
    published: str | None,
    qid: list[float],
    params: list[float] | None,
    bits: list[float] | None,
    at: dict[str, list[float] | list[str]],
    kind: str,
    ci_prob: float,
    fmt: str,
    **named: Any,
) -> None:
    """Training tokens at which QiD reaches a threshold, from a saved FIT (the shipped atlas if none is given) or from
    published constants.

    `never` is the share of draws whose curve never rises to the threshold; they count as infinite. A table writes
    answers beyond 1,000T tokens as ">1,000T", since nobody trains on so many; JSON and CSV have the numbers. Of
    trainings more than twice as long as any that was fitted, `walk_lower` and `walk_upper` are those of a fit whose
    slopes wander.
    """
    from qidbayes.cli.summary import readable, warn
    from qidbayes.cli.wandering import beside
    from qidbayes.posterior import Fit
    from qidbayes.posterior.query import needs

    source, about = question(asked(fit, published), named, kind)
    needed = needs(source.law, "tokens")
    if params is None and "n_params" in needed:
        params = [1e9, 7e9, 70e9, 405e9]
    if bits is None and "bits" in needed:
        bits = [2.0, 3.0, 4.0]
    values = given(n_params=params, bits=bits, **about, **at)
    frame = source.tokens_to_threshold(qid, kind=kind, ci_prob=ci_prob, **values)  # type: ignore[arg-type]
    if isinstance(source, Fit):
        if kind == "response":
            frame = beside(source, frame, "tokens_to_threshold", {"qid": qid, "ci_prob": ci_prob, **values})
        warn(source, frame.drop("tokens", "walk_lower", "walk_upper", strict=False), kind)  # type: ignore[arg-type]
    frame = question_first(frame, ["qid", *values])
    title = f"Training tokens at which QiD reaches a threshold ({source.law.title})"
    counts = ("tokens", "lower", "upper", "walk_lower", "walk_upper")
    echo_frame(readable(frame) if fmt == "table" else frame, fmt, title, counts=counts)
