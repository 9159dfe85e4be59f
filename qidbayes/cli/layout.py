"""Draw tables of text that fit the terminal's width, and cut no value in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from rich.cells import cell_len, chop_cells, set_cell_size

# The first to leave a table that is too wide. `mean` and `sd` go only where a median stands in their place.
_FIRST = (
    "source", "mean", "sd", "ess_tail", "ess_bulk", "learning_rate", "models", "suites", "bits_beyond",
    "n_params_beyond", "tokens_beyond", "loss_16bit",
)  # fmt: skip
# Answers, which stand in their column also where all rows agree.
_ANSWERS = frozenset(("name", "law", "equation", "what", "median", "lower", "upper", "qid", "prob", "advised", "r_hat"))
# What a table is for: these never leave. Where they do not fit, every row becomes a block of lines.
_NEVER = _ANSWERS | {
    "fit", "split", "format", "settings", "model", "method", "response", "group", "memory", "n_params", "tokens",
    "bits", "rows", "points", "never", "prob_best", "worse_than_random", "measurements", "variance_left", "log_density",
}  # fmt: skip
# What the name of a format says too, and so leaves early where that stands.
_OF_FORMATS = ("settings", "group_size", "method", "bits")
_TEXT = 20  # characters that a column of text keeps; longer texts are broken into lines
_WORD = 30  # and of one with longer words, up to this


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, and its texts as they are read."""

    name: str
    texts: tuple[str, ...]
    numeric: bool
    heading: str = ""

    @property
    def natural(self) -> int:
        """The width in which no text is broken."""
        return max(map(cell_len, (*(self.heading or self.name).split("\n"), *self.texts)))

    @property
    def least(self) -> int:
        """The width that the column needs: all of a number or name, some of a text, whose lines are broken."""
        if self.numeric or self.name in ("name", "law", "format"):
            return self.natural
        words = (cell_len(piece.rstrip()) for text in self.texts for piece in _pieces(text))
        return min(self.natural, max(_TEXT, min(_WORD, max(words, default=0))))


def draw(columns: Sequence[Column], width: int | None = None) -> str:
    """Return a table as text.

    Parameters
    ----------
    columns
        Of one length each.
    width
        What the terminal is wide; None for a pipe, where a table takes what it needs.

    Returns
    -------
    str
        For a pipe the table as it is. On a terminal columns in which all rows agree are said above. The others are
        as they are, if they fit. Else headings and texts are broken, and those that matter least are left out and named
        below. Where even that does not fit, every row becomes a block of lines, with each of these columns.

    Examples
    --------
    >>> print(draw([Column("name", ("beta", "gamma"), False), Column("median", ("0.46", "5.6"), True)]))
     name    median
     ──────────────
     beta      0.46
     gamma      5.6
    """
    if width is None:
        return _table(columns, [column.natural for column in columns], gap=3)
    same, kept = _parted(columns)
    above = _lines(_told(same), width)
    if _fits([column.natural for column in kept], width, gap=3):
        return "\n".join([*above, _table(kept, [column.natural for column in kept], gap=3)])
    blocks = "\n".join([*above, _blocks(kept, width)])
    kept = [_broken_heading(column) for column in kept]
    left_out: list[str] = []
    for column in _leaving(kept):
        if len(column.texts) == 1 or _fits([column.least for column in kept], width):
            break
        kept.remove(column)
        left_out.append(column.name)
    if not kept or not _fits([column.least for column in kept], width):
        return blocks
    missing = f"Not shown, for want of room: {', '.join(left_out)}. A wider terminal or a pipe shows them."
    below = [missing] if left_out else []
    kept, widths = _widened(kept, width)
    return "\n".join([*above, _table(kept, widths, gap=2), *_lines(below, width)])


def _parted(columns: Sequence[Column]) -> tuple[list[Column], list[Column]]:
    """Return the columns in which all rows agree, but for answers, and the others; those of one row stay together."""
    many = [column for column in columns if len(column.texts) > 1]
    same = [column for column in many if len(set(column.texts)) == 1 and column.name not in _ANSWERS]
    others = [column for column in columns if column not in same]
    return (same, others) if others else ([], list(columns))


def _told(same: Sequence[Column]) -> list[str]:
    told = [f"{column.name} {column.texts[0]}" for column in same if column.texts[0]]
    return [f"In every row: {'; '.join(told)}"] if told else []


