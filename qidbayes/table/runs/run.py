"""One evaluation of one model on one text, as another program's file says it."""

from dataclasses import dataclass, field

import numpy as np

from qidbayes.methods import Quantization


@dataclass(frozen=True)
class Parts:
    """What a run lost on each part of its text: a document of lm-eval's, a chunk of llama.cpp's.

    Attributes
    ----------
    names
        What tells the parts apart; two runs of one text have the same ones.
    nll
        The loss of a part's tokens together; shape ``(parts,)``.
    size
        How much text a part is, so that Σ nll / Σ size is the run's loss per token (or per byte, before tokens are
        known); shape ``(parts,)``.
    """

    names: tuple[str, ...]
    nll: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class Run:
    """A run, with what its file says; what it leaves open is None or empty.

    Attributes
    ----------
    file
        The file, as it was given.
    program
        What wrote it: ``lm-eval 0.4.13``.
    model, stem
        The model's name, and what is left of it without words of quantization, by which runs are paired.
    quantization
        What was done to the model; of a 16-bit run its method is ``none``.
    loss
        Nats per token, where the file says it.
    bits_per_byte
        In its place, of a run that counts bytes.
    qid, qid_se, loss_16bit
        Where the file holds the comparison with the 16-bit model itself.
    base
        The file of what it was compared with, where the file names it.
    further
        Numbers for further columns.
    texts
        The text of each part, where the file has it: for counting tokens.
    """

    file: str
    program: str
    model: str
    stem: str
    quantization: Quantization
    dataset: str = ""
    revision: str = ""
    seq_len: int | None = None
    n_eval_tokens: int | None = None
    n_eval_bytes: int | None = None
    loss: float | None = None
    bits_per_byte: float | None = None
    loss_16bit: float | None = None
    qid: float | None = None
    qid_se: float | None = None
    base: str = ""
    parts: Parts | None = None
    texts: tuple[str, ...] = ()
    further: dict[str, float] = field(default_factory=dict)
