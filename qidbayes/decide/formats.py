"""Formats that a fit of many families knows: methods with their widths and group sizes, and types of GGUF files."""

from collections.abc import Sequence

import polars as pl

from qidbayes.methods import BITS, OF_FILES, type_of
from qidbayes.noise.makers import makers
from qidbayes.posterior.fit import Fit
from qidbayes.posterior.guessing import say_assumed
from qidbayes.table.catalogue import load_table

UNQUANTIZED = 16.0
FEW = 5
"""Rows of which a format has fewer are too few to know it, as one suite is; see `known_formats`."""
_SCHEMA = {"format": pl.String, "method": pl.String, "bits": pl.Float64, "group_size": pl.Int64, "settings": pl.String}
_FIXED = "bnb-"  # formats of one width, whose scales have 32 bits and which have no zero points


def bits_per_weight(bits: float, group_size: int | None, method: str = "") -> float:
    """Return what a weight takes with its share of a 16-bit scale and a zero point of `bits`; 16 bits have neither.

    Bits of GGUF files have their scales in them, and bitsandbytes' scales are of 32 bits without zero points. A group
    that is a whole row, None, takes none.

    Examples
    --------
    >>> bits_per_weight(4, 128), bits_per_weight(16, 128), bits_per_weight(4, 64, "bnb-nf4")
    (4.15625, 16.0, 4.5)
    """
    if bits >= UNQUANTIZED or method == OF_FILES or group_size is None:
        return float(bits)
    return bits + (32.0 if method.startswith(_FIXED) else 16.0 + bits) / group_size


def known_formats(fit: Fit, method: str | None = None, settings: Sequence[str] = ()) -> pl.DataFrame:
    """Return the formats of a fit's rows, of one method if one is named, from few bits to many.

    Parameters
    ----------
    fit
        A fit of many families.
    method
        The method; None for all.
    settings
        Whose GGUF files, such as ``bartowski/Q4_K_M``: all types of these makers. If none are named, the types of all.

    Returns
    -------
    polars.DataFrame
        ``format``, a name for people, ``method``, ``bits``, ``group_size`` and ``settings``. A format of fewer than
        five rows or of a single suite is left out, where the method has one of more at that width or a greater one:
        the other suites may not bear so few bits. Formats of rows of one's own are all in it: of suites that the fit
        was conditioned on or that the shipped atlas does not have. Of GGUF, types with more bits than any fitted file
        are in it too, up to the most bits of any fitted row. An `AssumptionWarning` names them.

    Examples
    --------
    >>> from qidbayes.posterior import load_fit
    >>> known_formats(load_fit("atlas"), "awq")["format"].to_list()[-1]
    'awq 4 bits g64'
    """
    data = fit.data.filter(pl.col("bits") < UNQUANTIZED)
    rows: list[tuple[str, str, float, int | None, str | None]] = []
    if not settings and method != OF_FILES:
        wanted = pl.col("method") == method if method else pl.col("method") != OF_FILES
        others = data.filter(wanted).with_columns(pl.col("group_size").cast(pl.Int64))
        named = pl.col("suite")
        own = named.is_in(_conditioned_on(fit)) | ~named.is_in(load_table("atlas")["suite"].unique().to_list())
        formats = others.group_by("method", "bits", "group_size").agg(
            often=(pl.len() >= FEW) & (named.n_unique() > 1), own=own.any()
        )
        widest = pl.col("bits").filter("often").max().over("method")
        chosen = formats.filter(pl.col("often") | pl.col("own") | (pl.col("bits") > widest).fill_null(True))
        for name, bits, group in chosen.select("method", "bits", "group_size").iter_rows():
            width = "" if name.startswith(_FIXED) else f" {bits:g} bits"
            rows.append((f"{name}{width}{f' g{group}' if group else ''}", name, float(bits), group, None))
    if method in (None, OF_FILES):
        rows += _types(data, settings)
    return pl.DataFrame(rows, _SCHEMA, orient="row").sort("bits", "format")


def _conditioned_on(fit: Fit) -> list[str]:
    return [given["suite"] for given in fit.attributes.get("conditioned_on", ())]


def _types(data: pl.DataFrame, settings: Sequence[str]) -> list[tuple[str, str, float, None, str]]:
    files = data.filter(pl.col("method") == OF_FILES)
    if files.is_empty():
        return []
    above, most = float(files["bits"].max()), float(data["bits"].max())  # type: ignore[arg-type]
    rows = []
    further = [name for name, bits in BITS.items() if above < bits <= most]
    if foretold := [name for name in further if name not in {type_of(text) for text in files["settings"]}]:
        rest = f"{', '.join(foretold)} are answered by how QiD falls with bits in all methods"
        say_assumed((f"assumed: no GGUF file of more than {above:.2g} bits a weight was fitted; {rest}",))
    for maker in dict.fromkeys(text.rpartition("/")[0] for text in settings or [""]):
        own = [text for text, by in zip(files["settings"], makers(files), strict=True) if by == maker]
        measured = {type_of(text) for text in own or files["settings"]}
        for name, bits in BITS.items():
            if name in measured or name in further:
                text = f"{maker}/{name}" if maker else name
                rows.append((f"{OF_FILES} {text}", OF_FILES, bits, None, text))
    return rows
