"""Where the shipped laws and tables are, inside the installed package or beside it in a checkout; and the cache."""

from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Return the folder `models` or `measurements` as it was shipped with this package.

    A wheel carries both inside the package; an editable install finds them beside it, in the checkout.
    """
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def cache_folder() -> Path | None:
    """Return the user's folder for what can be made again; None for a user without a home.

    A home that nobody knows would be a folder called ``~`` wherever the program runs; newer platformdirs refuse it.
    """
    try:
        found = platformdirs.user_cache_path("qidbayes")
    except RuntimeError:
        return None
    return found if found.is_absolute() else None
