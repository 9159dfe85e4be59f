"""Estimate how long sampling will take, and warn as soon as it is known to be more than a minute."""

import time
from collections.abc import Callable

GRADIENTS = 31
"""Of a transition, as a rule: a tree of five doublings."""
_SAY_FROM = 60.0
"""Seconds from which it is said."""
_LISTEN = 2.0
"""Seconds of sampling that tell the rest."""


class Pace:
    """Counts gradients over all chains, done and to be done, and estimates the time.

    Parameters
    ----------
    rows
        Of the table.
    transitions
        To be done, over all chains.
    say
        Called once, with a sentence, if sampling will take more than a minute.
    """

    def __init__(self, rows: int, transitions: int, say: Callable[[str], None]) -> None:
        self._rows, self._transitions, self._say = rows, transitions, say
        self._begun = time.monotonic()
        self._said = False

    def look(self, gradients: int) -> None:
        """Judge by the gradients that have been begun."""
        spent = time.monotonic() - self._begun
        if self._said or not gradients or spent < _LISTEN:
            return
        expected = spent / gradients * GRADIENTS * self._transitions
        self._said = True
        if expected > _SAY_FROM:
            self._say(
                f"sampling {self._rows:,} rows will take about {in_words(expected)}: {self._transitions:,} transitions "
                f"of some {GRADIENTS} gradients, {spent / gradients:.2g} s each; Ctrl-C stops it"
            )


def in_words(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> [in_words(s) for s in (80, 1900, 9000, 400_000)]
    ['1 minute', '32 minutes', '2.5 hours', '4.6 days']
    """
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} minute{'s' if round(minutes) > 1 else ''}"
    hours = minutes / 60
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
