"""What an answer takes for granted because its question does not say it, in one sentence."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from qidbayes.methods import OF_FILES
from qidbayes.noise import makers
from qidbayes.noise.coordinates import KIND, NEW
from qidbayes.noise.kernels import SIMILARITY
from qidbayes.noise.unknown_tokens import BETWEEN
from qidbayes.posterior.answers import Counts, Kind
from qidbayes.posterior.guessing import say_assumed
from qidbayes.posterior.posterior import Posterior
from qidbayes.table.question import as_in_tables
from qidbayes.units import format_count

FAR_END = 100e12
"""The tokens of a projection that names none."""
_ANY = {"method": "any method", "group_size": "any group size", "dataset": "any data set"}


@dataclass(frozen=True)
class Assumed:
    """What questions leave out and their answers depend on.

    Attributes
    ----------
    new
        What is taken to be new, unknown or as in no fitted row in particular: this makes a band wider.
    fitted
        What is taken to be as it is in all fitted rows.
    known
        The fitted models whose tokens are taken to be those of their last checkpoint.
    """

    new: tuple[str, ...]
    fitted: tuple[str, ...]
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the sentence; empty if nothing was left out."""
        as_fitted = f"{', '.join(self.fitted)} as in all fitted rows" if self.fitted else ""
        parts = "; ".join(part for part in (", ".join(self.new), *self.known, as_fitted) if part)
        return f"assumed: {parts}" if parts else ""


def assumed(fit: Posterior, frame: pl.DataFrame, kind: Kind = "response") -> Assumed:
    """Return what is assumed of some questions.

    Parameters
    ----------
    fit
        What is asked.
    frame
        The questions, a row each. Where they give `qid` and no `tokens`, tokens are what is asked for.
    kind
        As in `Fit.predict`: the law alone depends on no suite and no method.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> str(assumed(load_fit("atlas"), pl.DataFrame({"n_params": 8e9, "bits": 4.0})))  # doctest: +SKIP
    'assumed: a family that was not fitted, tokens unknown (flat between 100B and 100T), any method, …'
    """
    families = fit.law.noise.discrepancy == "families"
    new, fitted = [], []
    if kind == "response" and "suite" in fit.noise.asked and _leaves_out_suite(fit, frame):
        new.append(f"a {'family' if families else 'suite'} that was not fitted")
    known: tuple[str, ...] = ()
    if families and "qid" not in frame.columns:
        untold = frame.filter(pl.col("tokens").is_null()) if "tokens" in frame.columns else frame
        names: list[str | None] = (
            untold["model"].unique(maintain_order=True).to_list() if "model" in frame.columns else [None]
        )
        known = tuple(_as_in_table(fit, name) for name in names if name and name in fit.fitted.last_tokens)
        if untold.height and len(known) < len(names):
            low, high = (format_count(end) for end in BETWEEN)
            new.append(f"tokens unknown (flat between {low} and {high})")
    differ = families or SIMILARITY in fit.noise.names
    for column in KIND if kind == "response" and differ else ():
        if column in fit.law.by or not _leaves_out(frame, column):
            continue
        if column == "group_size" and families and _of_files(frame):
            continue  # a type of file has groups of its own
        values = fit.data[column].unique().to_list() if column in fit.data.columns else [None]
        if families:
            new.append("per channel" if column == "group_size" else _ANY[column])
        elif len(values) > 1:
            new.append(_ANY[column])
        elif values[0] is not None:
            fitted.append(f"groups of {values[0]:g}" if column == "group_size" else str(values[0]))
    if families and kind == "response":
        of_file = zip(makers.makers(frame), makers.codes(fit.fitted, frame), strict=True)
        unknown = dict.fromkeys(maker for maker, code in of_file if code == NEW)
        new += [f"a maker of the file that was not fitted ({m})" if m else "any maker of the file" for m in unknown]
    return Assumed(tuple(new), tuple(fitted), known)


def _of_files(frame: pl.DataFrame) -> bool:
    return "method" in frame.columns and as_in_tables(frame)["method"].eq_missing(OF_FILES).all()


def at_the_far_end() -> str:
    """Return the sentence of a projection that names no tokens, which elsewhere are unknown.

    Examples
    --------
    >>> at_the_far_end()
    'assumed: 100T training tokens, the far end of a projection; name others as tokens (--tokens)'
    """
    far = format_count(FAR_END)
    return f"assumed: {far} training tokens, the far end of a projection; name others as tokens (--tokens)"


def projected(tokens: Counts | None) -> Counts:
    """Return the tokens of a projection, and warn of those that nobody named."""
    if tokens is None:
        say_assumed((at_the_far_end(),))
    return FAR_END if tokens is None else tokens


def shown(fit: Posterior, kind: Kind = "response") -> dict[str, Any]:
    """Return what figures and pages show of a fit that is asked about nothing in particular, by column.

    It is the suite of a fit of one suite, or of the rows that a fit was conditioned on. Of these it is also their
    method, group size and data set, where all have the same. Nothing where an answer depends on no suite.
    """
    if kind != "response" or "suite" not in fit.noise.asked:
        return {}
    taken = fit.attributes.get("conditioned_on", ())
    suites = {str(one["suite"]) for one in taken} or set(fit.data["suite"].unique().to_list())
    if len(suites) != 1:
        return {}
    found: dict[str, Any] = {"suite": str(suites.pop())}
    if taken:
        rows = fit.data.filter(suite=found["suite"])
        values = {name: rows[name].unique().to_list() for name in KIND if name in fit.noise.asked}
        found |= {name: own[0] for name, own in values.items() if len(own) == 1 and own[0] is not None}
    return found


def _as_in_table(fit: Posterior, model: str) -> str:
    tokens = fit.fitted.last_tokens[model]
    n_params = fit.data.filter(model=model)["n_params"][-1]
    return f"{model} as in the table ({format_count(n_params)} parameters, {format_count(tokens)} tokens)"


def _leaves_out(frame: pl.DataFrame, column: str) -> bool:
    # An empty group size is a value, per channel, wherever a frame has the column.
    return column not in frame.columns or (column != "group_size" and bool(frame[column].null_count()))


def _leaves_out_suite(fit: Posterior, frame: pl.DataFrame) -> bool:
    if "model" not in frame.columns:
        return _leaves_out(frame, "suite")
    unknown = frame.filter(~pl.col("model").is_in(fit.data["model"].unique().implode()).fill_null(False))
    return bool(unknown.height) and _leaves_out(unknown, "suite")
