"""A model's config.json as plain values, read before what could make the model is imported, which takes seconds."""

import json
from pathlib import Path
from typing import Any

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError

_MOST = 2**20  # bytes of a config.json
_MOST_LAYERS, _MOST_MODULES = 2_000, 200_000  # what is made of a layer takes memory, even without weights
_LARGEST = 10**9  # of any number in a configuration


def read_plain(path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a model's config.json, given as itself or by its folder, and the values in it.

    Raises
    ------
    InputError
        If there is none, or it would take unbounded memory to make a model of it.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{file}: no such file; give a model's config.json, or a folder that has one")
    try:
        given = json.loads(read_bounded(file, _MOST, "a config.json"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: not a config.json that can be read ({str(error)[:200]})") from error
    if not isinstance(given, dict):
        raise InputError(f"{file}: not a config.json; it must hold an object")
    layers, experts = 1, 1
    for name, value in _numbers(given):
        if not abs(value) <= _LARGEST:  # nor is one that is no number
            raise InputError(f"{file}: {name} = {value!r:.40}; no model is that large")
        if "layers" in name or name in ("n_layer", "depth", "num_blocks"):
            layers = max(layers, int(value))
        if "expert" in name:
            experts = max(experts, int(value))
    if layers > _MOST_LAYERS or layers * experts > _MOST_MODULES:
        raise InputError(
            f"{file}: {layers:,} layers of {experts:,} experts; at most {_MOST_LAYERS:,} layers are counted"
        )
    return file, given


def _numbers(given: Any, name: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    stack: list[tuple[str, Any]] = [(name, given)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += [(str(inner), part) for inner, part in value.items()]
        elif isinstance(value, list):
            stack += [(key, part) for part in value]
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in _UNBOUNDED:
            found.append((key, value))
    return found


_UNBOUNDED = ("max_window_layers", "model_max_length", "max_position_embeddings", "sliding_window", "seed")
"""Numbers that may be large and of which no parameter is made, or a few."""
