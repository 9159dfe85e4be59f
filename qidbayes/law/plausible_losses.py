"""Are the losses of a table plausible? Published 16-bit laws say what a model of that N and D can lose per token."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from qidbayes.law import COVARIATES, load_law
from qidbayes.law.evaluate import evaluate_log

_SIZES = (5e7, 1.5e10)  # parameters: sizes of which many models' losses are known
_LIKE_IT = 0.75  # of Chinchilla's law: no known model of those sizes loses less on text that is not code or its own
_LEAST = 0.4  # of it: nor does a model of any size
_KAPLAN = 1.25  # times Kaplan's law, and …
_FLOOR, _ABOVE = 1.3, 4.0  # times the two parts of Chinchilla's, and …
_GUESSING = 14.0  # nats per token, above the logarithm of any vocabulary's size, is the most a model could lose
_QUANTIZED = 2 * _GUESSING  # and a quantized one, which may do worse than guessing
_QID_SIZES = 1e8  # parameters, from which the law of QiD is known, and …
_QID = 8.0  # … times which it may be: round-to-nearest's is 3 times GPTQ's
_CODE = (  # data sets of code, as whole words of a name; digits, dashes, slashes and underscores end a word
    r"(?i)(^|[^a-z])(code|code[-_]?(parrot|search([-_]?net)?|contests|alpaca)|star[-_]?coder([-_]?data)?|github|"
    r"the[-_]?stack|human[-_]?eval|mbpp)([^a-z]|$)"
)


def losses(table: pl.DataFrame) -> Iterator[str]:
    """Doubt losses that a model of that N and D could not have in nats per token."""
    table = table.filter(pl.col("tokens").is_not_null())  # which these laws take
    known = table.filter(pl.col("loss_16bit").is_not_null())
    if known.height:
        loss = known["loss_16bit"].to_numpy()
        expected, least, most = _bounds(known)
        yield from _too_high(known, loss, expected, most)
        yield from _too_low(known, loss, expected, least)
    yield from _qids(table)


def _bounds(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what models of a table's N and D lose by Chinchilla's law, and the least and the most they could."""
    expected = _published("chinchilla-16bit", "epoch", table)
    floor = _constants("chinchilla-16bit", "epoch")["E"]
    most = np.minimum(_KAPLAN * _published("kaplan-16bit", "eq3", table), floor * _FLOOR + (expected - floor) * _ABOVE)
    usual = table["n_params"].is_between(*_SIZES).to_numpy()
    # Below those sizes vocabularies are small and texts simple, and the law is far outside its data.
    least = np.where(usual, _LIKE_IT * expected, _LEAST * np.minimum(expected, 2 * floor))
    return expected, least, np.minimum(most, _GUESSING)


def _too_high(table: pl.DataFrame, loss: np.ndarray, expected: np.ndarray, most: np.ndarray) -> Iterator[str]:
    high = loss > most
    quantized = table["loss"].fill_null(0.0).to_numpy()
    if high.any():
        worst = _row(table, int(np.argmax(loss / most)), expected)
        what = f"{_of(high)} more than a model of its size and training could lose ({worst})"
    elif (quantized > _QUANTIZED).any():
        what = f"loss goes up to {quantized.max():.4g} nats per token, far worse than guessing"
    else:
        return
    yield (
        f"{what}. If it is a perplexity, call the columns ppl_16bit and ppl, or give its logarithm; of a word "
        "perplexity give ln(perplexity) · words / tokens; multiply bits per token (a loss in base 2) by ln 2"
    )


def _too_low(table: pl.DataFrame, loss: np.ndarray, expected: np.ndarray, least: np.ndarray) -> Iterator[str]:
    low = pl.Series(loss < least) & ~table["dataset"].str.contains(_CODE)
    # Of most rows on one text: models differ in how well they know it.
    mostly = table.select("suite", "dataset", low=low).select(pl.col("low").mean().over("suite", "dataset") >= 0.5)
    found = (low & mostly["low"]).to_numpy()
    if found.any():
        worst = _row(table, int(np.argmin(np.where(found, loss / least, np.inf))), expected)
        yield (
            f"{_of(found)} less than a model of its size and training loses on text that is neither code nor what it "
            f"was trained on ({worst}). If it is in bits per byte, call the columns "
            "bits_per_byte_16bit and bits_per_byte, and give n_eval_tokens and n_eval_bytes; of a byte perplexity give "
            "log2 as bits per byte; multiply nats per byte by bytes / tokens"
        )


def _qids(table: pl.DataFrame) -> Iterator[str]:
    """Doubt QiDs without losses: a difference of perplexities is some perplexity times as large."""
    rows = table.filter(
        pl.col("qid").is_not_null() & pl.col("loss_16bit").is_null() & (pl.col("n_params") >= _QID_SIZES)
    )
    if rows.is_empty():
        return
    qid = rows["qid"].to_numpy()
    many, most = float(np.median(qid / _published("unified", "eq8", rows))), int(np.argmax(qid))
    if many > _QID or qid[most] > _GUESSING:
        yield (
            f"qid is {many:.3g} times what GPTQ costs models of such sizes (the median of {rows.height} rows; the "
            f"most: {rows['model'][most]}, {qid[most]:.4g} nats per token). If it is a difference of perplexities, "
            "give the columns ppl_16bit and ppl in its place: QiD is ln(ppl / ppl_16bit)"
        )


def _of(found: np.ndarray) -> str:
    return f"loss_16bit of {int(found.sum())} of {found.size} rows is"


def _row(table: pl.DataFrame, row: int, expected: np.ndarray) -> str:
    model, loss = table["model"][row], table["loss_16bit"][row]
    return f"the furthest: {model}, {loss:.4g}, where about {expected[row]:.2g} nats per token are usual"


def _constants(law: str, point: str) -> dict[str, Any]:
    return dict(load_law(law).published[point])


def _published(name: str, point: str, table: pl.DataFrame) -> np.ndarray:
    """Return the response (nats per token) of a shipped law with published constants, for each row of a table."""
    law = load_law(name)
    logs = {symbol: np.log(table[COVARIATES[symbol]].cast(pl.Float64).to_numpy()) for symbol in law.covariates}
    return np.asarray(np.exp(evaluate_log(law.expression, law.scope(np, law.published[point], logs))))
