"""The exception that a user's mistake raises, helpers for its message, and the warnings that go with answers."""

import difflib
import re
from collections.abc import Iterable

# What a terminal obeys: C0 but for tabs and line ends, DEL, C1, and marks and overrides of the writing direction.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text without what a terminal would obey; it may quote somebody else's file.

    Examples
    --------
    >>> printable("a model\\x1b]0;title\\x07, \\u202elaw")
    'a model]0;title, law'
    """
    return _OBEYED.sub("", text)


def nearest(name: object, known: Iterable[object]) -> str | None:
    """Return the known name that a misspelt one is nearest to, whatever its case; None if it is near to none.

    Examples
    --------
    >>> nearest("GTPQ ", ["awq", "gptq", "rtn"])
    'gptq'
    """
    names = {one.lower(): one for one in known if isinstance(one, str)}
    near = difflib.get_close_matches(str(name).strip().lower(), names, n=1)
    return names[near[0]] if near else None


class InputError(ValueError):
    """A table, law, plan, saved fit or option that cannot be used as it is.

    The message names what was wrong and where (file, row, column, option) and what would be accepted.
    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class _Warning(UserWarning):
    """May quote somebody else's file, and so leaves out what a terminal would obey."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class DataWarning(_Warning):
    """A table says something legal that was probably not meant; it was fitted all the same."""


class TableWarning(_Warning):
    """Something was read as a table, and not all of it could be used or some of it was taken for granted."""


class DiagnosticsWarning(_Warning):
    """An answer comes from a fit whose checks failed, or whose prior and data disagree."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ExtrapolationWarning(_Warning):
    """An answer is of a kind that nothing was measured of, such as a bit width beyond all that were fitted."""


class AssumptionWarning(_Warning):
    """An answer takes something for granted that neither the question nor the fit says."""


class UnfittedWarning(DiagnosticsWarning):
    """An answer is of a method, a suite or another group that no fitted row has: as wide as these differ."""


class SlowWarning(_Warning):
    """Sampling will take more than a minute; the message says about how long."""
