"""Bits of the quantized weights of GGUF files, held against what their types are by definition."""

import runpy
from pathlib import Path

import polars as pl
import pytest

from qidbayes.methods import BITS
from qidbayes.table import load_table

FOLDER = Path(__file__).parents[2] / "measurements" / "gguf-2026"


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return load_table("gguf-2026").with_columns(
        maker=pl.col("settings").str.split("/").list.first(), recipe=pl.col("settings").str.split("/").list.last()
    )


def test_the_shipped_bits_and_errors_are_those_of_the_script(table: pl.DataFrame) -> None:
    made = runpy.run_path(str(FOLDER / "bits.py"))
    shipped = pl.read_csv(FOLDER / "gguf-2026.csv", infer_schema_length=None)
    rows = shipped.select("model", "settings", "n_params", "bits_per_weight").iter_rows()
    assert shipped["bits"].to_list() == [made["weight_bits"](*row) for row in rows]
    assert shipped["qid_se"].to_list() == made["errors"](shipped).to_list()


def test_files_of_one_type_have_its_bits(table: pl.DataFrame) -> None:
    # A weight of Q8_0 takes 8.5 bits, one of Q6_K 6.5625 and one of Q3_K 3.4375 (ggml's block layouts); norms and a few
    # small matrices are wider. Whole files of Q3_K_S have up to 4.5.
    for maker, recipe, width in (("eaddario", "Q8_0", 8.5), ("lmstudio-community", "Q6_K", 6.5625),
                                 ("mradermacher", "Q5_K_S", 5.5), ("mradermacher", "Q3_K_S", 3.4375)):  # fmt: skip
        rows = table.filter(pl.col("model").str.starts_with("Qwen3.5"), maker=maker, recipe=recipe)
        assert rows.height >= 2
        assert rows["bits"].to_list() == pytest.approx([width] * rows.height, rel=0.01)


def test_one_recipe_has_the_same_bits_in_models_of_any_size(table: pl.DataFrame) -> None:
    sizes = ("Qwen3.5-0.8B", "Qwen3.5-2B", "Qwen3.5-4B", "Qwen3.5-9B")
    rows = table.filter(pl.col("model").is_in(sizes), pl.col("maker").is_in(["unsloth", "bartowski"]))
    ratio = [pl.col(name).max() / pl.col(name).min() for name in ("bits", "bits_per_weight")]
    spread = rows.filter(pl.col("bits") <= 5).group_by("settings").agg(pl.len(), *ratio).filter(pl.col("len") == 4)
    assert spread.height >= 20
    assert spread["bits"].median() < 1.05 < 1.1 < spread["bits_per_weight"].median()


def test_wider_embeddings_leave_the_other_weights_as_they_are(table: pl.DataFrame) -> None:
    # bartowski's Q2_K_L is his Q2_K with embeddings of 8.5 bits.
    wide, usual = (table.filter(maker="bartowski", recipe=recipe) for recipe in ("Q2_K_L", "Q2_K"))
    pairs = wide.join(usual, on="model").filter(pl.col("model").str.starts_with("Qwen3.5"))
    assert pairs.height >= 3
    assert pairs["bits"].to_list() == pytest.approx(pairs["bits_right"].to_list(), rel=0.002)
    assert (pairs["bits_per_weight"] / pairs["bits_per_weight_right"]).min() > 1.05


def test_what_a_type_is_taken_to_have_is_what_a_dense_model_s_files_have(table: pl.DataFrame) -> None:
    files = table.filter(pl.col("model").str.starts_with("Qwen3-4B"))
    found = dict(files.group_by("recipe").agg(pl.col("bits").median()).iter_rows())
    assert {name: found[name] for name in BITS} == pytest.approx(BITS, abs=0.0501)


def test_a_type_has_the_same_bits_in_older_files(table: pl.DataFrame) -> None:
    # Recipes give some matrices a wider type, and these have another share of a model of another shape: 1.5 to 3.5% of
    # the bits. Three files of 2023 have a Q2_K of another mix, which has 3.4 bits.
    recipe, model = pl.col("settings").str.split("/").list.last(), pl.col("model")
    now = table.filter(model.str.starts_with("Qwen3-4B")).group_by("recipe").agg(pl.col("bits").median().alias("now"))
    files = load_table("gguf-2024").with_columns(recipe=recipe).join(now, on="recipe")
    files = files.filter(
        pl.col("bits_per_weight").is_not_null(), model != "Qwen2.5-0.5B-Instruct"
    )  # its rows fall back
    assert files.height >= 240 and files["recipe"].n_unique() >= 20 and files["model"].n_unique() >= 15
    old = (pl.col("recipe") == "Q2_K") & pl.col("settings").is_in(["ikawrakow/Q2_K", "llama.cpp/Q2_K"])
    assert files.filter(old)["bits"].to_list() == pytest.approx([3.36, 3.36, 3.39], abs=0.01)
    since = files.filter(~old)
    assert since["bits"].to_list() == pytest.approx(since["now"].to_list(), rel=0.035)


def test_rows_that_blocks_do_not_divide_fall_back_to_wider_types() -> None:
    files = load_table("gguf-2024").with_columns(recipe=pl.col("settings").str.split("/").list.last())
    small = files.filter(pl.col("model").str.contains("-0.5B-"), pl.col("recipe").is_in(list(BITS)))
    assert set(small["model"]) == {"Qwen2-0.5B-Instruct", "Qwen2.5-0.5B-Instruct"}
    excess = small["bits"] / small["recipe"].replace_strict(BITS, return_dtype=pl.Float64)
    assert excess.min() > 0.99 and excess.max() > 1.8
