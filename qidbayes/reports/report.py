"""One HTML file of one or several fits: no network, no server, nothing else beside it."""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path

from qidbayes.atomic import write_whole
from qidbayes.errors import AssumptionWarning, DiagnosticsWarning, InputError
from qidbayes.posterior.band import tails
from qidbayes.posterior.fit import Fit
from qidbayes.progress import Progress, shows_progress
from qidbayes.reports import sections
from qidbayes.reports.html import document
from qidbayes.reports.sliders import sliders

_FIGURES_EACH = 10


@shows_progress("writing", "reading the fits")
def report(
    fits: Fit | Sequence[Fit],
    path: str | os.PathLike[str],
    *,
    ci_prob: float = 0.9,
    title: str | None = None,
    progress: Progress | bool | None = None,
) -> None:
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
    title
        What the page is called. If not given, the laws and the suites they were fitted to.
    progress
        A bar shows how far the page is, on a terminal and in a notebook; False shows none. Or what is to be called with
        the parts done and their total.

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
    every = [_sections(fit, ci_prob, number) for number, fit in enumerate(_with_bases(several))]
    parts, done, total = [], 0, sum(map(len, every))
    for sections_of in every:
        found = ""
        for write in sections_of:
            found += _quietly(write)
            done += 1
            if callable(progress):
                progress(done, total)
        parts.append(found)
    write_whole(path, _page(parts, several, title).encode())


def _with_bases(fits: Sequence[Fit]) -> Iterator[Fit]:
    for fit in fits:
        yield fit
        if fit.loss_16bit:
            yield fit.loss_16bit


def _sections(fit: Fit, ci_prob: float, number: int) -> list[Callable[[], str]]:
    """Return what writes each part of a fit that takes a while: what is looked at first, then long tables."""
    return [
        lambda: f"<h2>{escape(fit.law.title or fit.law.name)}</h2>{_what_if(fit, ci_prob)}",
        *sections.figures(fit, ci_prob, number * _FIGURES_EACH),
        lambda: "".join(
            (
                sections.law_section(fit, number),
                sections.posterior_section(fit, ci_prob),
                sections.data_section(fit),
                sections.answers_section(fit, ci_prob),
                sections.backtest_section(fit),
            )
        ),
    ]


def _with_links(number: int, part: str) -> tuple[str, str]:
    """Return a fit's part of the page with an id for each heading, and the links that lead to them."""
    links: list[str] = []

    def anchor(found: re.Match[str]) -> str:
        anchor = f"fit-{number}-{re.sub('[^a-z0-9]+', '-', found[1].lower()).strip('-')}"
        links.append(f'<a href="#{anchor}">{found[1]}</a>')
        return f'<h3 id="{anchor}">{found[1]}</h3>'

    part = re.sub(r"<h3>([^<]*)</h3>", anchor, part)
    title = re.search("<h2>(.*?)</h2>", part)
    named = f'<a href="#fit-{number}"><b>{title[1] if title else ""}</b></a>'
    return f'<section id="fit-{number}">{part}</section>', f"<p>{' · '.join([named, *links])}</p>"


def _quietly(write: Callable[[], str]) -> str:
    with warnings.catch_warnings():  # what the data do not identify is said once, under Diagnostics
        warnings.simplefilter("ignore", DiagnosticsWarning)
        warnings.simplefilter("ignore", AssumptionWarning)  # which the projections say
        return write()


def _what_if(fit: Fit, ci_prob: float) -> str:
    try:
        return f"<h3>What if?</h3>{sliders(fit, ci_prob, {})}"
    except InputError as error:
        return f"<h3>What if?</h3><p>Not for this law: {escape(str(error))}.</p>"


def _page(parts: Sequence[str], fits: Sequence[Fit], title: str | None) -> str:
    shown = title or _title(fits)
    day = datetime.now(UTC).date().isoformat()
    found = [_with_links(number, part) for number, part in enumerate(parts)]
    head = (
        f"<h1>{escape(shown)}</h1><p>What low-bit quantization costs a language model. QiD is quantization-induced "
        f"degradation: nats per token added to its loss. Made by qidbayes {version('qidbayes')} on {day}.</p>"
        f'<nav aria-label="Contents">{"".join(links for _, links in found)}</nav>'
    )
    return document(shown, f"<header>{head}</header><main>{''.join(part for part, _ in found)}</main>")


def _title(fits: Sequence[Fit]) -> str:
    """Return what a page is about: the laws, and the suites that they were fitted to or given rows of."""
    laws = ", ".join(dict.fromkeys(fit.law.title or fit.law.name for fit in fits))
    given = dict.fromkeys(one["suite"] for fit in fits for one in fit.attributes.get("conditioned_on", ()))
    if given:
        return f"{laws}, given rows of {', '.join(given)}"
    suites = [suite for fit in fits if "suite" in fit.data.columns for suite in fit.data["suite"].unique().sort()]
    named = list(dict.fromkeys(str(suite) for suite in suites if suite))
    several = f"{', '.join(named[:3])} and {len(named) - 3} more" if len(named) > 3 else ", ".join(named)
    return f"{laws}, fitted to {several}" if named else laws
