"""Warn of groups that a question names and no fitted row has: they are answered as new groups."""

from collections.abc import Sequence

import polars as pl

from qidbayes.errors import nearest
from qidbayes.methods import BITS, type_of

_NAMED = ("suite", "model", "method", "group_size", "dataset")
_SHOWN = 6
_OFF = 0.15
"""How far the bits of one type lie apart in models of different make, as a share."""


def unfitted(data: pl.DataFrame, frame: pl.DataFrame, matter: Sequence[str]) -> list[str]:
    """Return a sentence for each column of a question that names what no fitted row has.

    Parameters
    ----------
    data
        The rows that were fitted.
    frame
        The questions.
    matter
        The columns that the answer depends on.

    Examples
    --------
    >>> data = pl.DataFrame({"suite": ["pythia"], "method": ["gptq"]})
    >>> unfitted(data, pl.DataFrame({"suite": ["pythai"], "method": ["gptq"]}), ["suite", "method"])
    ["suite 'pythai' was not fitted: answered as of a new suite; did you mean 'pythia'?"]
    """
    columns = [name for name in _NAMED if name in matter and name in frame.columns and name in data.columns]
    told = []
    for column in columns:
        known = data[column].unique(maintain_order=True).to_list()
        asked = frame[column].unique(maintain_order=True).to_list()
        # A question that leaves a name empty does not ask of a new one; an empty group size is per channel.
        new = [value for value in asked if value not in known and (value is not None or column == "group_size")]
        if new:
            more = f" and {len(new) - 1} more" if len(new) > 1 else ""
            verb = "were" if more else "was"
            told.append(
                f"{column} {_text(new[0])}{more} {verb} not fitted: answered as of a new {column}; "
                f"{_instead(new[0], known)}"
            )
    if "settings" in matter and {"settings", "bits"} <= set(frame.columns):
        told += _other_bits(frame)
    return told or _together(data, frame, [name for name in columns if name in ("method", "group_size", "dataset")])


def _other_bits(frame: pl.DataFrame) -> list[str]:
    """Name the first GGUF type that is asked about at bits which its files do not have."""
    for settings, bits in frame.select("settings", "bits").drop_nulls().unique(maintain_order=True).iter_rows():
        usual = BITS.get(type_of(str(settings)))
        if usual and abs(bits / usual - 1.0) > _OFF:
            return [f"files of {settings} have about {usual:g} bits a weight, and {bits:g} were asked about"]
    return []


def _together(data: pl.DataFrame, frame: pl.DataFrame, columns: list[str]) -> list[str]:
    """Name the first kind of quantization whose parts were fitted, and not together."""
    if len(columns) < 2:
        return []
    known = {_key(row) for row in data.select(columns).unique().iter_rows()}
    for row in frame.select(columns).unique(maintain_order=True).iter_rows():
        named = dict(zip(columns, row, strict=True))
        if _key(row) not in known and all(value is not None or name == "group_size" for name, value in named.items()):
            parts = ", ".join(f"{name} {_text(value)}" for name, value in named.items())
            return [f"{parts} were not fitted together: answered as of a new kind of quantization"]
    return []


def _key(row: Sequence[object]) -> tuple[object, ...]:
    return tuple(float(value) if isinstance(value, int) else value for value in row)


def _text(value: object) -> str:
    return (
        "null (per channel, or unknown)" if value is None else f"{value:g}" if isinstance(value, float) else repr(value)
    )


def _instead(value: object, known: Sequence[object]) -> str:
    if near := nearest(value, known):
        return f"did you mean {near!r}?"
    return f"fitted: {', '.join(map(_text, known[:_SHOWN]))}" + (", …" if len(known) > _SHOWN else "")
