"""Write a figure to a file."""

import os
from pathlib import Path

from matplotlib.figure import Figure

from qidbayes.atomic import replacing
from qidbayes.errors import InputError
from qidbayes.plots import style

# What would otherwise hold the time of writing.
_METADATA: dict[str, dict[str, str | None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a `.png` (200 dots per inch), `.svg` or `.pdf` file, whole or not at all.

    The same figure gives the same bytes on the same machine.

    Raises
    ------
    InputError
        If the suffix names no format of these, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "empty.svg")
    >>> save(Figure(), path)
    >>> path.read_text().startswith("<?xml")
    True
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise InputError(f"{path}: not the name of a figure; give a file that ends in {', '.join(_METADATA)}")
    with replacing(path) as beside, style.context():
        figure.savefig(beside, format=suffix[1:], metadata=_METADATA[suffix])
