"""Pieces of a page: tables that can be copied, figures drawn in place. All text that comes from outside is escaped."""

import io
import re
from html import escape
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from qidbayes.plots import style
from qidbayes.table.formulas import as_text
from qidbayes.units import format_value

# Nothing but what is in the file: the browser itself refuses anything else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_COUNTS = ("n_params", "tokens")
_HEADINGS = {
    "n_params": "size N", "tokens": "tokens D", "qid": "QiD", "loss_16bit": "16-bit loss", "r_hat": "R-hat",
    "ess_bulk": "ESS, bulk", "ess_tail": "ESS, tail", "sd": "standard deviation", "never": "share that never reach it",
    "worse_than_random": "chance of being worse than guessing", "n_params_beyond": "size, times outside the data",
    "tokens_beyond": "tokens, times outside the data", "bits_beyond": "bits, times outside the data",
    "not_fitted": "not fitted", "held": "share of bands that held", "held_se": "its standard error",
    "held_of": "of measurements", "held_checkpoints": "of checkpoints", "held_runs": "of runs",
    "n_params from": "N from", "n_params to": "N to", "tokens from": "D from", "tokens to": "D to",
    "identified": "told by the data",
}  # fmt: skip
_NAMED = re.compile(r'(\bid="|\burl\(#|\bxlink:href="#)')


def document(title: str, body: str) -> str:
    """Return a page with its style and its script, which needs nothing but itself."""
    style, script = ((Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style>'
        f"</head><body>{body}<script>{script}</script></body></html>\n"
    )


def table(frame: pl.DataFrame, counts: tuple[str, ...] = ()) -> str:
    """Return a frame as a table for people, with a button that copies it as CSV: its own names, and every digit.

    Parameters
    ----------
    counts
        Columns that hold counts, beside `n_params` and `tokens`.
    """
    numeric = [dtype.is_numeric() for dtype in frame.schema.values()]
    head = "".join(_heading(name, right) for name, right in zip(frame.columns, numeric, strict=True))
    rows = []
    for row in frame.iter_rows(named=True):
        texts = (format_value(value, name, count=name in (*_COUNTS, *counts)) for name, value in row.items())
        rows.append("".join(_entry(text, right) for text, right in zip(texts, numeric, strict=True)))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    csv = escape(as_text(frame).write_csv())
    return (
        f'<div class="table" data-csv="{csv}"><div class="scroll"><table><thead><tr>{head}</tr>'
        f'</thead><tbody>{body}</tbody></table></div><button type="button" class="copy">Copy as CSV</button></div>'
    )


def drawing(figure: Figure, title: str, number: int) -> str:
    """Return a figure as an SVG element, its ids told apart from other figures' by a number."""
    file = io.StringIO()
    with style.context():
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = _NAMED.sub(rf"\g<1>f{number}-", svg)
    # The page sets the width; the height follows from the viewBox.
    svg = re.sub(r'<svg\b[^>]*?(viewBox="[^"]*")[^>]*>', _opening(title), svg, count=1, flags=re.S)
    return f'<figure class="scroll">{svg}</figure>'


def equation(latex: str, plain: str, number: int) -> str:
    """Return an equation, typeset where matplotlib can, as it is written otherwise."""
    figure = Figure(figsize=(0.01, 0.01))
    figure.text(0, 0, f"${latex}$", fontsize=15)
    file = io.StringIO()
    try:
        with style.context():
            figure.savefig(file, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    except ValueError:  # mathtext knows less than LaTeX
        return f'<p class="equation"><code>{escape(plain)}</code></p>'
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plain)}" ', 1)
    return f'<p class="equation">{_NAMED.sub(rf"\g<1>e{number}-", svg)}</p>'


def _entry(content: str, right: bool) -> str:
    return f"<td{' class=n' if right else ''}>{escape(content)}</td>"


def _heading(name: str, right: bool) -> str:
    shown = _HEADINGS.get(name, name)
    return f'<th scope="col" title="{escape(name)}"{" class=n" if right else ""}>{escape(shown)}</th>'


def _opening(title: str) -> str:
    return rf'<svg xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(title)}" \g<1>>'
