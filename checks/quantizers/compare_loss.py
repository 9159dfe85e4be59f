"""Losses without an oracle's quantizer: the 16-bit model's, by other programs, and what AWQ at 8 bits adds to it."""

import json
import math
import re
from pathlib import Path

import torch
from evaluate import read_tokens
from prepare import LENGTH, TOKENIZER
from scipy import stats
from table import Row, missing_row, numbers_row
from transformers import AutoModelForCausalLM, AutoTokenizer

from qidbayes.measure.decoder.evaluate import paired_difference, window_losses
from qidbayes.measure.decoder.layers import restoring_weights
from qidbayes.measure.inputs.windows import cut_windows
from qidbayes.measure.plan.plan import TextSet
from qidbayes.measure.quantize import AWQ

DTYPES = {"float32": torch.float32, "float16": torch.float16}
TOLERANCE = 1e-5  # nats per token


@torch.no_grad()
def check_plain_loop(model: str, folder: Path) -> list[Row]:
    """Our loss of the unquantized model, against transformers' own loss of one window after another."""
    _, evaluation = read_tokens(folder.with_suffix(".tokens"))
    rows = []
    for name, dtype in DTYPES.items():
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        ours = float(window_losses(loaded, evaluation).mean())
        plain = [float(loaded(input_ids=window[None], labels=window[None]).loss) for window in evaluation]
        rows.append(
            numbers_row("loss", "transformers", model, name, ours, sum(plain) / len(plain), TOLERANCE, digits=7)
        )
    return rows


@torch.no_grad()
def check_perplexity(folder: Path, page: str, written: Path) -> list[Row]:
    """Word perplexity of a text by lm-eval's wikitext task, and from our losses on the text it scored.

    Both predict `LENGTH` tokens at a time after a beginning-of-text token. Ours leaves out a rest too short for that,
    which lm-eval predicts in a last window that reaches back; causality lets it be told from two of our losses.
    """
    if not (written / "answers.json").exists():
        return [missing_row("perplexity", "lm-eval", "neox", name) for name in DTYPES]
    answers = json.loads((written / "answers.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    scored = written / "scored.txt"
    ids = tokenizer(scored.read_text())["input_ids"]
    windows = cut_windows(TextSet("page", path=scored), tokenizer, LENGTH, len(ids), seed=0).tokens
    rest = len(ids) - len(windows) * LENGTH
    last = torch.tensor(ids[-LENGTH - 1 :])[None]
    words = len(re.split(r"\s+", page))  # of the text before the task respaces it, as lm-eval counts
    rows = []
    for name, dtype in DTYPES.items():
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        nats = float(window_losses(loaded, windows).sum()) * LENGTH
        if rest:
            seen = LENGTH - rest
            nats += (
                float(window_losses(loaded, last)) * LENGTH - float(window_losses(loaded, last[:, : seen + 1])) * seen
            )
        ours = math.exp(nats / words)
        tolerance = ours * TOLERANCE * len(ids) / words
        rows.append(numbers_row("perplexity", "lm-eval", "neox", name, ours, answers[name], tolerance))
    return rows


def check_awq(folder: Path) -> list[Row]:
    """QiD of our AWQ at 8 bits, against none: within what the paired windows can tell from it, at 99%."""
    calibration, evaluation = read_tokens(folder.with_suffix(".tokens"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    full = window_losses(model, evaluation)
    rows = []
    for group in (64, 128, None):
        with restoring_weights(model):
            AWQ(bits=8, group_size=group).quantize(model, calibration)
            qid = paired_difference(window_losses(model, evaluation), full)
        tolerance = float(stats.t.ppf(0.995, len(full) - 1)) * qid.standard_error
        rows.append(numbers_row("awq", "", folder.name, f"8-{group or 'channel'}-asym", qid.mean, 0.0, tolerance))
    return rows
