"""TOML that somebody else may have written, read strictly: within bounds, by kind, every mistake with its key."""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError, nearest
from qidbayes.units import parse_count

LARGEST = 2**63 - 1  # what a column of whole numbers holds
LONGEST = 4_096  # characters of a text: the longest path
_MAX_CHARACTERS = 250_000
_MAX_DOTS = 400  # in a line: the time tomllib takes for a dotted key grows with the square of its parts
_MAX_SHOWN = 200  # characters of a wrong value


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


def read_toml(path: Path, what: str, most: int) -> dict[str, Any]:
    """Read a TOML file that should hold `what`, of at most so many bytes.

    Raises
    ------
    InputError
        If it cannot be read, is no plain file, or is not TOML.
    """
    try:
        text = read_bounded(path, most, what).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a TOML file that holds {what}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    return parse_toml(text, str(path), min(most, _MAX_CHARACTERS))


def accepted(name: str, known: Iterable[str]) -> str:
    """Say which names are accepted in the place of another, the likeliest first.

    Examples
    --------
    >>> accepted("gtpq", ["awq", "gptq", "rtn"])
    'did you mean gptq? Accepted: awq, gptq, rtn'
    """
    known = sorted(known)
    near = nearest(name, known)
    return (f"did you mean {near}? " if near else "") + f"Accepted: {', '.join(known)}"


class Section:
    """One table of a declaration; keys are taken from it one by one, and `close` refuses the ones nobody took.

    Parameters
    ----------
    values
        What TOML held.
    where
        How messages name the file, or the entry of a list of tables.
    name
        The table's name within that, as TOML writes it.
    """

    def __init__(self, values: Mapping[str, object], where: str, name: str = "") -> None:
        self._values = dict(values)
        self._asked: set[str] = set()
        self._outside, self._name = where, name

    @property
    def where(self) -> str:
        """How messages name this table."""
        return f"{self._outside}: [{self._name}]" if self._name else self._outside

    @property
    def values(self) -> dict[str, object]:
        """What TOML held."""
        return dict(self._values)

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def wrong(self, key: str, give: str) -> InputError:
        """The error for a key that holds something else than what `give` says."""
        if key not in self._values:
            near = nearest(key, [other for other in self._values if other not in self._asked])
            meant = f"; {near} is there: did you mean {key}?" if near else ""
            return InputError(f"{self.where}: {key} is missing; give {give}{meant}")
        shown = repr(self._values[key])
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
        return InputError(f"{self.where}: {key} = {shown}; give {give}")

    def value(self, key: str) -> object:
        """Whatever it is, which is then the caller's to check; None where there is nothing."""
        self._asked.add(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A string; an empty one only where that is the default."""
        value = self.value(key)
        if default is not None and value in (None, default):
            return default
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a string")
        if len(value) > LONGEST:
            raise InputError(f"{self.where}: {key} has {len(value):,} characters; give at most {LONGEST:,}")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string, or nothing."""
        return self.text(key) if key in self else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, which may be empty."""
        values = self.value(key)
        if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of strings")
        return tuple(values)

    def choice(self, key: str, known: Iterable[str]) -> str:
        """One of a few names, which are in lower case; upper case is read as lower case."""
        value = self.text(key).lower()
        if value not in (known := list(known)):
            raise InputError(f"{self.where}: {key} = {value!r} is not known; {accepted(value, known)}")
        return value

    def count(self, key: str, default: int | None = None, minimum: int = 1) -> int:
        """A whole number, written as one or the way people say it: `2_000_000`, `"2T"`."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str):
            value = int(parse_count(value))
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= LARGEST:
            raise self.wrong(key, f"a whole number of at least {minimum}")
        return value

    def number(self, key: str, default: float | None = None, minimum: float = -sys.float_info.max) -> float:
        """A finite number as it was written: whole ones stay so."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not minimum <= value <= sys.float_info.max:  # type: ignore[operator]
            raise self.wrong(key, "a finite number" if minimum < 0 else f"a number of at least {minimum:g}")
        return value  # type: ignore[return-value]

    def many(self, key: str, give: str) -> list[object]:
        """A value or a list of them, not empty; each of them is the caller's to check."""
        value = self.value(key)
        values = value if isinstance(value, list) else [value]
        if not values or None in values:
            raise self.wrong(key, give)
        return values

    def size(self, key: str) -> int:
        """How many values `many` would return; 1 for what it refuses. The key counts as not asked for."""
        value = self._values.get(key)
        return max(1, len(value)) if isinstance(value, list) else 1

    def section(self, key: str, *, optional: bool = False) -> "Section":
        """A table inside this one; empty where it is optional and not there."""
        value = self.value(key)
        name = f"{self._name}.{key}" if self._name else key
        if value is None and optional:
            value = {}
        if not isinstance(value, Mapping):
            raise self.wrong(key, f"a table, [{name}]")
        return Section(value, self._outside, name)

    def sections(self, key: str) -> list["Section"]:
        """A list of tables inside this one, not empty."""
        values = self.value(key)
        if not isinstance(values, list) or not values or not all(isinstance(v, dict) for v in values):
            raise self.wrong(key, f"one or more tables, [[{key}]]")
        return [Section(value, f"{self.where}: [[{key}]] {n}") for n, value in enumerate(values, 1)]

    def rest(self) -> dict[str, object]:
        """What has not been asked for yet; asking settles it."""
        left = {key: value for key, value in self._values.items() if key not in self._asked}
        self._asked.update(left)
        return left

    def close(self) -> None:
        """Refuse keys that nothing asked for.

        Raises
        ------
        InputError
            Naming the first of them and the nearest key that would be accepted.
        """
        for key in self._values:
            if key not in self._asked:
                raise InputError(f"{self.where}: the key {key} is not known; {accepted(key, self._asked)}")
