"""Hold the licences of everything installed with qidbayes against a list: `python checks/dependencies/licences.py`."""

import re
import sys
from importlib.metadata import Distribution

from installed import closure

# Permissive, or (MPL) by the file: what a user of an Apache-2.0 package may expect to be able to use and pass on.
ALLOWED = (
    "MIT", "MIT-0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "ISC", "PSF-2.0", "Python-2.0", "HPND",
    "Zlib", "Unlicense", "MPL-2.0", "CC0-1.0", "MIT-CMU", "BSL-1.0", "CNRI-Python", "Apache-2.0 WITH LLVM-exception",
)  # fmt: skip
# PyTorch's CUDA runtime, which only the extra `measure` brings: proprietary, and free to use and redistribute.
RUNTIME = re.compile(r"(nvidia|cuda)[-_]")
_CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "The Unlicense (Unlicense)": "Unlicense",
}
_TEXTS = {  # how a text begins where nothing else is said
    "MIT": "MIT", "ISC": "ISC", "BSD": "BSD", "New BSD": "BSD-3-Clause", "Apache": "Apache-2.0", "MPL": "MPL-2.0",
    "License agreement for matplotlib": "PSF-2.0",
}  # fmt: skip


def licence(found: Distribution) -> str:
    """Return a distribution's licence: its expression, else its classifiers', else what its text begins with."""
    metadata = found.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [c.rsplit(" :: ", 1)[1] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    known = [_CLASSIFIERS.get(name, name) for name in classifiers if name != "OSI Approved"]
    if known:
        return " OR ".join(known)
    text = (metadata.get("License") or "").strip()
    return next(
        (name for start, name in _TEXTS.items() if text.startswith(start)), text.splitlines()[0] if text else ""
    )


def is_allowed(expression: str) -> bool:
    """Return whether every part of an expression that has to hold is on the list, one of each choice.

    Examples
    --------
    >>> is_allowed("MIT AND (GPL-3.0-only OR BSD-3-Clause)"), is_allowed("MIT AND GPL-3.0-only"), is_allowed("")
    (True, False, False)
    """
    parts = re.sub(r"[()]", " ", expression).split(" AND ")  # nobody nests deeper
    return all(any(choice.strip() in ALLOWED for choice in part.split(" OR ")) for part in parts)


def refused(extras: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """Return how many distributions there are, and those whose licence is not on the list."""
    found = {one.name: licence(one) for one in closure("qidbayes", extras)}
    wrong = [f"{name}: {says or 'says nothing'}" for name, says in sorted(found.items())
             if not is_allowed(says) and not RUNTIME.match(name)]  # fmt: skip
    return len(found), wrong


if __name__ == "__main__":
    count, wrong = refused(tuple(sys.argv[1:]))
    print(f"{count} distributions", *wrong, sep="\n")
    sys.exit(bool(wrong))
