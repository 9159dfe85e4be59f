"""Runs of quantized models, each with the 16-bit run of the same model, text and context."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qidbayes.methods import NONE
from qidbayes.table.runs.run import Parts, Run

type Key = tuple[object, ...]
"""What two runs have in common that can be compared."""


@dataclass(frozen=True)
class Paired:
    """The runs that can be rows of a table, and a sentence for each that cannot.

    Attributes
    ----------
    runs
        16-bit runs with their `loss`, and quantized ones with `loss_16bit`, `qid` and, where both runs tell of parts,
        `qid_se`, all in nats per token.
    left_out
        Why the others are no rows.
    """

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]


def pair(runs: Sequence[Run]) -> Paired:
    """Pair runs by model, revision, data set, length of context and number of tokens."""
    bases: dict[Key, Run] = {}
    for run in runs:
        if _is_base(run):
            bases.setdefault(_key(run), run)
    kept, left_out = [], []
    for run in runs:
        base = bases.get(_key(run))
        if _is_base(run):
            if base is run:
                kept.append(run)
            else:
                left_out.append(f"{run.file}: another 16-bit run of {_what(run)}; {base and base.file} is taken")
        elif not run.quantization.method or run.quantization.bits is None:
            said = {"method": run.quantization.method, "bits": run.quantization.bits}
            missing = " and ".join(name for name, value in said.items() if not value)
            left_out.append(f"{run.file}: {run.model}: neither its name nor its file says {missing}; label it")
        elif run.qid is not None:
            kept.append(run)
        elif base is not None:
            kept.append(_compared(run, base))
        else:
            left_out.append(f"{run.file}: no 16-bit run of {_what(run)}{_nearest(run, bases)}")
    return Paired(tuple(kept), tuple(left_out))


def _is_base(run: Run) -> bool:
    return run.quantization.method == NONE and run.qid is None


def _key(run: Run) -> Key:
    return (run.stem.lower(), run.revision, run.dataset, run.seq_len, run.n_eval_tokens)


def _what(run: Run) -> str:
    parts = [run.stem or run.model, run.revision and f"revision {run.revision}", run.dataset and f"on {run.dataset}"]
    parts += [f"context {run.seq_len}"] if run.seq_len else []
    parts += [f"{run.n_eval_tokens} tokens"] if run.n_eval_tokens else []
    return ", ".join(part for part in parts if part)


def _nearest(run: Run, bases: Mapping[Key, Run]) -> str:
    """Say what else there is of the model, or which models there are."""
    same = [base for base in bases.values() if base.stem.lower() == run.stem.lower()]
    if same:
        return f"; there is one of {_what(same[0])}"
    known = list(dict.fromkeys(base.stem or base.model for base in bases.values()))
    return f"; 16-bit runs are of {', '.join(known[:5])}{', …' if len(known) > 5 else ''}" if known else ""


def _compared(run: Run, base: Run) -> Run:
    assert run.loss is not None and base.loss is not None
    error = None
    if run.parts is not None and base.parts is not None and _alike(run.parts, base.parts):
        error = standard_error(run.parts.nll - base.parts.nll, base.parts.size)
    return replace(run, model=base.model, loss_16bit=base.loss, qid=run.loss - base.loss, qid_se=error)


def _alike(one: Parts, other: Parts) -> bool:
    return one.names == other.names and np.array_equal(one.size, other.size)


def standard_error(difference: np.ndarray, size: np.ndarray) -> float | None:
    """Return the standard error of Σ difference / Σ size over parts that were drawn together: of a ratio.

    Parameters
    ----------
    difference
        Of the two runs' losses, summed over each part (nats); shape ``(parts,)``.
    size
        Tokens of each part, or what is proportional to them and sums to the tokens; shape ``(parts,)``.

    Returns
    -------
    float or None
        Nats per token; None of a single part. √(n/(n−1) · Σ(dᵢ − r·tᵢ)²) / Σt with r = Σd/Σt (Cochran 1977, *Sampling
        Techniques*, Eq. 6.13), which of parts of one size is the standard deviation over √n.

    Examples
    --------
    >>> round(standard_error(np.array([1.0, 2.0, 4.0]), np.array([10.0, 10.0, 10.0])), 6)
    0.088192
    """
    count = len(size)
    if count < 2:
        return None
    ratio = difference.sum() / size.sum()
    squares = float(np.square(difference - ratio * size).sum())
    return math.sqrt(count / (count - 1) * squares) / float(size.sum())
