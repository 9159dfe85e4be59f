"""TOML that somebody else may have written, read within bounds."""

import tomllib
from typing import Any

from qidbayes.errors import InputError

_MAX_CHARACTERS = 250_000
_MAX_DOTS = 400  # in a line: the time tomllib takes for a dotted key grows with the square of its parts


def parse_toml(text: str, where: str, limit: int = _MAX_CHARACTERS) -> dict[str, Any]:
    """Read TOML text of at most `limit` characters.

    Raises
    ------
    InputError
        If it is not TOML, or too long or too deep to be what a person wrote.

    Examples
    --------
    >>> parse_toml("bits = [2, 3]", "plan.toml")
    {'bits': [2, 3]}
    """
    text = text.removeprefix("\ufeff")  # the byte-order mark of Windows' editors
    if len(text) > limit:
        raise InputError(f"{where}: is longer than {limit} characters; nobody writes that by hand")
    if any(line.count(".") > _MAX_DOTS for line in text.splitlines()):
        raise InputError(f"{where}: a line has too many dots (more than {_MAX_DOTS})")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{where}: is not valid TOML: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is what a number of 5,000 digits raises
        raise InputError(f"{where}: is not valid TOML: {error}") from None
