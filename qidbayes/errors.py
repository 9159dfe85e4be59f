"""The one exception a user's mistake raises, and the warnings that go with answers."""


class InputError(ValueError):
    """A table, law, plan, saved fit or option that cannot be used as it is.

    The message names what was wrong and where (file, row, column, option) and what would be accepted.
    The command line prints it without a traceback and exits with status 2.
    """


class DataWarning(UserWarning):
    """A table says something legal that was probably not meant; it was fitted all the same."""


class DiagnosticsWarning(UserWarning):
    """An answer comes from a fit whose checks failed, or whose prior and data disagree."""


class SlowWarning(UserWarning):
    """Sampling will take more than a minute; the message says about how long."""
