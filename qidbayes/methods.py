"""Names of quantization methods, one for each, and what a type of GGUF file says: ``Q4_K_M`` has 4.8 bits a weight.

Tables, plans, questions and imports all go by these.
"""

import re
from dataclasses import dataclass

from qidbayes.errors import InputError

NONE = "none"
OF_FILES = "gguf"
"""The method of every GGUF file: its type stands in `settings`, the type's bits in `bits`."""
SYNONYMS = {
    "auto-awq": "awq", "auto-gptq": "gptq", "auto-round": "autoround", "autoawq": "awq", "autogptq": "gptq",
    "gptqmodel": "gptq", "nf4": "bnb-nf4",
}  # fmt: skip
"""Methods by their other names, which mean the same wherever a method is named."""
SIXTEEN = {"fp16", "bf16", "f16", "float16", "bfloat16", "f32", "fp32", "float32", "16bit"}
GGUF = re.compile(
    r"(?P<type>(?:i|t)?q(?P<bits>[1-8])(?:_(?:[01]|k(?:_(?:xs|xl|s|m|l))?|xxs|xs|s|m|nl|kss|ks|kt))*)", re.I
)
"""A type of GGUF's: Q4_K_M, IQ3_XXS, Q8_0, TQ2_0."""
BITS = {
    "IQ2_XXS": 2.1, "IQ2_XS": 2.4, "IQ2_S": 2.5, "IQ2_M": 2.7, "Q2_K_S": 2.7, "Q2_K": 3.0, "Q2_K_L": 2.9,
    "IQ3_XXS": 3.1, "IQ3_XS": 3.3, "IQ3_S": 3.5, "IQ3_M": 3.6, "Q3_K_S": 3.4, "Q3_K_M": 3.9, "Q3_K_L": 4.2,
    "Q3_K_XL": 4.2, "IQ4_XS": 4.3, "IQ4_NL": 4.5, "Q4_0": 4.5, "Q4_1": 5.0, "Q4_K_S": 4.5, "Q4_K_M": 4.8,
    "Q4_K_L": 4.8, "Q5_0": 5.5, "Q5_K_S": 5.5, "Q5_K_M": 5.6, "Q5_K_L": 5.6, "Q6_K": 6.6, "Q6_K_L": 6.6, "Q8_0": 8.5,
}  # fmt: skip
"""Bits per weight of the matrices of a file, less embeddings and output layer: Qwen3-4B in the table `gguf-2026`."""


@dataclass(frozen=True)
class Quantization:
    """What was done to a model's weights. Of a method without `bits` the name does not say them.

    Attributes
    ----------
    method, bits, bits_per_weight, group_size, settings
        As the columns of a table; `method` is ``none`` for 16 bits and empty where nothing is said.
    """

    method: str = ""
    bits: float | None = None
    bits_per_weight: float | None = None
    group_size: int | None = None
    settings: str = ""


def gguf_type(text: str) -> Quantization:
    """Return what a GGUF file's type says, written as in file names or as llama.cpp prints it.

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> gguf_type("Q4_K - Medium").method, gguf_type("IQ3_XXS - 3.0625 bpw").bits, gguf_type("all F32").method
    ('gguf', 3.1, 'none')
    """
    plain = re.sub(r"(?i)\(guessed\)|\bmostly\b|\ball\b", "", text[:1000]).strip()
    word, _, size = plain.partition(" - ")
    word = word.strip().lower()
    if word in SIXTEEN:
        return Quantization(method=NONE, bits=16.0)
    if word.startswith(("mxfp4", "nvfp4")):
        return Quantization(method=OF_FILES, bits=4.0, settings=word.split()[0].upper())
    if not GGUF.fullmatch(word):
        raise InputError(f"{text[:80]!r} is no type of a GGUF file that is known here")
    letter = {"small": "_S", "medium": "_M", "large": "_L"}.get(size.strip().lower(), "")
    name = word.upper() + letter
    return Quantization(method=OF_FILES, bits=BITS.get(name, float(word.lstrip("iqt")[0])), settings=name)


def type_of(settings: str) -> str:
    """Return the type of a GGUF file that ``settings`` name, empty if they name none.

    Examples
    --------
    >>> type_of("bartowski/Q4_K_M"), type_of("Q4_K_M, imatrix"), type_of("act-order")
    ('Q4_K_M', 'Q4_K_M', '')
    """
    words = (word.strip().upper() for word in re.split(r"[/,]", settings))
    return next((word for word in words if word in BITS), "")


def old_type(method: str) -> str:
    """Return the type in a method's name as plans used to give it, empty if it has none that is known.

    Examples
    --------
    >>> old_type("gguf-q4-k-m"), old_type("gguf"), old_type("gguf-mine")
    ('Q4_K_M', '', '')
    """
    first, _, rest = method.partition("-")
    name = rest.replace("-", "_").upper()
    return name if first == OF_FILES and name in BITS else ""
