"""A plan: which checkpoints, which quantizations, which text. Values only; `qidbayes.measure.plan.read` reads one."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qidbayes.measure.plan.methods import CHANNEL, METHODS
from qidbayes.methods import OF_FILES


def digest(value: object) -> str:
    """Return the sha256 (hexadecimal) of plain values: two that say the same have the same digest.

    Examples
    --------
    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """Where a model's files are: a repository of the Hugging Face hub, or a folder.

    Attributes
    ----------
    name
        The repository's id, or the folder as the plan wrote it.
    folder
        The folder itself; None for the hub.
    file
        The one file of it that holds the weights, where there are several to choose from (GGUF).
    """

    name: str
    folder: Path | None = None
    file: str | None = None

    def filled(self, **values: object) -> "Source":
        """Return this source with `{revision}` and the like replaced by their values."""
        filled = [self.name, str(self.folder or ""), self.file or ""]
        for key, value in values.items():
            filled = [text.replace(f"{{{key}}}", str(value)) for text in filled]
        name, folder, file = filled
        return Source(name, Path(folder) if folder else None, file or None)

    @property
    def whole_name(self) -> str:
        """The source's name; if it names a file, a slash and the file's name follow."""
        return f"{self.name}/{self.file}" if self.file else self.name


@dataclass(frozen=True)
class Checkpoint:
    """One model at one point of its training.

    Attributes
    ----------
    model
        What the table calls the model.
    source, revision
        Where its files are, and which commit, branch or tag of the hub. A folder ignores the revision once its path
        has been filled with it.
    n_params
        Non-embedding parameters; loading counts them and refuses another number.
    tokens
        Training tokens seen.
    learning_rate
        The rate at this checkpoint, where known.
    tokenizer
        Where the tokenizer is; None if it lies with the weights.
    """

    model: str
    source: Source
    revision: str
    n_params: int
    tokens: int
    learning_rate: float | None
    tokenizer: Source | None

    def __str__(self) -> str:
        """Return `model@revision`."""
        return f"{self.model}@{self.revision}"


@dataclass(frozen=True)
class Quantization:
    """One way to quantize, at one width.

    Attributes
    ----------
    name
        What the table's `method` column holds: the method, unless the plan gave another name.
    method
        One of `METHODS`.
    bits
        Nominal width of a weight.
    group_size
        Weights that share a scale; None for a whole output channel.
    settings
        Whatever else the method was given.
    recipe
        What the table's `settings` column holds: which of several quantizations by one method and width this is, such
        as the type of a GGUF file and who made it.
    source, models
        For `prequantized`: where the files are, with `{model}`, `{revision}` and `{bits}` to be filled, and the models
        they were made of (None: all).
    """

    name: str
    method: str
    bits: float
    group_size: int | None
    settings: tuple[tuple[str, object], ...] = ()
    source: Source | None = None
    models: frozenset[str] | None = None
    recipe: str = ""

    def __str__(self) -> str:
        """Return the name, the width, the group and the recipe, as in `gptq 4 bits g128` or `gguf 4.8 bits, Q4_K_M`."""
        group = "" if self.name == OF_FILES else f" g{self.group_size or 'channel'}"
        return f"{self.name} {self.bits:g} bits{group}" + (f", {self.recipe}" if self.recipe else "")

    @property
    def cell(self) -> tuple[str, float, int | None, str]:
        """What the table's columns method, bits, group_size and settings hold."""
        return self.name, float(self.bits), self.group_size, self.recipe

    def applies_to(self, checkpoint: Checkpoint) -> bool:
        """Return whether this quantization is planned for the checkpoint's model."""
        return self.models is None or checkpoint.model in self.models

    def files_of(self, checkpoint: Checkpoint) -> Source:
        """Return where the quantized files of a checkpoint are; for `prequantized` only."""
        assert self.source is not None
        short = checkpoint.model.rsplit("/", 1)[-1]
        return self.source.filled(model=short, revision=checkpoint.revision, bits=f"{self.bits:g}")

    def for_quantizer(self) -> dict[str, object]:
        """Return the settings as `quantizer_from_settings` takes them."""
        bits = int(self.bits) if self.bits == int(self.bits) else self.bits
        shape: dict[str, object] = {"bits": bits, "group_size": self.group_size or CHANNEL}
        return {"method": self.method, **({} if METHODS[self.method].fixed else shape), **dict(self.settings)}


