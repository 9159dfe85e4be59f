"""Is a table plausible? It may be valid and still not what was meant: wrong units, names, tokenizers, outliers."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl

from qidbayes.law import plausible_losses
from qidbayes.table.cells import describe

_GAP = 1000.0  # between neighbours of a sorted column: a thousand is a prefix (M to B), not a step of a suite
_MOST_TOKENS = 1e6  # a parameter: thirty times the most that any model has seen
_LEAST_TOKENS = 0.01  # a parameter, of the most that any large model of a table has seen
_LARGE_MODEL = 10_000_000  # parameters
_AGREE = 0.05  # nats per token: two measurements of one checkpoint's 16-bit loss
_SAME_SIZE = 0.02  # of the parameters
_OUTLIER = 5.0  # a factor, and …
_SPREADS = 6.0  # … so many times the rows' usual distance from a power law
_NOISY = 0.3  # of the QiD: with a larger standard error a row may lie anywhere
_FEWEST = 20  # rows


def doubts(table: pl.DataFrame, *, of_families: bool = False) -> list[str]:
    """Return a sentence for each implausible thing about a table, with what to do about it.

    Parameters
    ----------
    table
        Rows of a measurement table, all measured.
    of_families
        Whether a law is fitted to them that tells suites apart, in level, slopes and scatter: then neither their
        tokenizers nor rows far off a power law that all suites share are a matter of doubt.

    Examples
    --------
    >>> from qidbayes.table import load_table
    >>> doubts(load_table("pythia"))
    []
    """
    if table.is_empty():
        return []
    checks = [_sizes, _tokens, _known_models, plausible_losses.losses, _checkpoints]
    checks += [] if of_families else [_tokenizers, _outliers]
    return [doubt for check in checks for doubt in check(table)]


def _gap(values: pl.Series) -> tuple[float, float] | None:
    """Return the two neighbouring values with the largest ratio, if it is too large."""
    known = values.unique().sort().to_list()
    below, above = max(pairwise(known), key=lambda pair: pair[1] / pair[0], default=(1, 1))
    return (below, above) if above / below > _GAP else None


def _sizes(table: pl.DataFrame) -> Iterator[str]:
    seen = table.select("model", "n_params", seen=pl.col("tokens") / pl.col("n_params")).drop_nulls().sort("seen")
    if seen.height and seen["seen"][-1] > _MOST_TOKENS:
        most = seen.row(-1)
        yield (
            f"{most[0]} has seen {most[-1]:.3g} tokens for each of its {most[1]:,} parameters: if n_params is in "
            "millions, write plain counts"
        )
    if gap := _gap(table["n_params"]):
        yield f"n_params jumps from {gap[0]:,} to {gap[1]:,}: if the first is in other units, write plain counts"


def _tokens(table: pl.DataFrame) -> Iterator[str]:
    table = table.filter(pl.col("tokens").is_not_null())
    if table.is_empty():
        return
    large = table.filter(pl.col("n_params") >= _LARGE_MODEL)
    most = int(table["tokens"].max())  # type: ignore[arg-type]
    if large.height and large.select((pl.col("tokens") / pl.col("n_params")).max()).item() < _LEAST_TOKENS:
        yield (
            f"no model has seen more than {most:,} tokens, under {_LEAST_TOKENS:g} a parameter: "
            "if tokens are in millions, write plain counts"
        )
    elif gap := _gap(table["tokens"]):
        yield f"tokens jump from {gap[0]:,} to {gap[1]:,}: if the first are in other units, write plain counts"


def _known_models(table: pl.DataFrame) -> Iterator[str]:
    """Compare sizes with what the shipped tables say of models of the same name."""
    from qidbayes.table.catalogue import shipped_sizes

    shipped = shipped_sizes()
    for model, size in table.select("model", "n_params").unique(maintain_order=True).iter_rows():
        known = shipped.get(model.rsplit("/", 1)[-1].lower())
        if known and abs(size / known - 1) > _SAME_SIZE:
            yield (
                f"{model} is said to have {size:,} parameters; without its embeddings it has {known:,} "
                "(shipped tables), and that is what N means here"
            )


def _checkpoints(table: pl.DataFrame) -> Iterator[str]:
    """Compare the 16-bit losses of rows of one checkpoint on one text, with one context.

    Rows that tell none are compared among themselves: they may have any.
    """
    apart = (
        table.filter(pl.col("loss_16bit").is_not_null())
        .group_by("suite", "model", "revision", "tokens", "dataset", "seq_len", maintain_order=True)
        .agg(least=pl.col("loss_16bit").min(), most=pl.col("loss_16bit").max())
        .filter(pl.col("most") - pl.col("least") > _AGREE)
    )
    if apart.height:
        first = apart.row(0, named=True)
        yield (
            f"{apart.height} checkpoints have several 16-bit losses on one dataset (first: {first['model']} "
            f"{first['revision']}, {first['least']:g} and {first['most']:g}): if some are bits per token or of another "
            "tokenizer, give all in nats per token of one"
        )


def _tokenizers(table: pl.DataFrame) -> Iterator[str]:
    suites = table["suite"].unique().sort().to_list()
    if len(suites) > 1:
        some = ", ".join(suites[:4]) + (", …" if len(suites) > 4 else "")
        yield (
            f"rows of {len(suites)} suites ({some}): a loss per token is of its own tokenizer's tokens. A law with a "
            "smooth discrepancy gives each suite a factor of its own; otherwise fit them apart, use "
            'by = "suite", or measure with a reference_tokenizer'
        )


def _outliers(table: pl.DataFrame) -> Iterator[str]:
    """Name rows far off a power law of N and D with a factor for each suite, method, width, group size and dataset."""
    noise = pl.col("qid_se").fill_null(0.0) / pl.col("qid")
    rows = table.filter((pl.col("qid") > 0) & (noise < _NOISY) & pl.col("tokens").is_not_null())
    if rows.height < _FEWEST:
        return
    kinds = rows.select("method", "group_size", "dataset", "bits").to_dummies(drop_first=True)
    columns = [*rows.select(pl.col("n_params", "tokens", "qid").log()), *kinds]
    _, suite = np.unique(rows["suite"].to_numpy(), return_inverse=True)
    keep = np.ones(rows.height, dtype=bool)
    for _ in range(3):  # what is far off is left out of the next round, so that it does not pull the others
        # Less the means of its suite, which are the suites' factors: there may be thousands of them.
        count = np.maximum(np.bincount(suite[keep], minlength=suite.max() + 1), 1)
        means = [np.bincount(suite[keep], c.to_numpy()[keep], minlength=len(count)) / count for c in columns]
        n, d, y, *others = (c.to_numpy() - m[suite] for c, m in zip(columns, means, strict=True))
        design = np.column_stack([n, d, *others])
        fitted, *_ = np.linalg.lstsq(design[keep], y[keep], rcond=None)
        residual = y - design @ fitted
        spread = 1.4826 * float(np.median(np.abs(residual[keep])))
        keep = np.abs(residual) <= max(_SPREADS * spread, np.log(_OUTLIER))
    if keep.all():
        return
    far = residual[~keep]
    worst = int(np.argmax(np.abs(residual)))
    side = "above" if residual[worst] > 0 else "below"
    yield (
        f"{far.size} of {rows.height} rows {'is' if far.size == 1 else 'are'} far off a power law of the others, by "
        f"{np.exp(abs(residual[worst])):.3g} times {side} it at most ({describe(rows.row(worst, named=True))}, QiD "
        f"{rows['qid'][worst]:.3g}); they count like any other row: see whether they are right, or leave them out"
    )
