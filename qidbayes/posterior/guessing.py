"""Whether a quantized model is worse than guessing at random, and what is taken for granted where nobody says."""

import warnings
from pathlib import Path

import numpy as np
import polars as pl

from qidbayes.errors import AssumptionWarning, InputError
from qidbayes.posterior.answers import Kind, OneLaw
from qidbayes.posterior.point import PointEstimate, published

VOCABULARY = 128_256
"""The size of Llama 3's vocabulary, whose tokens the paper's losses are counted in."""
_LAW = "kaplan-16bit"
_PAPER = ("pythia", "2411.17691")
"""The suite that the paper's 16-bit constants were fitted to, and what the source of its points says."""
_CHECKPOINT = ("suite", "model", "revision", "n_params", "tokens", "dataset")


def loss_16bit_for(data: pl.DataFrame, given: OneLaw | None) -> tuple[OneLaw, tuple[str, ...]]:
    """Return what 16-bit losses are taken from, and a sentence for what is taken for granted by that.

    Parameters
    ----------
    data
        The rows fitted.
    given
        What somebody gave, which is then taken.
    """
    if given is not None:
        return given, ()
    paper = published(_LAW)
    if _is_the_papers(data):
        return paper, ()
    way_out = f"fit law {_LAW} to 16-bit losses of your own, and give that fit as loss_16bit (--loss-16bit)"
    own = _own_losses(data)
    if not own.height:
        return paper, (
            "the table has no 16-bit losses: they are taken from the constants that arXiv:2411.17691 found for Pythia "
            f"and its data; {way_out}",
        )
    point, ratio, scatter = _scaled(paper, own)
    return point, (
        f"16-bit losses come from the constants that arXiv:2411.17691 found for Pythia, times {ratio:.3g}: so they lie "
        f"within {scatter:.0%} of each of the table's own ({own.height}, one a checkpoint and data set); {way_out}",
    )


def vocabulary_for(data: pl.DataFrame, given: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the size of the vocabulary, and a sentence if it is taken for granted."""
    if given is not None:
        return given, ()
    if _is_the_papers(data):
        return VOCABULARY, ()
    return VOCABULARY, (
        f"random guessing is taken to lose ln({VOCABULARY:,}), as with Llama 3's vocabulary; give the size of yours as "
        "vocabulary (--vocabulary)",
    )


def above_guessing(upper: pl.Series) -> tuple[str, ...]:
    """Return a sentence if the upper ends of bands of QiD (nats per token) reach what guessing at random loses in all.

    Examples
    --------
    >>> above_guessing(pl.Series([0.2, 40.0]))[0].partition(":")[0]
    'a band reaches above ln(128,256) = 11.8 nats'
    """
    guessing = float(np.log(VOCABULARY))
    if not (upper > guessing).any():
        return ()
    return (
        f"a band reaches above ln({VOCABULARY:,}) = {guessing:.3g} nats: guessing at random loses so much in all; "
        "read an upper end beyond it as no better than guessing",
    )


def say_assumed(remarks: tuple[str, ...]) -> None:
    """Warn whoever called this package of what is taken for granted."""
    for remark in remarks:
        warnings.warn(remark, AssumptionWarning, skip_file_prefixes=(str(Path(__file__).parents[1]),))


def _is_the_papers(data: pl.DataFrame) -> bool:
    if not {"suite", "source"} <= set(data.columns):
        return False
    suite, source = _PAPER
    said = (pl.col("suite") == suite) & pl.col("source").str.contains(source, literal=True)
    return bool(data.select(said.fill_null(False).all()).item())


def _own_losses(data: pl.DataFrame) -> pl.DataFrame:
    if not {"loss_16bit", "n_params", "tokens"} <= set(data.columns):
        return pl.DataFrame()
    each = [name for name in _CHECKPOINT if name in data.columns]
    known = data.filter(pl.col("loss_16bit") > 0, pl.col("tokens").is_not_null())
    return known.unique(each, keep="first", maintain_order=True)


def _scaled(paper: PointEstimate, own: pl.DataFrame) -> tuple[PointEstimate, float, float]:
    """Return the paper's curve times what brings it to losses of one's own, that factor, and their scatter about it."""
    expected = paper.predict(own.select("n_params", "tokens").cast(pl.Float64))["median"].to_numpy()
    apart = np.log(own["loss_16bit"].to_numpy() / expected)
    ratio = float(np.exp(apart.mean()))
    # ((Nc / N)**(αN / αD) + Dc / D)**αD grows by the ratio where Nc grows by ratio**(1 / αN) and Dc by ratio**(1 / αD).
    found = {name: float(value) for name, value in paper.constants.items() if isinstance(value, int | float)}
    found["Nc"] *= ratio ** (1 / found["alphaN"])
    found["Dc"] *= ratio ** (1 / found["alphaD"])
    return (
        PointEstimate(paper.law, found, f"{ratio:.3g} × {paper.label}"),
        ratio,
        float(np.sqrt(np.square(apart - apart.mean()).mean())),
    )


def against_guessing(
    frame: pl.DataFrame,
    draws: np.ndarray,
    data: pl.DataFrame,
    loss_16bit: OneLaw | None,
    vocabulary: int | None,
    kind: Kind,
) -> pl.DataFrame:
    """Return ``loss_16bit`` and ``worse_than_random`` for questions and their draws of QiD; see `Fit.project`.

    Raises
    ------
    InputError
        If `loss_16bit` is not of the 16-bit loss.
    """
    base, assumed = loss_16bit_for(data, loss_16bit)
    size, too = vocabulary_for(data, vocabulary)
    say_assumed((*assumed, *too))
    if base.law.response != "loss_16bit":
        raise InputError(f"loss_16bit must come from a law of the 16-bit loss, not {base.law.name!r}")
    total = base.beside(frame, kind, len(draws))
    loss = np.median(total, axis=0)
    worse = (draws + total > np.log(size)).mean(axis=0)
    return pl.DataFrame({"loss_16bit": loss, "worse_than_random": worse})
