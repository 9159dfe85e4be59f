"""Count the sentences that are too long to be understood the first time: `python docs/sentences.py`, in `make docs`.

A sentence ends at a full stop, a question mark or the end of its paragraph, item or cell. Code blocks, tables, links'
addresses and formulas are not counted as words.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONG = 30
"""Words beyond which a sentence is counted."""
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md",
    *sorted((ROOT / "measurements").rglob("README.md")),
]  # fmt: skip
_ABBREVIATIONS = re.compile(r"\b(?:e\.g|i\.e|et al|vs|cf|approx|Fig|Eq|Eqs|No|Sec)\.(?=\s)")


def sentences(text: str) -> list[str]:
    """Return the sentences of a page in Markdown.

    Examples
    --------
    >>> sentences("A list of [two](there.md):\\n\\n- One `x = 1.5` here. Two.\\n- Three")
    ['A list of two:', 'One x here.', 'Two.', 'Three']
    """
    text = re.sub(r"^(`{3,}).*?^\1\s*$", "", text, flags=re.M | re.S)
    text = re.sub(r"`[^`]*`", "x", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    found: list[str] = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*:]|\d+\.)\s)", text):
        plain = " ".join(line.strip() for line in block.splitlines() if not re.match(r"\s*(\||#|\S+\s*=)", line))
        plain = re.sub(r"^(?:[-*:>]|\d+\.)\s+|[*_]{1,2}(?=\w)|(?<=\w)[*_]{1,2}", "", plain)
        plain = _ABBREVIATIONS.sub(lambda match: match[0][:-1], plain)
        found += [part.strip() for part in re.split(r"(?<=[.?!])\s+(?=[\"'(A-Z*`0-9x])", plain) if part.strip()]
    return found


def long_sentences(path: Path) -> list[str]:
    """Return a page's sentences of more than 30 words."""
    return [one for one in sentences(path.read_text(encoding="utf-8")) if len(one.split()) > LONG]


def main() -> None:
    """Print how many there are on each page, and with `--list` which."""
    total = 0
    for path in PAGES:
        found = long_sentences(path)
        total += len(found)
        if found and "--list" in sys.argv:
            print(f"{path.relative_to(ROOT)}: {len(found)}")
            for one in found:
                print(f"  {len(one.split())}: {one}")
    every = sum(len(sentences(path.read_text(encoding="utf-8"))) for path in PAGES)
    print(f"{total} of {every} sentences have more than {LONG} words (python docs/sentences.py --list)")


if __name__ == "__main__":
    main()
