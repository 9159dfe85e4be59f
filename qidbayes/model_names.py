"""What a model's name says of its quantization: ``Llama-2-7B-GPTQ-4bit-128g``, ``x-7b.Q4_K_M.gguf``."""

import re
from dataclasses import replace

from qidbayes.methods import GGUF, NONE, SIXTEEN, SYNONYMS, Quantization, gguf_type

_METHODS = {
    "gptq", "awq", "rtn", "hqq", "aqlm", "exl2", "exl3", "autoround", "quip", "vptq", "smoothquant", "spqr", "quarot",
    "spinquant", "omniquant",
}  # fmt: skip
_FOUR_BIT = {"nf4": "bnb-nf4", "fp4": "bnb-fp4", "mxfp4": "mxfp4", "nvfp4": "nvfp4"}
_SETTINGS = {
    "imatrix": "imatrix",
    "i1": "imatrix",
    "actorder": "act-order",
    "descact": "act-order",
    "ud": "unsloth dynamic",
}
# What names say besides, and what logs are called.
_DROPPED = {"gguf", "ggml", "hf", "quantized", "quant", "ppl", "kl", "kld", "perplexity", "log", "txt", "json", "bit"}
_RATE = re.compile(r"(?<![0-9.])([1-8](?:\.[0-9]{1,3})?)[-_]?bpw", re.I)
_BITS = re.compile(r"(?:int|w|fp)?([1-8])bits?|int([1-8])|w([1-8])a[0-9]{1,2}|fp(8)")
_GROUP = re.compile(r"g(?:s|roup)?([0-9]{1,5})|([0-9]{2,5})g|1g|g1")
_PARTED = re.compile(r"([-_. ]+)")
# Words of two parts as one, so that they are not parted.
_ONE_WORD = (
    (re.compile(r"([1-8])[-_]bits?(?![a-z])", re.I), r"\1bit"),
    (re.compile(r"(?:act[-_]?order|desc[-_]?act)[-_]?(?:true)?(?![a-z])", re.I), "actorder"),
    (re.compile(r"(?:act[-_]?order|desc[-_]?act)[-_]?false", re.I), ""),
    (re.compile(r"auto[-_]round", re.I), "autoround"),
    (re.compile(r"(?<![a-z])bnb[-_]", re.I), "bnb"),
)
_LONGEST = 1_000


def read_name(name: str) -> tuple[str, Quantization]:
    """Return the model that a name is of, without words of quantization, and what these say.

    Examples
    --------
    >>> read_name("TheBloke/Llama-2-7B-GPTQ-4bit-128g")
    ('Llama-2-7B', Quantization(method='gptq', bits=4.0, bits_per_weight=None, group_size=128, settings=''))
    >>> stem, found = read_name("SmolLM2-135M-Instruct.i1-Q4_K_M.gguf")
    >>> stem, found.method, found.bits, found.settings
    ('SmolLM2-135M-Instruct', 'gguf', 4.8, 'Q4_K_M, imatrix')
    >>> read_name("Llama-3.1-8b-hf")[1].method
    ''
    """
    plain = name[-_LONGEST:].replace("\\", "/").rstrip("/").rpartition("/")[2]
    found = Quantization()
    if match := _last_gguf(plain):
        found = gguf_type(match["type"])
        plain = f"{plain[: match.start()]}-{plain[match.end() :]}"
    if match := _RATE.search(plain):  # EXL2's names have the mean: the width is the whole number it is nearest to
        rate = float(match[1])
        found = replace(found, bits=float(max(1, round(rate))), bits_per_weight=rate)
        plain = f"{plain[: match.start()]}-{plain[match.end() :]}"
    for pattern, word in _ONE_WORD:
        plain = pattern.sub(word, plain)
    left, settings, before = [], [], ""
    for part in _PARTED.split(plain):
        if _PARTED.fullmatch(part):
            before = part
            continue
        told, setting = _told(part.lower(), found)
        if told is None:
            left += [before, part]
        else:
            found = told
            settings += [setting] if setting else []
    return "".join(left).strip("-_. "), replace(
        found, settings=", ".join(dict.fromkeys([found.settings, *settings] if found.settings else settings))
    )


def _told(word: str, known: Quantization) -> tuple[Quantization | None, str]:
    """Return what is known with what one word of a name says, None where it says nothing, and a setting."""
    plain = word.removeprefix("bnb")
    if word in _DROPPED or not plain:
        return known, ""
    if word in _SETTINGS:
        return known, _SETTINGS[word]
    if word in SIXTEEN:
        return replace(known, method=known.method or NONE, bits=known.bits or 16.0), ""
    if (method := SYNONYMS.get(word, word)) in _METHODS:
        return replace(known, method=method), ""
    if plain in _FOUR_BIT:
        return replace(known, method=_FOUR_BIT[plain], bits=4.0), ""
    if match := _GROUP.fullmatch(word):
        size = next((int(part) for part in match.groups() if part), 0)
        return replace(known, group_size=size or None), ""
    if match := _BITS.fullmatch(plain):
        width = next(float(part) for part in match.groups() if part)
        # Of four bits bitsandbytes has two formats.
        method = known.method or ("bnb-int8" if word != plain and width == 8 else "")
        return replace(known, method=method, bits=known.bits or width), ""
    return None, ""


def _last_gguf(name: str) -> re.Match[str] | None:
    found = None
    for match in GGUF.finditer(name):
        before, after = name[: match.start()][-1:], name[match.end() :][:1]
        if not before.isalnum() and not after.isalnum():
            found = match
    return found
