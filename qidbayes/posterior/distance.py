"""How far a question lies outside the data."""

import numpy as np
import polars as pl

DIRECTIONS = ("n_params", "tokens")


def beyond(data: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the factor by which each row of a frame lies beyond the range of the data.

    Parameters
    ----------
    data
        The rows that were fitted.
    frame
        The questions.

    Returns
    -------
    polars.DataFrame
        ``n_params_beyond`` and ``tokens_beyond``, of those that both frames have: 1 inside the range, else the ratio
        to the nearer end; and ``beyond``, their product.

    Examples
    --------
    >>> data = pl.DataFrame({"n_params": [1e9, 1e10], "tokens": [1e9, 2e11]})
    >>> beyond(data, pl.DataFrame({"n_params": [7e9, 2e10], "tokens": [1e11, 1e12]})).rows()
    [(1.0, 1.0, 1.0), (2.0, 5.0, 10.0)]
    """
    found = {}
    product = np.ones(frame.height)
    for column in DIRECTIONS:
        if column in data.columns and column in frame.columns:
            fitted = data[column].cast(pl.Float64).to_numpy()
            asked = frame[column].cast(pl.Float64).to_numpy()
            factor = np.maximum(1.0, np.maximum(asked / fitted.max(), fitted.min() / asked))
            found[f"{column}_beyond"] = factor
            product = product * factor
    return pl.DataFrame({**found, "beyond": product})
