"""One HTML file of one or several fits: no network, no server, nothing else beside it."""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path

from qidbayes.atomic import write_whole
from qidbayes.errors import AssumptionWarning, DiagnosticsWarning, InputError
from qidbayes.posterior.assumed import only_suite
from qidbayes.posterior.band import tails
from qidbayes.posterior.fit import Fit
from qidbayes.reports import sections
from qidbayes.reports.sliders import what_if

_HERE = Path(__file__).parent
# Nothing but what is in the file: the browser itself refuses anything else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_FIGURES_EACH = 10


def report(fits: Fit | Sequence[Fit], path: str | os.PathLike[str], *, ci_prob: float = 0.9) -> None:
    """Write fits as one HTML page, whole or not at all.

    It holds what was fitted on what, the equation, the posterior and its diagnostics, the backtest if the fit carries
    one, figures, tables to copy, and sliders of N, D and P with the band of a newly measured checkpoint. The file needs
    no network, and allows its reader's browser none.

    Parameters
    ----------
    fits
        One fit, or several; a fit with a 16-bit law beside it brings that along.
    path
        An ``.html`` file.
    ci_prob
        The probability of the intervals and bands.

    Raises
    ------
    InputError
        If there is no fit, or the file cannot be written.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> report(load_fit("unified.nc"), "report.html")  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: not the name of a page; give a file that ends in .html")
    tails(ci_prob)
    several = [fits] if isinstance(fits, Fit) else list(fits)
    if not several:
        raise InputError("a report is of at least one fit")
    parts = [_part(fit, ci_prob, number) for number, fit in enumerate(_with_bases(several))]
    write_whole(path, _page(parts, several).encode())


def _with_bases(fits: Sequence[Fit]) -> Iterator[Fit]:
    for fit in fits:
        yield fit
        if fit.loss_16bit:
            yield fit.loss_16bit


def _part(fit: Fit, ci_prob: float, number: int) -> str:
    with warnings.catch_warnings():  # what the data do not identify is said once, under Diagnostics
        warnings.simplefilter("ignore", DiagnosticsWarning)
        warnings.simplefilter("ignore", AssumptionWarning)  # which the projections say
        found = [
            f"<h2>{escape(fit.law.title or fit.law.name)}</h2>",
            _what_if(fit, ci_prob),
            sections.law_section(fit, number),
            sections.data_section(fit),
            sections.posterior_section(fit, ci_prob),
            sections.backtest_section(fit),
            sections.answers_section(fit, ci_prob),
            sections.figures_section(fit, ci_prob, number * _FIGURES_EACH),
        ]
    return f'<section id="fit-{number}">{"".join(found)}</section>'


def _what_if(fit: Fit, ci_prob: float) -> str:
    try:
        payload = what_if(fit, ci_prob)
    except InputError as error:
        return f"<h3>What if?</h3><p>Not for this law: {escape(str(error))}.</p>"
    # "</script>" in a name would end the element.
    data = json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<h3>What if?</h3><div class="what-if"><script type="application/json">{data}</script></div>'
        f"<p class=note>Median and bands of a newly measured checkpoint of {_whose(fit)}, as "
        "<code>Fit.predict</code> gives them, to four digits. Sliders stop where the answer has been worked out; "
        "nothing is interpolated but the chart's lines between those points.</p>"
    )


def _whose(fit: Fit) -> str:
    if suite := only_suite(fit):
        return f"a new training run of suite {escape(suite['suite'])}"
    return "a new training run of a suite that was not fitted" if "suite" in fit.noise.asked else "a new training run"


def _page(parts: Sequence[str], fits: Sequence[Fit]) -> str:
    names = ", ".join(dict.fromkeys(fit.law.title or fit.law.name for fit in fits))
    title = f"qidbayes: {names}"
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    day = datetime.now(UTC).date().isoformat()
    head = (
        "<h1>What low-bit quantization costs</h1><p>QiD, quantization-induced degradation: nats per token added to a "
        f"language model's loss. Made by qidbayes {version('qidbayes')} on {day}.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style></head><body>'
        f"<header>{head}</header><main>{''.join(parts)}</main>"
        f"<script>{script}</script></body></html>\n"
    )
