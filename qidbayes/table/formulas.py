"""Text in CSV files that a spreadsheet would run: ``=HYPERLINK(…)`` in somebody's model name, say.

What a spreadsheet takes for the start of a formula stands behind an apostrophe, which makes it text there. Reading
takes the apostrophe off again. A text that has apostrophes before such a start gets one more, so that nothing is lost.
"""

import polars as pl

_STARTS = r"[=+\-@\t\r\n]"


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame to be written as CSV, with no field that a spreadsheet would run. Numbers stay as they are.

    Examples
    --------
    >>> as_text(pl.DataFrame({"model": ["=1+1", "7B", "'-x"], "qid": [-0.1, 0.2, 0.3]})).rows()
    [("'=1+1", -0.1), ('7B', 0.2), ("''-x", 0.3)]
    """
    return frame.with_columns(pl.col(pl.String).str.replace(f"^('*{_STARTS})", "'$1"))


def as_written(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the texts of a CSV file as they were before `as_text`.

    Examples
    --------
    >>> as_written(pl.DataFrame({"model": ["'=1+1", "7B", "''-x", "'quoted'"]}))["model"].to_list()
    ['=1+1', '7B', "'-x", "'quoted'"]
    """
    return frame.with_columns(pl.col(pl.String).str.replace(f"^'('*{_STARTS})", "$1"))
