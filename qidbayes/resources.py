"""Where the shipped laws and tables are: inside the installed package, or beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Return the folder `models` or `measurements` as it was shipped with this package.

    A wheel carries both inside the package; an editable install finds them beside it, in the checkout.
    """
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
