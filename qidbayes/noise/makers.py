"""Who made a quantized file, and so chose its recipe: the text before a slash in its ``settings``."""

import numpy as np
import polars as pl

from qidbayes.noise.coordinates import NEW, Fitted
from qidbayes.noise.family_kernel import USUAL


def makers(frame: pl.DataFrame) -> list[str]:
    """Return who made each row's file, empty where its ``settings`` do not say.

    Examples
    --------
    >>> makers(pl.DataFrame({"settings": ["bartowski/Q4_K_M", "act-order", None]}))
    ['bartowski', '', '']
    """
    if "settings" not in frame.columns:
        return [""] * frame.height
    return [text.rpartition("/")[0] for text in frame["settings"].fill_null("")]


def labels(fitted: Fitted) -> tuple[str, ...]:
    """Return the fitted makers, in the order of their codes."""
    return tuple(dict.fromkeys(maker for maker in makers(fitted.data) if maker))


def codes(fitted: Fitted, frame: pl.DataFrame) -> np.ndarray:
    """Return the code of each row's maker; shape ``(rows,)``.

    A row that names none has the usual one of its method, which is no effect. Of a method all of whose fitted rows name
    one, as files of GGUF do, it has a new one.
    """
    known = {maker: code for code, maker in enumerate(labels(fitted))}
    method, of_method = fitted.codes(frame, "method"), fitted.codes(fitted.data, "method")
    unsaid = {int(code) for code, maker in zip(of_method, makers(fitted.data), strict=True) if not maker}
    named = {int(code) for code in of_method} - unsaid
    found = [
        known.get(maker, NEW) if maker else NEW if int(code) in named else USUAL
        for maker, code in zip(makers(frame), method, strict=True)
    ]
    return np.array(found, dtype=np.int64)
