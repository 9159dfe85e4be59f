"""What a page says of one fit, section by section."""

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import polars as pl

from qidbayes import plots
from qidbayes.errors import InputError
from qidbayes.law.expression import to_text
from qidbayes.plots import caption
from qidbayes.posterior import query
from qidbayes.posterior.assumed import assumed as left_out
from qidbayes.posterior.assumed import shown
from qidbayes.posterior.band import tails
from qidbayes.posterior.coverage import LEAST_CHECKPOINTS, LEAST_RUNS, coverage, read_backtest
from qidbayes.posterior.fit import Fit
from qidbayes.posterior.guessing import loss_16bit_for, vocabulary_for
from qidbayes.posterior.summary import constants_of
from qidbayes.reports.html import drawing, equation, table

_LEVELS = (0.5, 0.8, 0.9, 0.95)
_FIGURES = {
    "qid": {"projection": "Projection to 100T tokens", "qid": "QiD against training tokens",
            "tokens_to_threshold": "Tokens to thresholds"},
    "loss_16bit": {"loss_16bit": "16-bit loss against training tokens"},
    "loss": {},
}  # fmt: skip
_FIGURES_HEADING = (
    '<h3>Figures</h3><p class="note narrow">Figures are wider than this window: they scroll sideways.</p>'
)


def law_section(fit: Fit, number: int) -> str:
    """Return the equation, its priors and how measurements scatter."""
    law = fit.law
    priors = pl.DataFrame([{"parameter": law.sampled_name(n), "prior": repr(p)} for n, p in law.priors.items()])
    source = f"<p>Source: {escape(law.source)}.</p>" if law.source else ""
    reference = ", ".join(f"{name} = {value:g}" for name, value in law.reference.items())
    at = f"<p>Names that end in _ref are at the reference point {escape(reference)}.</p>" if reference else ""
    noise = str(law).split("\n")
    scatter = next(line.strip() for line in noise if line.strip().startswith(f"log {law.response}:"))
    plain = f"{law.response} = {to_text(law.expression)}"
    return (
        f"<h3>The law</h3>{equation(law.latex(), plain, number)}{source}{at}<p>Scatter: {escape(scatter)}.</p>"
        f"<details><summary>Priors</summary>{table(priors)}</details>"
    )


def data_section(fit: Fit) -> str:
    """Return what was fitted."""
    groups = [name for name in ("suite", "method", "dataset") if name in fit.data.columns]
    spans = [
        expression
        for name in ("n_params", "tokens", "bits")
        for expression in (pl.col(name).min().alias(f"{name} from"), pl.col(name).max().alias(f"{name} to"))
    ]
    models = pl.col("model").n_unique().alias("models")
    found = fit.data.group_by(groups, maintain_order=True).agg(pl.len().alias("rows"), models, *spans)
    counts = tuple(f"{name} {end}" for name in ("n_params", "tokens") for end in ("from", "to"))
    sources = caption.sources(fit.data)
    from_where = f"<p>Measurements from: {escape(sources)}.</p>" if sources else ""
    about = fit.attributes
    made = ", ".join(f"{name} {about[name]}" for name in ("random_seed", "draws", "chains") if name in about)
    versions = ", ".join(f"{name} {v}" for name, v in about.get("versions", {}).items())
    digest = f"; SHA-256 of the table {about['table_hash']}" if "table_hash" in about else ""
    return (
        f"<h3>Fitted to</h3>{table(found, counts)}{from_where}"
        f"<details><summary>How</summary><p class=wrap>{escape(f'{made}; {versions}{digest}')}</p></details>"
    )


def posterior_section(fit: Fit, ci_prob: float) -> str:
    """Return the constants with their intervals, and the checks."""
    frame = constants_of(fit, ci_prob)
    frame = _to_read(frame)
    problems = fit.diagnostics.problems()
    verdict = "".join(f"<li class=failed>FAILED: {escape(problem)}</li>" for problem in problems)
    verdict += "".join(f"<li>{escape(remark)}</li>" for remark in fit.diagnostics.remarks())
    passed = "" if problems else "<p>All checks passed: R-hat, effective sample sizes, divergences, E-BFMI.</p>"
    return (
        f"<h3>Posterior</h3><p>{ci_prob:.0%} credible intervals, equal tails.</p>{table(frame)}"
        f"<h3>Diagnostics</h3>{passed}{f'<ul>{verdict}</ul>' if verdict else ''}"
    )


