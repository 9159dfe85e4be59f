"""How large a model is, from its configuration alone: nothing is downloaded, and no weight is made."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.active import active_parameters
from qidbayes.measure.inputs.checkpoint import count_parameters, read_config
from qidbayes.measure.inputs.language_model import auto_class, ends
from qidbayes.table.catalogue import shipped_tokens

_MOST = 2**20  # bytes of a config.json
_MOST_LAYERS, _MOST_MODULES = 2_000, 200_000  # what is made of a layer takes memory, even without weights
_LARGEST = 10**9  # of any number in a configuration
_MOST_CARD = 2**22
_SHIPPED = "a model of that name in the shipped tables"
_TRAINED = re.compile(
    r"(?<![0-9.])(?P<number>[0-9]{1,6}(?:\.[0-9]{1,4})?)\s{0,3}(?P<unit>T|B|trillion|billion)"
    r"[\s-]{1,3}(?:\w{1,30}\s{1,3}){0,3}?tokens",
    re.I,
)


@dataclass(frozen=True)
class Size:
    """What a configuration says of a model's size, in counts.

    Attributes
    ----------
    model
        What the model is called: its repository if the configuration says so, else its folder.
    n_params
        Parameters outside token embedding and output head, those of all experts: the N of laws.
    active
        Of these, what one token uses: all but the experts that are not chosen for it. None if the configuration does
        not say how many are chosen.
    embeddings
        Parameters of token embedding and output head; tied ones count once.
    tokens, said
        Training tokens, where the folder's card (README.md) says them or a shipped table has a model of that name at
        one count of tokens; and the card's words, or that it was a table.
    """

    model: str
    n_params: int
    active: int | None
    embeddings: int
    tokens: float | None
    said: str | None


def size_of(path: Path) -> Size:
    """Count a model's parameters from its config.json, on PyTorch's meta device.

    Parameters
    ----------
    path
        A ``config.json``, or the folder that holds one.

    Raises
    ------
    InputError
        If there is none, or transformers can make no language model of it. Code that it names is not run.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{file}: no such file; give a model's config.json, or a folder that has one")
    given = _plain(file)
    try:
        config = read_config(file)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the size is that of the model before
        with torch.device("meta"):
            model = auto_class(config).from_config(config)
    except MeasureError as error:
        raise InputError(str(error)) from error
    except Exception as error:  # transformers says by whatever its code happens to raise that it cannot
        lines = str(error).strip().splitlines()
        raise InputError(f"{file}: describes no model ({lines[0][:300] if lines else type(error).__name__})") from error
    total = count_parameters(model)
    outside = {id(p): p.numel() for end in ends(model) for p in end.parameters()}
    kept = given.get("_name_or_path")
    name = kept if isinstance(kept, str) and kept else file.resolve().parent.name
    tokens, said = _card(file.with_name("README.md"))
    known = shipped_tokens().get(name.rpartition("/")[2].lower())
    if tokens is None and known is not None:
        tokens, said = float(known), _SHIPPED
    return Size(
        model=name,
        n_params=total,
        active=active_parameters(model),
        embeddings=sum(outside.values()),
        tokens=tokens,
        said=said,
    )


def _plain(file: Path) -> dict[str, Any]:
    """Return a configuration's values, refusing what would take unbounded memory to make a model of."""
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
    return given


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


def _card(path: Path) -> tuple[float | None, str | None]:
    """Return the training tokens of a model card: the most that it says, which are not checked."""
    if not path.is_file():
        return None, None
    text = read_bounded(path, _MOST_CARD, "a model card").decode("utf-8", "replace")
    found = []
    for match in _TRAINED.finditer(text):
        around = text[max(0, match.start() - 120) : match.end() + 60].lower()
        if "train" in around:
            scale = 1e12 if match["unit"].lower().startswith("t") else 1e9
            found.append((float(match["number"]) * scale, " ".join(match[0].split())))
    tokens, words = max(found, default=(None, None))
    return tokens, words and f"its {path.name}, “{words}”"
