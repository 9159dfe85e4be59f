"""The columns of a measurement table, one line each: type, what is accepted, what an empty field means."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from qidbayes.table import tidy

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Column:
    """One column: its type, the values it accepts and what happens to an empty field."""

    name: str
    dtype: type[pl.DataType]
    accepts: str  # completes the sentence "give …"
    accepted: Callable[[pl.Series], pl.Series]  # true where a value may stay; never sees what could not be read
    required: bool = False
    default: str | None = None
    tidy: Callable[[pl.Series], pl.Series] | None = None  # what makes one value of its several spellings
    spoken: bool = False  # whether fields may say 7B, as people do
    unknown: bool = False  # whether a field of a required column may be empty


def _text(name: str, accepts: str, *, required: bool = False, default: str | None = None) -> Column:
    # A NUL ends a string for many programs that would read the table after us.
    return Column(name, pl.String, accepts, lambda s: ~s.str.contains("\0", literal=True), required, default)


def _is_slug(values: pl.Series) -> pl.Series:
    return values.str.contains("^[a-z0-9][a-z0-9.-]*$")


def _count(
    name: str, accepts: str, *, least: int = 1, required: bool = False, spoken: bool = True, unknown: bool = False
) -> Column:
    return Column(name, pl.Int64, accepts, lambda s: s >= least, required, spoken=spoken, unknown=unknown)


def _positive(name: str, accepts: str) -> Column:
    return Column(name, pl.Float64, accepts, lambda s: s.is_finite() & (s > 0))


def _not_negative(name: str, accepts: str) -> Column:
    return Column(name, pl.Float64, accepts, lambda s: s.is_finite() & (s >= 0))


def _share(name: str, accepts: str) -> Column:
    return Column(name, pl.Float64, accepts, lambda s: (s >= 0) & (s <= 1))


# The smallest models and runs we expect, with room below: 49,000 parameters and 1e6 tokens. What is smaller was
# written in millions or billions.
_PARAMETERS = "non-embedding parameters as a plain count of at least 1000, like 7e9, or 7B"
_TOKENS = "training tokens as a plain count of at least 1e5, like 3e11, or 300B"

COLUMNS: tuple[Column, ...] = (
    _text("suite", "a name for the set of runs, as text"),  # empty: the file's stem, which only validate knows
    _text("model", "the model's name, as text", required=True),
    _text("revision", "the checkpoint's revision, as text", default=""),
    _count("n_params", _PARAMETERS, least=1_000, required=True),
    _count("n_params_active", f"{_PARAMETERS}, of those that one token uses", least=1_000),
    _count("tokens", _TOKENS, least=100_000, required=True, unknown=True),
    _not_negative("learning_rate", "the learning rate at this checkpoint, 0 or above"),
    Column(
        "method",
        pl.String,
        "a name like gptq, bnb-nf4 or none (letters, digits, '.', '-'; upper case is read as lower case)",
        _is_slug,
        required=True,
        tidy=tidy.method,
    ),
    Column(
        "bits",
        pl.Float64,
        "the nominal width in bits, above 0 and at most 32",
        lambda s: s.is_finite() & (s > 0) & (s <= 32),
        required=True,
        tidy=tidy.decimal,
    ),
    _positive("bits_per_weight", "bits per weight with scales and zero points, above 0"),
    Column(
        "group_size",
        pl.Int64,
        "a whole number of weights, 1 or above, or nothing (or -1) for per channel",
        lambda s: s >= 1,
        tidy=tidy.per_channel,
    ),
    _text("settings", "what else the quantizer was told, as text: imatrix, calibration set, …", default=""),
    Column(
        "bits_activation",
        pl.Float64,
        "the width of the inputs in bits, above 0 and at most 32, or nothing where they are not quantized",
        lambda s: s.is_finite() & (s > 0) & (s <= 32),
    ),
    _count("expert_tokens", "a whole number of calibration tokens, 0 or above", least=0),
    _count("experts_undersampled", "a whole number of experts, 0 or above", least=0, spoken=False),
    _text("dataset", "the evaluation set's name, as text", default="unspecified"),
    _count("n_eval_tokens", "a whole number of evaluation tokens, 1 or above"),
    _count("seq_len", "a whole number of tokens, 1 or above", spoken=False),  # 2k would be 2,048 for most
    _positive("loss_16bit", "a finite loss above 0, in nats per token"),
    _positive("loss", "a finite loss above 0, in nats per token"),
    Column("qid", pl.Float64, "a finite number of nats per token (0 and below are legal)", pl.Series.is_finite),
    _not_negative("qid_se", "a finite standard error, 0 or above, in nats per token"),
    _not_negative("qid_se_quantizer", "a finite standard error, 0 or above, in nats per token"),
    _not_negative("kld", "a finite divergence from the 16-bit model, 0 or above, in nats per token"),
    _not_negative("kld_se", "a finite standard error, 0 or above, in nats per token"),
    _not_negative("kld_se_quantizer", "a finite standard error, 0 or above, in nats per token"),
    _share("top_agreement", "a share of tokens from 0 to 1"),
    _not_negative("top_agreement_se", "a finite standard error, 0 or above"),
    _positive("nats_per_byte_16bit", "a finite loss above 0, in nats per byte of text"),
    _positive("nats_per_byte", "a finite loss above 0, in nats per byte of text"),
    _text("source", "a citation or the run that measured it, as text"),
    Column(
        "status",
        pl.String,
        "ok, or a lower-case word for what became of the cell, like failed",
        _is_slug,
        default="ok",
    ),
    _text("error", "what went wrong, as text"),
    _not_negative("seconds_quantize", "seconds, 0 or above"),
    _not_negative("seconds_evaluate", "seconds, 0 or above"),
    _not_negative("peak_memory_gib", "GiB, 0 or above"),
    _text("device", "the device's name, as text"),
)
NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
LATER = (
    "n_params_active", "settings", "bits_activation", "expert_tokens", "experts_undersampled", "qid_se_quantizer",
    "kld", "kld_se", "kld_se_quantizer", "top_agreement", "top_agreement_se", "nats_per_byte_16bit", "nats_per_byte",
)  # fmt: skip
"""The columns that tables have not had from the first: a table without a value in one has the hash it had before."""
FIRST_NAMES: tuple[str, ...] = tuple(name for name in NAMES if name not in LATER)

# Losses as others report them: read, turned into loss_16bit and loss, and not kept.
_PERPLEXITY = "a finite perplexity of tokens (e to the loss in nats), above 1"
_BITS_PER_BYTE = "a finite number of bits per byte, above 0"
OTHER_UNITS: tuple[Column, ...] = (
    Column("ppl_16bit", pl.Float64, _PERPLEXITY, lambda s: s.is_finite() & (s > 1)),
    Column("ppl", pl.Float64, _PERPLEXITY, lambda s: s.is_finite() & (s > 1)),
    _positive("bits_per_byte_16bit", _BITS_PER_BYTE),
    _positive("bits_per_byte", _BITS_PER_BYTE),
    _count("n_eval_bytes", "a whole number of bytes of evaluation text in UTF-8, 1 or above"),
)

# Two rows that agree on all of these claim to have measured the same thing.
CELL = ("suite", "model", "revision", "tokens", "method", "bits", "group_size", "settings", "dataset")