def backtest_section(fit: Fit) -> str:
    """Return how bands of this law have held where they were not fitted, if the fit carries a backtest."""
    if "backtest" not in fit.attributes:
        return (
            "<h3>Backtest</h3><p>None: how bands of this law hold outside the data has not been tried "
            "(<code>qidbayes backtest --fit</code>).</p>"
        )
    kept = read_backtest(fit.attributes["backtest"])
    distances = kept.distances
    rows: dict[str, Any] = {"outside the data": distances}
    for level in _LEVELS:
        found = coverage(kept, distances, *tails(level))
        counted = {"held_of": "measurements", "held_checkpoints": "checkpoints", "held_runs": "runs"}
        rows |= {title: found[name] for name, title in counted.items()}
        rows |= {f"{level:.0%} bands held": found["held"], f"± ({level:.0%})": found["held_se"]}
    return (
        f"<h3>Backtest</h3><p>Share of held-out measurements inside their bands, ± its standard error over training "
        f"runs; fewer than {LEAST_CHECKPOINTS} checkpoints or {LEAST_RUNS} runs tell nothing. "
        f"Held out: {escape(', '.join(kept.splits))}.</p>{table(pl.DataFrame(rows))}"
    )


def answers_section(fit: Fit, ci_prob: float) -> str:
    """Return the tables of tokens to thresholds and of projections."""
    if fit.law.response != "qid":
        return ""
    found = ""
    asked: dict[str, Any] = {"bits": fit.widths} if "bits" in query.needs(fit.law) else {}
    about = shown(fit)
    asked |= about
    try:
        reached = fit.tokens_to_threshold([0.1, 0.2, 0.5], n_params=[1e9, 7e9, 70e9, 405e9], ci_prob=ci_prob, **asked)
        counts = ("lower", "upper")
        found += told(fit, reached.drop("tokens"))
        found += "".join(f"<p>{escape(one)}</p>" for one in (caption.suite(fit, about, "response") if about else []))
        first = [name for name in ("qid", "n_params", "bits") if name in reached.columns]
        reached = reached.drop(about).select(*first, pl.exclude(first))
        found += f"<h3>Training tokens at which QiD reaches a threshold</h3>{table(reached, counts)}"
        far = fit.project(n_params=[7e9, 70e9, 405e9], tokens=[1e12, 15e12, 100e12], ci_prob=ci_prob, **asked)
        far = _to_read(far.drop(about))
        assumed = (*loss_16bit_for(fit.data, fit.loss_16bit)[1], *vocabulary_for(fit.data, None)[1])
        said = "".join(f"<p>{escape(remark[0].upper() + remark[1:])}.</p>" for remark in assumed)
        found += f"<h3>Projections</h3>{said}{table(far)}"
    except InputError as error:
        found += f"<p>Not in this page: {escape(str(error))}.</p>"
    return found


def _to_read(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame without what is empty, its interval before what it is held against: a phone shows the first."""
    known = ("name", "group", "qid", "n_params", "tokens", "bits", "median", "lower", "upper", "worse_than_random")
    first = [name for name in known if name in frame.columns]
    last = [name for name in ("mean", "sd") if name in frame.columns]
    others = [name for name in frame.columns if name not in (*first, *last)]
    return frame.select(name for name in (*first, *others, *last) if frame[name].null_count() < frame.height)


def told(fit: Fit, frame: pl.DataFrame) -> str:
    """Return what answers assume because no question says it, as a paragraph; empty if they assume nothing."""
    sentence = str(left_out(fit, frame))
    return f"<p>{escape(sentence[0].upper() + sentence[1:])}.</p>" if sentence else ""


def figures(fit: Fit, ci_prob: float, first: int) -> list[Callable[[], str]]:
    """Return what draws each figure that suits the law, under a heading of all; their ids are counted from a number."""
    drawn: list[str] = []

    def draw(name: str, title: str, number: int) -> str:
        try:
            figure = getattr(plots, name)(fit, ci_prob=ci_prob)
        except InputError:
            return ""  # the law has nothing to draw there
        drawn.append(name)
        heading = _FIGURES_HEADING if len(drawn) == 1 else ""
        return f"{heading}{drawing(figure, title, number)}"

    suited = _FIGURES.get(fit.law.response, {})
    return [partial(draw, name, title, first + i) for i, (name, title) in enumerate(suited.items())]
