"""Renew the tables that the README shows of `make demo`: `make readme`, which pipes into this what the demo prints.

The README keeps its titles and its choice of rows; every number is as it was printed.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?<=^```text\n).*?(?=^```)", re.M | re.S)


def tables(text: str) -> dict[str, list[str]]:
    """Return the tables of a text by their titles: the header, the rule below it, and the rows, as lines."""
    parts = [part.split("\n") for part in re.split(r"\n\s*\n", text.strip("\n"))]
    return {title: lines for title, *lines in parts if len(lines) > 2}


def key(row: str, header: str) -> list[str]:
    """Return what a row is of: its name, or the three numbers of its question."""
    return row.split()[: 1 if header.split()[0] == "name" else 3]


def abridged(block: str, printed: str) -> str:
    """Return a block with its rows as they were printed now.

    Raises
    ------
    ValueError
        If a table or a row of the block was not printed.
    """
    now, found = tables(printed), []
    for title, (header, _, *rows) in tables(block).items():
        if title not in now:
            raise ValueError(f"no table is called {title!r}")
        kept = now[title][:2]
        for row in rows:
            kept += [line for line in now[title][2:] if key(line, kept[0]) == key(row, header)]
        if len(kept) != len(rows) + 2:
            raise ValueError(f"{title}: not every row was printed, or some twice")
        found.append("\n".join([title, *kept]) + "\n")
    return "\n".join(found)


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    (block,) = BLOCK.findall(text)
    README.write_text(text.replace(block, abridged(block, sys.stdin.read())), encoding="utf-8")
