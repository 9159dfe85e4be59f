"""Make the table `atlas` from the shipped ones: python measurements/atlas/build.py"""

from pathlib import Path

import polars as pl

import qidbayes as qb

PUBLISHED = (
    "pythia", "pythia/awq-bnb", "pythia/gptq-8bit", "spectra", "llama-qwen", "ptq-wikitext2", "gguf-2026",
    "ptq-papers", "gguf-2024",
)  # fmt: skip
WIDEST = 5.0
"""Bits per weight up to which a GGUF file's QiD stands out of its evaluation's error."""
ROUNDED = ("ptq-papers", "gguf-2024")
"""Tables of perplexities whose printed decimals are few."""
CELL = ["suite", "model", "tokens", "method", "bits", "group_size", "settings", "dataset"]


def atlas() -> pl.DataFrame:
    """Return every published QiD that is shipped, and of `nano` what tells methods apart."""
    published = qb.load_table(*PUBLISHED).filter(pl.col("qid").is_not_null(), pl.col("status") == "ok")
    published = published.filter((pl.col("method") != "gguf") | (pl.col("bits") <= WIDEST))
    # A QiD of less than five times what rounding leaves open has hardly a logarithm. At 8 bits two of three are so.
    rounded = pl.concat(qb.load_table(name).select(CELL) for name in ROUNDED).unique()
    told = (pl.col("qid") > 5 * pl.col("qid_se")) & (pl.col("bits") <= WIDEST)
    vague = published.join(rounded, on=CELL, how="semi", nulls_equal=True).filter(~told)
    published = published.join(vague.select(CELL), on=CELL, how="anti", nulls_equal=True)
    # Of a method and width that mostly collapses, what is left is what went well: 2 bits of AWQ and of RTN.
    papers = qb.load_table("ptq-papers").filter(pl.col("status").is_in(["ok", "collapsed"]))
    lost = papers.group_by("method", "bits").agg(share=(pl.col("status") == "collapsed").mean())
    published = published.join(lost.filter(pl.col("share") > 0.5), on=["method", "bits"], how="anti")
    nano = qb.load_table("nano").filter(pl.col("qid").is_not_null(), pl.col("n_params") > 1e6)
    # Pythia's checkpoints lie close: of each run every third, from the last, says as much of other families.
    steps = pl.col("tokens").rank("dense", descending=True).over("suite")
    published = published.filter((pl.col("suite") != "pythia") | (steps % 3 == 1) & (pl.col("tokens") > 4e9))
    # Of each run its end; at 8 bits their QiD is within its standard errors of 0.
    nano = nano.filter(pl.col("tokens") == pl.col("tokens").max().over("model"), pl.col("bits") <= 4)
    return pl.concat([published, nano]).drop("seconds_quantize", "seconds_evaluate", "peak_memory_gib", "device")


if __name__ == "__main__":
    atlas().write_parquet(Path(__file__).with_name("atlas.parquet"), compression="zstd", compression_level=19)
