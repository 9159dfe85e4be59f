"""The sliders of a report as a cell of a notebook."""

import warnings
from dataclasses import dataclass, field
from html import escape
from typing import Any

from qidbayes.errors import AssumptionWarning
from qidbayes.posterior.band import tails
from qidbayes.posterior.fit import Fit
from qidbayes.reports.html import document
from qidbayes.reports.sliders import sliders


@dataclass(frozen=True)
class WhatIf:
    """Sliders that a notebook shows.

    Attributes
    ----------
    page
        A whole page of HTML, which needs no network, no server and no widgets.
    """

    page: str = field(repr=False)
    _controls: int = field(repr=False)

    def __repr__(self) -> str:
        return "WhatIf: sliders that a notebook shows; qidbayes.report writes them into a page"

    def _repr_html_(self) -> str:
        # The frame is as high as what it holds, by its width: sliders stand side by side where there is room. It is a
        # page of its own that may run its script, and may not reach the notebook around it.
        height = f"max({36.1 + 2 * self._controls:.1f}rem, {57.8 + 1.8 * self._controls:.1f}rem - 28cqw)"
        return (
            '<div style="container-type: inline-size"><iframe title="What if?" sandbox="allow-scripts" '
            f'style="width: 100%; height: {height}; border: 0" srcdoc="{escape(self.page)}"></iframe></div>'
        )


def what_if(fit: Fit, *, ci_prob: float = 0.9, **held: Any) -> WhatIf:
    """Return sliders of what a law depends on, with the band of a newly measured checkpoint, for a notebook.

    They are those of `report`, and every number shown is one of `Fit.predict`. A saved notebook keeps them.

    Parameters
    ----------
    fit
        What is asked.
    ci_prob
        The probability of the outer band; the inner one has 50%.
    **held
        Further values, as `Fit.predict` takes them: ``method="gptq"``, ``suite="pythia"``. A list is what a slider
        stops at.

    Returns
    -------
    WhatIf
        What a notebook shows as a frame.

    Raises
    ------
    InputError
        If the law does not take a value, or depends on too much for a page to hold.

    Examples
    --------
    >>> import qidbayes as qb
    >>> qb.what_if(qb.load_fit("atlas"), suite="pythia", n_params="7B", method=["gptq", "rtn"], bits=[3, 4])
    WhatIf: sliders that a notebook shows; qidbayes.report writes them into a page
    """
    tails(ci_prob)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # the line below the sliders says it
        box = sliders(fit, ci_prob, held)
    return WhatIf(document(f"What if? {fit.law.title or fit.law.name}", f"<main>{box}</main>"), box.count('"start":'))
