"""Work out the bits of the quantized weights, and each model's error: python measurements/gguf-2026/bits.py

The source tells the bits per weight of a whole file. Embeddings and output layer are a third of a small model, and most
recipes keep them wide. A file made by a recipe of llama.cpp keeps them at types that its code gives (`llama-quant.cpp`,
the choice of a tensor's type), so that the bits of the other weights follow. Where a maker chose types by hand
(ubergarm, Thireus), the column `bits` stays that of the file.
"""

import re
from pathlib import Path

import polars as pl

TABLE = Path(__file__).with_name("gguf-2026.csv")
EMBEDDINGS = {
    "DeepSeek-R1-0528": (1_853_358_080, 2), "DeepSeek-V3.1": (1_853_358_080, 2),
    "DeepSeek-V3.1-Terminus": (1_853_358_080, 2), "GLM-4.5": (1_551_892_480, 2), "GLM-4.5-Air": (1_241_513_984, 2),
    "GLM-4.6": (1_551_892_480, 2), "GLM-4.7-Flash": (634_388_480, 2), "Qwen3-4B-Instruct-2507": (388_956_160, 1),
    "Qwen3.5-0.8B": (254_279_680, 1), "Qwen3.5-2B": (508_559_360, 1), "Qwen3.5-4B": (635_699_200, 1),
    "Qwen3.5-9B": (2_034_237_440, 2), "Qwen3.5-35B-A3B": (1_017_118_720, 2), "Qwen3.5-122B-A10B": (1_525_678_080, 2),
}  # fmt: skip
"""Weights of embeddings and output layer, and how many matrices these are: 1 where both are one matrix."""
BY_HAND = ("ubergarm", "thireus-recipe", "anikifoss")
WIDTHS = {"Q2_K": 2.625, "Q3_K": 3.4375, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q8_0": 8.5, "IQ3_S": 3.4375,
          "Q4_0": 4.5, "Q4_1": 5.0, "Q5_0": 5.5, "IQ4_XS": 4.25, "IQ4_NL": 4.5}  # fmt: skip
"""Bits per weight of llama.cpp's types."""
LOW = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS")
NEAR_NOTHING = 6.4
"""Bits per weight from which a file's QiD is taken to be the evaluation's error."""
FEWEST = 5


def embedding_types(settings: str) -> tuple[str, str] | None:
    """Return the types of output layer and embeddings that a recipe keeps; none where they are not known."""
    maker, _, name = settings.partition("/")
    if maker in BY_HAND:
        return None
    recipe = re.sub(r"^UD[-_]", "", name)
    if (recipe == "Q3_K_XL" and maker == "bartowski") or re.fullmatch(r"Q[2456]_K_L", recipe):
        return "Q8_0", "Q8_0"  # a second set of recipes of his, for which the others' embeddings are too narrow
    if recipe in LOW:
        return "Q5_K", "IQ3_S" if recipe in ("IQ2_S", "IQ2_M", "IQ3_XXS") else "Q2_K"
    base = re.sub(r"^(I?Q\d_(?:K|0|1|XS|NL|S|M)).*", r"\1", recipe)
    base = "IQ3_S" if base in ("IQ3_XS", "IQ3_S", "IQ3_M") else base
    return (("Q8_0" if base == "Q8_0" else "Q6_K"), base) if base in WIDTHS else None


def weight_bits(model: str, settings: str, n_params: int, file_bits: float) -> float:
    """Return the bits per weight of all matrices but the embeddings and the output layer."""
    types = embedding_types(settings)
    if types is None:
        return file_bits
    count, matrices = EMBEDDINGS[model]
    kept = WIDTHS[types[0]] if matrices == 1 else (WIDTHS[types[0]] + WIDTHS[types[1]]) / 2
    return round((file_bits * (n_params + count) - kept * count) / n_params, 4)


def errors(table: pl.DataFrame) -> pl.Series:
    """Return each row's standard error: the root mean square QiD of its model's files that are near the original.

    Models of fewer than five such files, the reference not counted, have that of their files together.
    """
    wide = table.filter(pl.col("bits") >= NEAR_NOTHING, pl.col("qid") != 0)
    few = pl.len().over("model") < FEWEST
    wide = wide.with_columns(of=pl.when(few).then(pl.lit("few")).otherwise("model"))
    rms = dict(wide.group_by("of").agg((pl.col("qid") ** 2).mean().sqrt()).iter_rows())
    return pl.Series([rms.get(model, rms["few"]) for model in table["model"]]).round(4)


if __name__ == "__main__":
    table = pl.read_csv(TABLE, infer_schema_length=None)
    rows = table.select("model", "settings", "n_params", "bits_per_weight").iter_rows()
    table = table.with_columns(bits=pl.Series([weight_bits(*row) for row in rows]))
    table.with_columns(qid_se=errors(table)).write_csv(TABLE)
