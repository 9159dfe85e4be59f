"""How many tokens a text is: lm-eval's results are per byte and word, and laws are of losses per token."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qidbayes.errors import InputError
from qidbayes.table.runs.run import Run


def open_tokenizer(path: Path) -> Any:
    """Return the tokenizer of a `tokenizer.json`, or of the folder that holds one.

    Raises
    ------
    InputError
        If there is none, it cannot be read, or the library that reads it is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise InputError(
            "tokenizer: counting tokens needs the library tokenizers; pip install tokenizers, or give n_eval_tokens"
        ) from None
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a tokenizer.json, or the folder of a model that has one")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library, in Rust, raises this very kind
        raise InputError(f"{file}: not a tokenizer that can be read ({str(error)[:200]})") from error


def counted(run: Run, tokenizer: Any) -> Run:
    """Return a run with the tokens of its texts counted, each without the token that begins a text.

    lm-eval predicts every token of a text, the first from the token that begins texts.

    Raises
    ------
    InputError
        If the run's file has no texts.
    """
    if not run.texts or run.parts is None:
        raise InputError(
            f"{run.file}: has no texts to count tokens in; keep lm-eval's samples beside it (--log_samples), or give "
            "n_eval_tokens"
        )
    lengths = [len(one.ids) for one in tokenizer.encode_batch(list(run.texts), add_special_tokens=False)]
    return replace(run, n_eval_tokens=sum(lengths), parts=replace(run.parts, size=np.array(lengths, dtype=float)))


def in_nats(run: Run) -> Run:
    """Return a run with its loss in nats per token: bits per byte · ln 2 · bytes / tokens."""
    if run.loss is not None or run.bits_per_byte is None or not run.n_eval_tokens or not run.n_eval_bytes:
        return run
    per_byte = run.n_eval_tokens / run.n_eval_bytes
    # Where tokens were not counted text by text, each has its share by bytes.
    parts = run.parts and replace(run.parts, size=run.parts.size * (run.n_eval_tokens / run.parts.size.sum()))
    return replace(run, loss=run.bits_per_byte * math.log(2) / per_byte, parts=parts)


def refuse_uncounted(runs: Sequence[Run]) -> None:
    """Refuse runs whose losses cannot be told per token.

    Raises
    ------
    InputError
        Naming the first of them, and what would help.
    """
    left = [run for run in runs if run.loss is None and run.qid is None]
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        counted_bytes = bool(left[0].n_eval_bytes)
        what = "n_eval_tokens" if counted_bytes else "n_eval_tokens and n_eval_bytes"
        raise InputError(
            f"{left[0].file}{more}: says bits per byte, and a law is of nats per token: loss = bits per byte · ln 2 · "
            f"bytes / tokens. Give {what} (--set n_eval_tokens=300k), the length of {left[0].dataset!r} in the "
            f"model's tokens{'' if counted_bytes else ' and in bytes'}, or the model's tokenizer.json (lm-eval's "
            "--log_samples keeps the text to count)"
        )
