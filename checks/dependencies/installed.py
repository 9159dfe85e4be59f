"""What is installed because qidbayes asks for it, directly or not."""

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(root: str, extras: tuple[str, ...] = ()) -> Iterator[Distribution]:
    """Yield the distributions that `root` with these extras needs on this machine, itself not among them."""
    seen: set[tuple[str, str]] = set()
    asked = [(root, ("", *extras))]
    told: set[str] = set()
    while asked:
        name, wanted = asked.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform or Python
        if canonicalize_name(name) not in {*told, canonicalize_name(root)}:
            told.add(canonicalize_name(name))
            yield found
        for extra in wanted:
            if (canonicalize_name(name), extra) in seen:
                continue
            seen.add((canonicalize_name(name), extra))
            for line in found.requires or ():
                need = Requirement(line)
                if need.marker is None or need.marker.evaluate({"extra": extra}):
                    asked.append((need.name, ("", *need.extras)))
