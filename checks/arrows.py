"""Check that imports run one way: `python checks/arrows.py`, which `make lint` does.

A module may import modules of its own layer and of layers below. `measure` stands beside the modelling half: it imports
tables, laws and the small files, and only the command line imports it. No modules import each other in a circle. Every
`import` counts, also one inside a function or under `TYPE_CHECKING`.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "qidbayes"
SMALL = "small files"
LAYERS = (
    "cli", PACKAGE, "reports", "plots", "score", "decide", "infer", "posterior", "noise", "law", "table", SMALL,
)  # fmt: skip
"""From the top; the package's own `__init__` is called by its name, and files beside the folders are small files."""
BESIDE = {"measure": ("law", "table", SMALL)}
"""What a layer beside the others may import."""

type Arrow = tuple[str, str]


def arrows(root: Path) -> Iterator[Arrow]:
    """Return who imports whom among the modules of a package, by their full names."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [module if module in modules else str(node.module) for module in inside]
            else:
                continue
            yield from ((name, module) for module in dict.fromkeys(found) if module in modules)


def layer(module: str, root: Path) -> str:
    """Return the layer that a module belongs to."""
    first = module.split(".")[1] if "." in module else module
    if first in ("__main__", root.name):
        return "cli" if first == "__main__" else PACKAGE
    return first if (root / first).is_dir() else SMALL


def goes_up(arrow: Arrow, root: Path) -> bool:
    """Return whether an arrow leads to a layer that its importer may not import."""
    importer, imported = (layer(module, root) for module in arrow)
    if importer == imported:
        return False
    if importer in BESIDE:
        return imported not in BESIDE[importer]
    if imported in BESIDE:
        return importer != "cli"
    return LAYERS.index(importer) > LAYERS.index(imported)


def circle(arrows: list[Arrow]) -> list[str]:
    """Return modules that import each other, the first one also at the end; empty if there are none."""
    graph: dict[str, set[str]] = {}
    for importer, imported in arrows:
        graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]  # it names who is imported first
    return []


def problems(root: Path) -> list[str]:
    """Return a sentence for each arrow that goes up, and for a circle."""
    if unknown := {path.parent.name for path in root.glob("*/*.py")} - {*LAYERS, *BESIDE}:
        return [f"{name}: a folder without a layer; give it one in checks/arrows.py" for name in sorted(unknown)]
    every = list(dict.fromkeys(arrows(root)))
    found = [f"{a} imports {b}, which is above it" for a, b in every if goes_up((a, b), root)]
    if closed := circle(every):
        found.append(f"a circle of imports: {' → '.join(closed)}")
    return found


if __name__ == "__main__":
    package = Path(__file__).resolve().parents[1] / PACKAGE
    if broken := problems(package):
        sys.exit("\n".join(broken))
    print(f"imports of {PACKAGE} run one way: {' > '.join(LAYERS)}")
