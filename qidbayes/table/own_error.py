"""The standard error that a table gives of what a law is about."""

import numpy as np
import polars as pl

ERRORS = {"qid": ("qid_se", "qid_se_quantizer"), "kld": ("kld_se", "kld_se_quantizer"), "loss_16bit": (),
          "loss": ("loss_se",)}  # fmt: skip
"""The columns that hold a response's standard errors: of the evaluation sample, and of the quantizer's own noise. They
are independent of each other, so that their squares add."""


def standard_error(frame: pl.DataFrame, response: str) -> np.ndarray:
    """Return the standard error of each row's response, nats per token, shape ``(rows,)``; 0 where nothing is said.

    Parameters
    ----------
    frame
        Rows of a measurement table, or some of its columns.
    response
        ``"qid"``, ``"kld"``, ``"loss_16bit"`` or ``"loss"``, whose error is the further column `loss_se`.

    Examples
    --------
    >>> standard_error(pl.DataFrame({"qid": [0.1, 0.2], "qid_se": [0.01, None]}), "qid").tolist()
    [0.01, 0.0]
    >>> both = pl.DataFrame({"qid_se": [0.03], "qid_se_quantizer": [0.04]})
    >>> round(standard_error(both, "qid").item(), 12)
    0.05
    """
    total = np.zeros(frame.height)
    for name in ERRORS[response]:
        if name in frame.columns:
            total += np.square(frame[name].cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy())
    return np.sqrt(total)
