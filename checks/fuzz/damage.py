"""What is done to a valid file: to its bytes, to its text, and to the values of a document."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = [
    "0", "-1", "1", "2", "0.5", "-0.0", "1e-320", "1e308", "1e999", "-1e999", "nan", "inf", "-inf", "+inf", "1_000",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" + "0" * 400, "0x7f", "0b1", "1e", "1.",
    "4294967296", "65536", "1e5", "3e11", "7B", "2T", "true", "false", "[]", "{}", '""', "''", "2026-02-31", "12:00:60",
]  # fmt: skip
WORDS = [
    "", "\0", " ", "ok", "none", "gptq", "N", "D", "P", "k", "beta", "os", "../..", "/etc/passwd", "/dev/zero", "~",
    "__import__('os').system('true')", "k.__class__", "eval(k)", "{revision}", "{step}", "%s", "=cmd()", "\ufeff", "é",
    "\ud7ff", "\U0001f600", "a" * 300, "1" * 5000, "\\", "\n", "\r\n", "\t", ",", '"', "'", '"""', "#", "=", "[", "]",
    "[[", "]]", "{", "}", ".", "..", "-", "**", "exp(", "log(", ")", "NULL", "NaN", "null", "[parameters]", "[noise]",
    "[[models]]", "[[quantizations]]", "equation", "prior", "Normal", "by", "bits", "model",
]  # fmt: skip
SIZES = [b"\0", b"\xff", b"\x7f", b"\x80", b"\x01"]


def damaged_bytes(content: bytes, rng: random.Random, places: Sequence[int] = ()) -> bytes:
    """Flip, overwrite, copy, drop and cut bytes, anywhere or about some `places`."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8, 20))):
        if not found:
            break
        at = min(rng.choice(places), len(found) - 1) if places else rng.randrange(len(found))
        match rng.randrange(7):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at] = rng.randrange(256)
            case 2:  # the lengths and offsets of binary formats
                width = rng.choice((2, 4, 8))
                found[at : at + width] = rng.choice((rng.choice(SIZES) * width, rng.randbytes(width)))
            case 3:
                width = rng.choice((2, 4, 8))
                near = (len(content) + rng.randint(-9, 9)) % 2 ** (8 * width)
                found[at : at + width] = max(0, near).to_bytes(width, "little")
            case 4:
                start, length = rng.randrange(len(found)), rng.randint(1, 64)
                found[at : at + length] = found[start : start + length]
            case 5:
                del found[at : at + rng.randint(1, 16)]
            case _:
                found[at:at] = rng.randbytes(rng.randint(1, 16))
    if rng.random() < 0.05:
        del found[rng.randrange(len(found) + 1) :]
    return bytes(found)


def damaged_text(text: str, others: list[str], rng: random.Random) -> str:
    """Replace numbers and quoted words, swap, drop, repeat and splice lines, and type over the rest."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        match rng.randrange(9):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, rng.choice(lines))
            case 2:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines.insert(at, rng.choice(rng.choice(others).split("\n")))
            case 4 | 5:
                lines[at] = _retyped(lines[at], "0123456789", NUMBERS, rng)
            case 6:
                lines[at] = _retyped(lines[at], "abcdefghijklmnopqrstuvwxyz_", WORDS, rng)
            case 7:
                place = rng.randint(0, len(lines[at]))
                lines[at] = lines[at][:place] + rng.choice(WORDS + NUMBERS) + lines[at][place:]
            case _:
                place, width = rng.randint(0, len(lines[at])), rng.randint(0, 8)
                typed = "".join(chr(rng.randrange(32, 127)) for _ in range(rng.randint(0, 4)))
                lines[at] = lines[at][:place] + typed + lines[at][place + width :]
        text = "\n".join(lines)
    return text


def _retyped(line: str, letters: str, words: list[str], rng: random.Random) -> str:
    """Put another word in the place of one made of these letters."""
    places = [i for i, letter in enumerate(line) if letter in letters]
    if not places:
        return line + rng.choice(words)
    start = end = rng.choice(places)
    while start and line[start - 1] in letters + ".":
        start -= 1
    while end < len(line) and line[end] in letters + ".":
        end += 1
    return line[:start] + rng.choice(words) + line[end:]


_VALUES: list[Callable[[random.Random], Any]] = [
    lambda rng: None,
    lambda rng: rng.choice((True, False)),
    lambda rng: rng.choice((0, -1, 1, 2, 3, 7, 2**31, 2**63, -(2**63) - 1, 10**18, 10**400)),
    lambda rng: rng.choice((0.0, -1.5, 1e308, float("nan"), float("inf"))),
    lambda rng: rng.choice(WORDS),
    lambda rng: [],
    lambda rng: {},
    lambda rng: [rng.choice(WORDS)],
    lambda rng: {rng.choice(WORDS): rng.choice((0, 1, "x", None))},
    lambda rng: [rng.choice((0, 1, -1, 2**40, 2**63))] * rng.randint(1, 3),
]


def damaged_document(document: Any, rng: random.Random) -> Any:
    """Return plain values (of JSON or TOML) with some keys and values changed; the document itself stays as it was."""
    copy = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 2, 4))):
        parent, key = _somewhere(copy, rng)
        if parent is None:
            return rng.choice(_VALUES)(rng)
        if isinstance(parent, dict) and rng.random() < 0.2:
            value = parent.pop(key)
            if rng.random() < 0.7:
                parent[rng.choice(WORDS)] = value
        else:
            parent[key] = rng.choice(_VALUES)(rng)
    return copy


def _somewhere(document: Any, rng: random.Random) -> tuple[Any, Any]:
    parent, key = None, None
    here = document
    while isinstance(here, dict | list) and here and (parent is None or rng.random() < 0.75):
        parent, key = here, rng.choice(list(here) if isinstance(here, dict) else range(len(here)))
        here = here[key]
    return parent, key
