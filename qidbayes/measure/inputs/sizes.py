"""How large a model is, from its configuration alone: nothing is downloaded, and no weight is made."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.active import active_parameters
from qidbayes.measure.inputs.checkpoint import count_parameters, read_config
from qidbayes.measure.inputs.configuration import read_plain
from qidbayes.measure.inputs.language_model import auto_class, ends
from qidbayes.table.catalogue import shipped_tokens

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
    file, given = read_plain(path)
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
