"""What `backtest` and `compare` print below a table of the fits behind it."""

from typing import TYPE_CHECKING

from qidbayes.cli.output import say

if TYPE_CHECKING:
    import polars as pl


def say_notes(scores: "pl.DataFrame") -> None:
    """Print each note of a backtest's fits once, with the laws and folds that it is of: why one has no scores, say."""
    found: dict[str, list[str]] = {}
    for note, law, fold in scores.select("note", "law", "fold").drop_nulls("note").iter_rows():
        found.setdefault(note, []).append(f"{law}, {fold}")
    for note, of in found.items():
        say(f"{note} ({'; '.join(of)})")