@dataclass(frozen=True)
class TextSet:
    """A set of texts: rows of a data set on the hub, or files here.

    Attributes
    ----------
    name
        What the table's `dataset` column holds.
    id, config, split, revision
        The data set on the hub, and which of its parts.
    column
        The field that holds the text; None for the one that plainly does (`plain_field`).
    path
        A file, or a folder of files of one form: plain text, whose documents are parted by blank lines, JSON, JSON
        Lines, CSV, TSV or Parquet.
    joined
        Whether neighbouring rows are one running text (WikiText) rather than documents to be drawn at random.
    """

    name: str
    id: str | None = None
    config: str | None = None
    split: str = "train"
    column: str | None = None
    revision: str | None = None
    path: Path | None = None
    joined: bool = False


CATALOGUE: Mapping[str, TextSet] = {
    "refinedweb": TextSet("refinedweb", "tiiuae/falcon-refinedweb", split="train", column="content"),
    "wikitext2": TextSet("wikitext2", "Salesforce/wikitext", "wikitext-2-raw-v1", split="test", joined=True),
    "c4": TextSet("c4", "allenai/c4", "en", split="validation"),
}


@dataclass(frozen=True)
class Calibration:
    """What the quantizers that need data see: `windows` windows of `seq_len` tokens from one set.

    Attributes
    ----------
    orders
        Orders of the windows in which each of these quantizers is run: QiD is their mean, and two or more tell how far
        it depends on the order of sums (`qid_se_quantizer`).
    """

    dataset: TextSet
    windows: int
    seq_len: int
    orders: int = 1


@dataclass(frozen=True)
class Evaluation:
    """What losses are measured on.

    Attributes
    ----------
    datasets
        The sets.
    seq_len
        Tokens a window predicts; also the most context that a token has.
    tokens
        Tokens predicted per set, rounded down to whole windows; a smaller set is used whole.
    reference_tokenizer
        A second tokenizer: losses are then also given per token of it.
    until
        A quantized model is evaluated until QiD's standard error is at most this share of QiD (`block_ends` says when
        that is asked); None: on all windows.
    """

    datasets: tuple[TextSet, ...]
    seq_len: int
    tokens: int
    reference_tokenizer: Source | None = None
    until: float | None = None

    @property
    def windows(self) -> int:
        """Windows per set, at most."""
        return self.tokens // self.seq_len


@dataclass(frozen=True)
class Plan:
    """What a run is to measure; how it went is not in it.

    Attributes
    ----------
    dtype
        What weights are loaded as; None for what each model's config.json says.
    begin
        Where a begin-of-text token stands, at each `document` or in each `window` too; None for what each tokenizer
        and model want (`default_begin`).
    hash
        The digest of what the plan's file says.
    """

    suite: str
    title: str
    dtype: str | None
    begin: str | None
    seed: int
    checkpoints: tuple[Checkpoint, ...]
    quantizations: tuple[Quantization, ...]
    evaluation: Evaluation
    calibration: Calibration | None
    hash: str

    def quantizations_of(self, checkpoint: Checkpoint) -> Iterator[Quantization]:
        """Yield the quantizations planned for one checkpoint."""
        return (q for q in self.quantizations if q.applies_to(checkpoint))

    def rows_of(self, checkpoint: Checkpoint) -> int:
        """Return how many rows a checkpoint gives: one for its 16-bit loss and one a quantization, on every set."""
        return (1 + sum(1 for _ in self.quantizations_of(checkpoint))) * len(self.evaluation.datasets)
