"""Reading a TOML table strictly: every key by kind, every mistake named with its place, no key ignored."""

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError
from qidbayes.toml import parse_toml
from qidbayes.units import parse_count

LARGEST = 2**63 - 1  # what a column of whole numbers holds
LONGEST = 4_096  # characters of a text: the longest path
_MAX_BYTES = 1_000_000  # of a file: the characters that `parse_toml` takes, four bytes each


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are accepted, the likeliest first.

    Examples
    --------
    >>> nearest("gtpq", ["awq", "gptq", "rtn"])
    'did you mean gptq? Accepted: awq, gptq, rtn'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return (f"did you mean {close[0]}? " if close else "") + f"Accepted: {', '.join(known)}"


class Section:
    """One table of a declaration; keys are taken from it one by one, and `close` refuses the ones nobody took.

    Parameters
    ----------
    values
        What TOML held.
    where
        How messages name this table: the file, then the table.
    """

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self._values = dict(values)
        self._asked: set[str] = set()
        self.where = where

    @classmethod
    def from_file(cls, path: Path) -> "Section":
        """Read a TOML file.

        Raises
        ------
        InputError
            If it cannot be read, is no plain file, or is not TOML.
        """
        try:
            text = read_bounded(path, _MAX_BYTES, "a plan").decode("utf-8-sig")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give the path of a TOML file") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a TOML file: {error}") from error
        return cls(parse_toml(text, str(path)), str(path))

    @property
    def values(self) -> dict[str, object]:
        """What TOML held."""
        return dict(self._values)

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._values

    def wrong(self, key: str, accepted: str) -> InputError:
        """The error for a key that holds something else than `accepted`."""
        if key not in self._values:
            return InputError(f"{self.where}: {key} is missing; give {accepted}")
        return InputError(f"{self.where}: {key} = {self._values[key]!r}; give {accepted}")

    def _take(self, key: str) -> object:
        self._asked.add(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A string, not empty."""
        value = self._take(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a string")
        if len(value) > LONGEST:
            raise InputError(f"{self.where}: {key} has {len(value):,} characters; give at most {LONGEST:,}")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string, or nothing."""
        return self.text(key) if key in self else None

    def choice(self, key: str, accepted: Iterable[str], default: str | None = None) -> str:
        """One of a few names, which are in lower case; upper case is read as lower case."""
        value = self.text(key, default).lower()
        if value not in (accepted := list(accepted)):
            raise InputError(f"{self.where}: {key} = {value!r} is not known; {nearest(value, accepted)}")
        return value

    def count(self, key: str, default: int | None = None, minimum: int = 1) -> int:
        """A whole number, written as one or the way people say it: `2_000_000`, `"2T"`."""
        value = self._take(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str):
            value = int(parse_count(value))
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= LARGEST:
            raise self.wrong(key, f"a whole number of at least {minimum}")
        return value

    def optional_count(self, key: str) -> int | None:
        """A whole number, or nothing."""
        return self.count(key) if key in self else None

    def number(self, key: str, default: float | None = None) -> float:
        """A number that is not negative."""
        value = self._take(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= sys.float_info.max:
            raise self.wrong(key, "a number that is not negative")
        return float(value)

    def many(self, key: str, accepted: str) -> list[object]:
        """A value or a list of them, not empty; each of them is the caller's to check."""
        value = self._take(key)
        values = value if isinstance(value, list) else [value]
        if not values or None in values:
            raise self.wrong(key, accepted)
        return values

    def size(self, key: str) -> int:
        """How many values `many` would return; 1 for what it refuses. The key counts as not asked for."""
        value = self._values.get(key)
        return max(1, len(value)) if isinstance(value, list) else 1

    def section(self, key: str) -> "Section":
        """A table inside this one."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table, [{key}]")
        return Section(value, f"{self.where}: [{key}]")

    def sections(self, key: str) -> list["Section"]:
        """A list of tables inside this one, not empty."""
        values = self._take(key)
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
                raise InputError(f"{self.where}: the key {key} is not known; {nearest(key, self._asked)}")
