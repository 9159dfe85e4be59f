"""Pieces of what a notebook shows of a fit, a law or a point."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts, all of them escaped.

    Examples
    --------
    >>> html_table(["name"], [["a < b"]])
    '<table><thead><tr><th>name</th></tr></thead><tbody><tr><td>a &lt; b</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_list(sentences: Iterable[str]) -> str:
    """Return sentences as a list; nothing of none."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def html_equation(latex: str) -> str:
    """Return LaTeX as notebooks typeset it inside HTML."""
    return f"<p>$${escape(latex)}$$</p>"
