"""How far a question lies outside the data: in size, tokens and bits, and whether its suite and method were fitted."""

import numpy as np
import polars as pl

from qidbayes.noise.coordinates import KIND

DIRECTIONS = ("n_params", "tokens", "bits")
COLUMNS = (*(f"{column}_beyond" for column in DIRECTIONS), "not_fitted")
"""What an answer tells of the distance."""
INSIDE = "inside"
_NAMED = 5  # bit widths
_ROUNDED = 1e-3  # of a doubling: what is rounded to 1 is inside


def beyond(data: pl.DataFrame, frame: pl.DataFrame, *, left_out_is_new: bool = False) -> pl.DataFrame:
    """Return how far each row of a frame lies outside the data.

    Parameters
    ----------
    data
        The rows that were fitted.
    frame
        The questions.
    left_out_is_new
        Whether a suite that a question leaves out is a new one, and a method if the rows do not agree on it, as they
        are where a discrepancy is modelled.

    Returns
    -------
    polars.DataFrame
        ``n_params_beyond``, ``tokens_beyond`` and ``bits_beyond``, of those that both frames have: 1 inside the fitted
        range, else the ratio to the nearer end. ``not_fitted``: which of suite, method, group size and data set no
        fitted row has, null if none. ``outside``: the same in words, by doublings and with the side.

    Examples
    --------
    >>> data = pl.DataFrame({"n_params": [1e9, 1e10], "tokens": [1e9, 2e11], "bits": [2, 4], "method": "gptq"})
    >>> asked = pl.DataFrame({"n_params": [7e9, 2e8], "tokens": [1e11, 1e12], "bits": [3, 8], "method": "gptq"})
    >>> found = beyond(data, asked.with_columns(pl.Series("method", ["gptq", "awq"])))
    >>> found.select("n_params_beyond", "tokens_beyond", "bits_beyond", "not_fitted").rows()
    [(1.0, 1.0, 1.0, None), (5.0, 5.0, 2.0, 'method')]
    >>> found["outside"].to_list()[1]
    'n_params up to 8× below, tokens up to 8× above, bits up to 2× above, quantization not fitted'
    """
    found: dict[str, np.ndarray] = {}
    words: list[list[str]] = [[] for _ in range(frame.height)]
    for column in DIRECTIONS:
        if column in data.columns and column in frame.columns:
            fitted = data[column].drop_nulls().cast(pl.Float64).to_numpy()  # tokens need not be known
            if not fitted.size:
                continue
            asked = frame[column].cast(pl.Float64).to_numpy()
            above, below = asked / fitted.max(), fitted.min() / asked
            factor = np.fmax(1.0, np.fmax(above, below))  # of what is not told, nothing
            found[f"{column}_beyond"] = factor
            doublings = np.ceil(np.log2(factor) - _ROUNDED)
            for row in np.flatnonzero(doublings > 0).tolist():
                side = "above" if above[row] > 1.0 else "below"
                words[row].append(f"{column} up to {2 ** doublings[row]:g}× {side}")
    new = {c: _new(data, frame, c, left_out_is_new) for c in ("suite", *KIND) if c in data.columns}
    unfitted: list[str | None] = []
    for row in range(frame.height):
        named = [column for column, rows in new.items() if rows[row]]
        unfitted.append(", ".join(named) or None)
        words[row] += ["suite not fitted"] * ("suite" in named)
        words[row] += ["quantization not fitted"] * bool(set(named) & set(KIND))
    return pl.DataFrame(found).with_columns(
        pl.Series("not_fitted", unfitted, dtype=pl.String),
        pl.Series("outside", [", ".join(far) or INSIDE for far in words], dtype=pl.String),
    )


def unmeasured_bits(data: pl.DataFrame, frame: pl.DataFrame) -> list[str]:
    """Return a sentence that names the bit widths a frame asks about beyond all that were fitted; none without them."""
    if "bits" not in data.columns or "bits" not in frame.columns:
        return []
    fitted = data["bits"].cast(pl.Float64).to_numpy()
    asked = frame["bits"].cast(pl.Float64).unique().sort().to_numpy()
    outside = asked[(asked < fitted.min()) | (asked > fitted.max())]
    if not outside.size:
        return []
    widths = ", ".join(f"{width:.3g}" for width in outside[:_NAMED]) + ", …" * (outside.size > _NAMED)
    low, high = fitted.min(), fitted.max()
    return [
        f"{widths} bits lie outside the bit widths that were fitted ({low:g}{f' to {high:g}' if high > low else ''}): "
        "an answer there continues the law to where nothing was measured"
    ]


def _new(data: pl.DataFrame, frame: pl.DataFrame, column: str, left_out_is_new: bool) -> list[bool]:
    """Return for each row whether no fitted row has its value; a model that was fitted brings its suite along."""
    known = set(data[column].to_list())
    values = frame[column].to_list() if column in frame.columns else [None] * frame.height
    if column == "suite" and {"model", "suite"} <= set(data.columns) and "model" in frame.columns:
        of_model = dict(data.select("model", "suite").iter_rows())
        values = [of_model.get(m) if v is None else v for v, m in zip(values, frame["model"], strict=True)]
    left_out = left_out_is_new and (len(known) > 1 or column == "suite")
    return [left_out if value is None and None not in known else value not in known for value in values]
