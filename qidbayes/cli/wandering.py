"""The second band that `project` and `tokens` print far beyond the data: of a fit whose slopes in log D wander."""

from typing import TYPE_CHECKING, Any

import click

from qidbayes.cli.output import caution

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from qidbayes.posterior import Fit

_FAR = 2.0
"""Times the longest training that was fitted, from which on it is printed."""
_MOST_ROWS = 400
_DRAWS, _CHAINS = 250, 2
_MADE = 1
"""To be raised where a change of the walk or of its sampler makes what is kept another fit."""
_R_HAT, _ESS = 1.05, 100


def beside(fit: "Fit", frame: "pl.DataFrame", question: str, ask: dict[str, Any]) -> "pl.DataFrame":
    """Return answers with ``walk_lower`` and ``walk_upper`` where they lie far beyond the data, empty elsewhere.

    The default takes what a law misses to be stationary: far beyond the data it has reverted to the law, and the band
    grows no more but by the law's constants. So its rows are fitted again, in seconds, with slopes that differ between
    runs and wander along them (`discrepancy = "walk"`), and asked the same.

    Parameters
    ----------
    fit, frame
        What was asked, and its answers.
    question, ask
        The name of the method of `Fit` that is asked, and its arguments.
    """
    import warnings

    import polars as pl

    if not (_has_reverted(fit) and "tokens" in frame.columns):
        return frame
    far = pl.col("tokens") > _FAR * float(fit.data["tokens"].max())  # type: ignore[arg-type]
    if not frame.select(far.any()).item():
        return frame
    other = _again(fit)
    if other is None:
        caution("far beyond the data a band with slopes that wander is wider; it could not be sampled beside this one")
        return frame
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # answers take 200 draws: it has enough for them, if fewer than a fit should
        band = getattr(other, question)(**ask)
    ends = [pl.when(far).then(band[end]).alias(f"walk_{end}") for end in ("lower", "upper")]
    caution(
        f"tokens beyond {_FAR:g} times the data: walk_lower and walk_upper are the band if slopes in log D wander on; "
        "both bands assume no break after the data"
    )
    at = frame.columns.index("upper") + 1
    columns = [*frame.columns[:at], "walk_lower", "walk_upper", *frame.columns[at:]]
    return frame.with_columns(ends).select(columns)


def _has_reverted(fit: "Fit") -> bool:
    few = fit.data.height <= _MOST_ROWS and "prior_from" not in {k for k, v in fit.attributes.items() if v}
    return fit.law.noise.discrepancy == "smooth" and fit.law.response == "qid" and few and "D" in fit.law.covariates


def _again(fit: "Fit") -> "Fit | None":
    """Return a fit of the same rows with slopes that wander; None if its chains do not agree."""
    from contextlib import suppress

    from qidbayes.errors import InputError
    from qidbayes.posterior import load_fit

    path, found = kept(fit), None
    if path and path.is_file():
        with suppress(InputError):  # damaged: it is made again
            found = load_fit(path)
    if found is None:
        click.echo("qidbayes: fitting the rows again for walk_lower and walk_upper", err=True)
        found = _sampled(fit)
        if path:
            try:
                found.save(path)
                click.echo(f"qidbayes: kept for the next question in {path.parent}", err=True)
            except InputError as error:
                caution(f"the next question will wait again: {error}")
    every = found.diagnostics.convergence.values()
    return found if all(one.r_hat < _R_HAT and one.ess_bulk > _ESS for one in every) else None


def kept(fit: "Fit") -> "Path | None":
    """Return where the cache has that fit of these rows, this law and this seed; None for a user without a home."""
    import hashlib
    from importlib.metadata import version

    from qidbayes.resources import cache_folder
    from qidbayes.table import table_hash

    folder = cache_folder()
    same = (version("qidbayes"), fit.law.fingerprint(), table_hash(fit.data), fit.attributes["random_seed"])
    name = hashlib.sha256(" ".join(map(str, (*same, _DRAWS, _CHAINS, _MADE))).encode()).hexdigest()
    return folder / "wandering" / f"{name[:32]}.nc" if folder else None


def _sampled(fit: "Fit") -> "Fit":
    import warnings

    from qidbayes.cli.progress import sampling
    from qidbayes.infer.fit import fit as sample

    law = fit.law.with_noise(discrepancy="walk")
    with sampling("fitting again") as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of which the fit itself has had its say
        seed = int(fit.attributes["random_seed"])
        return sample(fit.data, law, random_seed=seed, progress=progress, draws=_DRAWS, chains=_CHAINS)