def _fits(widths: Sequence[int], width: int, gap: int = 2) -> bool:
    return 1 + sum(widths) + gap * (len(widths) - 1) <= width


def _leaving(columns: Sequence[Column]) -> list[Column]:
    """Return the columns that a table can do without, the first to leave first."""
    names = {column.name for column in columns}
    keep = _NEVER if "median" in names else _NEVER | {"mean", "sd"}
    first: tuple[str, ...] = _FIRST
    if "format" in names:
        keep, first = keep - {*_OF_FORMATS, "qid"}, (*_FIRST, *_OF_FORMATS)
    free = [column for column in reversed(columns) if column.name not in keep]
    return sorted(free, key=lambda column: first.index(column.name) if column.name in first else len(first))


def _broken_heading(column: Column) -> Column:
    """Break a name that is wider than its texts after its underscores."""
    room = max(map(cell_len, column.texts), default=0)
    parts = re.findall("[^_]+_?|_", column.name)
    return replace(column, heading="\n".join(_filled(parts, max(room, *map(len, parts)))))


def _widened(columns: Sequence[Column], width: int) -> tuple[list[Column], list[int]]:
    """Give each column what it needs, texts what is left, the same to each that wants it, and then headings."""
    widths = [column.least for column in columns]
    room = width - 1 - sum(widths) - 2 * (len(widths) - 1)
    while room > 0:
        wanting = [i for i, column in enumerate(columns) if widths[i] < column.natural]
        if not wanting:
            break
        widths[min(wanting, key=lambda i: widths[i])] += 1
        room -= 1
    found = list(columns)
    missing = [max(cell_len(column.name) - has, 0) for column, has in zip(columns, widths, strict=True)]
    for i in sorted(range(len(found)), key=missing.__getitem__):
        if missing[i] <= room:  # the name on one line
            found[i] = replace(found[i], heading="")
            widths[i] += missing[i]
            room -= missing[i]
    return found, widths


def _table(columns: Sequence[Column], widths: Sequence[int], gap: int) -> str:
    headings = [(column.heading or column.name).split("\n") for column in columns]
    deep = max(map(len, headings))
    rows = [[[""] * (deep - len(heading)) + heading for heading in headings]]
    for texts in zip(*(column.texts for column in columns), strict=True):
        rows.append([_broken(text, width) for text, width in zip(texts, widths, strict=True)])
    lines: list[str] = []
    for i, row in enumerate(rows):
        for parts in zip_longest(*row, fillvalue=""):
            padded = [
                " " * (width - cell_len(part)) + part if column.numeric else set_cell_size(part, width)
                for part, width, column in zip(parts, widths, columns, strict=True)
            ]
            lines.append((" " + (" " * gap).join(padded)).rstrip())
        if i == 0:
            lines.append(" " + "─" * (sum(widths) + gap * (len(widths) - 1)))
    return "\n".join(line for line in lines if line)


def _blocks(columns: Sequence[Column], width: int) -> str:
    """Return a block of lines for each row: a column a line."""
    margin = 1 + max(cell_len(column.name) for column in columns) + 2
    blocks = []
    for texts in zip(*(column.texts for column in columns), strict=True):
        lines = []
        for column, text in zip(columns, texts, strict=True):
            if text:
                first, *others = _broken(text, max(width - margin, 8))
                lines.append(f" {set_cell_size(column.name, margin - 1)}{first}")
                lines += [" " * margin + other for other in others]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _lines(texts: Sequence[str], width: int) -> list[str]:
    return [" " + line for text in texts for line in _broken(text, width - 1)]


def _broken(text: str, width: int) -> list[str]:
    """Break a text into lines of at most some width: between words, after a slash, comma or hyphen, or anywhere."""
    if cell_len(text) <= width:
        return [text]
    pieces = [
        part for piece in _pieces(text) for part in (chop_cells(piece, width) if cell_len(piece) > width else [piece])
    ]
    return _filled(pieces, width)


def _filled(pieces: Sequence[str], width: int) -> list[str]:
    lines = [""]
    for piece in pieces:
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _pieces(text: str) -> list[str]:
    return re.findall(r"[^ /,]*[ /,]+|[^ /,]+", text)
