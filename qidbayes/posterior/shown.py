"""What a fit shows of itself: its constants, as tables and in notebooks, and what is saved of it."""

import warnings
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from qidbayes.errors import DiagnosticsWarning, InputError
from qidbayes.notebook import html_equation, html_list, html_table
from qidbayes.posterior.band import without_empty
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.summary import constants_of, reported
from qidbayes.process import note

if TYPE_CHECKING:
    import os

    import xarray

    from qidbayes.posterior.likelihood import Unit


class Shown(Posterior):
    """A posterior that can be shown and saved."""

    def summary(self, ci_prob: float = 0.9, published: str | None = None) -> pl.DataFrame:
        """Return every parameter and constant with its credible interval and diagnostics.

        Parameters
        ----------
        ci_prob
            The probability of the equal-tailed credible interval.
        published
            A published point of the law to stand beside, such as ``"eq8"``.

        Returns
        -------
        polars.DataFrame
            ``name``, ``median``, ``lower``, ``upper``, ``mean``, ``sd``, ``ess_bulk``, ``ess_tail``, ``r_hat``,
            ``identified``, ``published`` if asked for, and ``group`` if a number differs between groups. A number that
            the data do not identify has nulls in the place of an answer. Constants are in raw counts; ``*_ref`` is at
            the law's reference point. A fit with a 16-bit law beside it has the constants of that law below its own,
            beside the first point published of them, and a last column ``response``. A fit that further rows have
            conditioned has no chains, and so no ``ess_bulk``, ``ess_tail`` and ``r_hat``.
        """
        note()
        return without_empty(self._summary(ci_prob, published), "group", "ess_bulk", "ess_tail", "r_hat")

    def _summary(self, ci_prob: float, published: str | None) -> pl.DataFrame:
        own = constants_of(self, ci_prob, published)
        if not self.loss_16bit:
            return own
        base = self.loss_16bit
        beside = constants_of(base, ci_prob, next(iter(base.law.published), None) if published else None)
        parts = [(self.law.response, own), (base.law.response, beside)]
        named = [part.with_columns(response=pl.lit(response)) for response, part in parts]
        return pl.concat(named, how="diagonal")

    def interval(self, name: str, ci_prob: float = 0.9) -> pl.DataFrame:
        """Return the equal-tailed credible interval of a parameter or constant: ``name``, ``median``, ``lower``, ….

        Raises
        ------
        InputError
            If there is no such name, or the data do not identify it.
        """
        note()
        if name not in reported(self):
            raise InputError(f"no parameter is called {name!r}; there are {', '.join(reported(self))}")
        chosen = constants_of(self, ci_prob).filter(pl.col("name") == name)
        self._warn_if_doubtful()
        if not chosen["identified"].any():
            raise InputError(f"{name!r} is not identified by these data: an interval would only repeat the prior")
        return without_empty(chosen.select("name", "median", "lower", "upper", "mean", "sd", "group"), "group")

    def to_datatree(
        self, *, log_likelihood: "bool | Unit" = False, posterior_predictive: bool = False, prior: bool = False
    ) -> "xarray.DataTree":
        """Return the fit as the DataTree that ArviZ works on; its functions take no other objects, nor the fit itself.

        It has the groups ``posterior``, ``sample_stats``, ``observed_data`` and ``constant_data``. The dimension `row`
        has the table's columns as coordinates: `model`, `tokens`, `bits`, ….

        Parameters
        ----------
        log_likelihood
            True or ``"checkpoint"`` adds the group ``log_likelihood``, for `arviz.loo` and `arviz.compare`: the log
            density (nats) of the rows of each checkpoint given all other rows and the draw. Rows share errors, so that
            the likelihood has no factor for each row alone. ``"row"`` leaves out one row at a time, which the other
            rows of its checkpoint give away.
        posterior_predictive
            Adds the group ``posterior_predictive``, for `arviz.plot_ppc_dist`: what the same rows would have measured
            in new runs, nats per token.
        prior
            Adds the group ``prior``: 1,000 draws of the parameters, the constants and the noise's numbers.

        Notes
        -----
        Likelihood and predictive are of up to 500 draws, evenly spaced.

        Raises
        ------
        InputError
            If a likelihood is asked for of rows that are not above 0 or of Student's t errors, or the prior of a fit
            whose prior is another fit's posterior.

        Examples
        --------
        >>> tree = load_fit("unified.nc").to_datatree(log_likelihood=True)  # doctest: +SKIP
        >>> arviz.summary(tree, var_names=["alpha", "beta"]), arviz.loo(tree)  # doctest: +SKIP
        """
        from qidbayes.posterior.store import to_datatree

        return to_datatree(self, log_likelihood, posterior_predictive, prior)

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the fit to a NetCDF file, whole or not at all; ArviZ and xarray read it too.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        from qidbayes.posterior.store import save

        save(self, path)

    def __repr__(self) -> str:
        chains, draws = self.stats["lp"].shape
        failed = len(self.diagnostics.problems())
        verdict = f"{failed} checks failed" if failed else "all checks passed"
        return f"<Fit of {self.law.name} to {self.data.height} rows: {chains} × {draws} draws, {verdict}>"

    def _repr_html_(self) -> str:
        frame = without_empty(self._summary(0.9, None), "group", "r_hat")
        names = [name for name in ("response", "name", "group", "median", "lower", "upper", "r_hat") if name in frame]
        frame = frame.select(names).with_columns(pl.selectors.by_name("r_hat", require_all=False).round(3))
        rows = [[f"{v:.4g}" if isinstance(v, float) else v or "" for v in row] for row in frame.iter_rows()]
        told = html_list([*(f"FAILED: {p}" for p in self.diagnostics.problems()), *self.diagnostics.remarks()])
        return (
            f"<p>{escape(repr(self).strip('<>'))}</p>{html_equation(self.law.latex())}{html_table(names, rows)}"
            f"<p>90% credible intervals; constants in raw counts, *_ref at the law's reference point.</p>{told}"
        )

    def _warn_if_doubtful(self) -> None:
        for reason in (*self.diagnostics.problems(), *self.diagnostics.conflicts()):
            warn_who_asked(f"an answer of a fit that is not to be trusted: {reason}", DiagnosticsWarning)


def warn_who_asked(text: str, category: type[UserWarning]) -> None:
    warnings.warn(text, category, skip_file_prefixes=(str(Path(__file__).parents[1]),))  # it points at who asked
