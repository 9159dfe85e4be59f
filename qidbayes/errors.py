"""The one exception a user's mistake raises."""


class InputError(ValueError):
    """A table, law, plan, saved fit or option that cannot be used as it is.

    The message names what was wrong and where (file, row, column, option) and what would be accepted.
    The command line prints it without a traceback and exits with status 2.
    """
