"""Frames on stdout: for people as a table, for programs as JSON or CSV."""

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from qidbayes.errors import printable
from qidbayes.units import format_count, format_value

if TYPE_CHECKING:
    import polars as pl

# Counts are shown the way people say them, everything else to four digits.
_COUNTS = {"n_params", "tokens"}
_MOST_TOKENS = 1e15  # beyond which an answer's digits tell nothing


def format_option[F: Callable[..., Any]](command: F) -> F:
    """Add ``--format table|json|csv`` to a command, as its parameter `fmt`."""
    return click.option(
        "--format",
        "fmt",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="A table for people, or JSON or CSV for programs.",
    )(command)


def say(text: str = "", *, err: bool = False, **style: Any) -> None:
    """Print a text for people, on stdout or stderr, without what a terminal would obey.

    On a terminal lines break between words, and go on further to the right where they were indented.
    """
    text = filled(printable(text), sys.stderr if err else sys.stdout)
    click.echo(click.style(text, **style) if style else text, err=err)


def filled(text: str, stream: TextIO) -> str:
    """Return a text whose lines are as wide as the terminal that a stream is, and as they are where it is none."""
    if not stream.isatty():
        return text
    width = max(40, os.get_terminal_size(stream.fileno()).columns)
    return "\n".join(_filled(line, width) for line in text.split("\n"))


def _filled(line: str, width: int) -> str:
    further = " " * (2 * (len(line) - len(line.lstrip())))
    return textwrap.fill(line, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)


def caution(remark: str) -> None:
    """Print what an answer rests on, on stderr: once, however many parts of a command come upon it."""
    context = click.get_current_context(silent=True)
    said: set[str] = context.find_root().meta.setdefault(__name__, set()) if context else set()
    if remark not in said:
        said.add(remark)
        say(f"warning: {remark}", err=True, fg="yellow")


def echo_frame(frame: "pl.DataFrame", fmt: str, title: str | None = None, counts: tuple[str, ...] = ()) -> None:
    """Print a frame on stdout.

    Parameters
    ----------
    frame
        What to print.
    fmt
        ``table``, ``json`` (a list of objects; infinities as the text ``"Infinity"``) or ``csv``.
    title
        What stands above a table.
    counts
        Columns of answers that are counts of tokens: beyond 1,000T they are written so, as nobody trains on as many.
    """
    if fmt == "csv":
        text = _csv(frame)
        click.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
    elif fmt == "json":
        echo_json(list(frame.iter_rows(named=True)))
    else:
        _print_table(frame, title, set(counts))


def question_first(frame: "pl.DataFrame", question: Iterable[str]) -> "pl.DataFrame":
    """Return answers with the columns of their question before them, as a reader takes them in."""
    names = [name for name in dict.fromkeys(question) if name in frame.columns]
    return frame.select(*names, *(name for name in frame.columns if name not in names))


def echo_json(value: Any) -> None:
    """Print a value on stdout as JSON; infinities as the text ``"Infinity"``, and what is not a number as null."""
    click.echo(json.dumps(_json(value), indent=1, allow_nan=False))


def _csv(frame: "pl.DataFrame") -> str:
    """Return a frame as CSV, with no text in it that a spreadsheet would run."""
    from qidbayes.table.formulas import as_text

    return as_text(frame).write_csv()


def write_csv(frame: "pl.DataFrame", path: Path) -> None:
    """Write a frame to a CSV file, whole or not at all."""
    from qidbayes.atomic import write_whole

    write_whole(path, _csv(frame).encode())


def _print_table(frame: "pl.DataFrame", title: str | None, answers: set[str]) -> None:
    from qidbayes.cli.layout import Column, draw

    width = terminal_width()
    if title:
        say(title, bold=True)
    columns = [
        Column(_line(column.name), tuple(_text(column.name, value, answers) for value in column), numeric)
        for column in frame
        for numeric in [column.dtype.is_numeric() or column.name == "median"]
        if not _is_inside(column)
    ]
    click.echo(draw(columns, width))


def _is_inside(column: "pl.Series") -> bool:
    """Whether a column says that no row lies outside what was fitted, which a table need not: a factor of 1 in all."""
    return column.name.endswith("_beyond") and column.len() > 0 and bool((column == 1).all())


def terminal_width() -> int | None:
    """Return what the terminal is wide that stdout is; None of a pipe or a file, which have no width."""
    from rich.console import Console

    return Console(file=sys.stdout).width if sys.stdout.isatty() else None


def _text(name: str, value: Any, answers: set[str]) -> str:
    if name in answers and isinstance(value, float) and _MOST_TOKENS < value < math.inf:
        return f">{format_count(_MOST_TOKENS)}"
    return _line(format_value(value, name, count=name in _COUNTS | answers))


def _line(text: str) -> str:
    return printable(" ".join(text.splitlines()).replace("\t", " "))


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity" if value < 0 else None
    return value
