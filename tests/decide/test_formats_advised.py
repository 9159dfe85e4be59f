"""Formats to choose from, against the table of the atlas and its own predictions."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from terminal import on_a_terminal

import qidbayes as qb
from qidbayes.decide.formats import bits_per_weight, known_formats
from qidbayes.methods import BITS


@pytest.fixture(scope="module")
def atlas() -> qb.Fit:
    return qb.load_fit("atlas")


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.simplefilter("ignore")  # of what is assumed, and of 16-bit losses


def test_formats_are_those_of_the_fitted_rows(atlas: qb.Fit) -> None:
    table = atlas.data
    known = known_formats(atlas)
    others = table.filter(pl.col("method") != "gguf").group_by("method", "bits", "group_size")
    others = others.agg(pl.len(), suites=pl.col("suite").n_unique())
    found = known.filter(pl.col("method") != "gguf")
    listed = set(found.select("method", "bits", "group_size").rows())
    often = others.filter(pl.col("len") >= 5, pl.col("suites") > 1)
    assert set(often.drop("len", "suites").rows()) <= listed <= set(others.drop("len", "suites").rows())
    assert set(found["method"]) == set(others["method"])
    assert found["format"].is_unique().all() and {"gptq 3 bits g128", "rtn 4 bits", "bnb-nf4 g64"} < set(
        found["format"]
    )
    files = known.filter(method="gguf")
    named = {text.rpartition("/")[2] for text in table.filter(method="gguf")["settings"]}
    above = table.filter(method="gguf")["bits"].max()
    assert set(files["settings"]) == {t for t in BITS if t in named or above < BITS[t] <= table["bits"].max()}
    assert files["bits"].to_list() == [BITS[name] for name in files["settings"]] == sorted(files["bits"])
    whose = known_formats(atlas, "gguf", ["eaddario/Q4_K"])["settings"].to_list()
    assert "eaddario/IQ2_M" in whose and "eaddario/Q3_K_M" not in whose  # one that they made, one that they did not


MADE_UP = {  # suites of the atlas and how many rows each has, and whether the format is known
    ("gptq", 4.0, None): ({"opt": 3, "bloom": 2}, True),
    ("gptq", 4.0, 128): ({"opt": 9}, False),
    ("gptq", 4.0, 1024): ({"opt": 2, "bloom": 2}, False),
    ("gptq", 2.0, 64): ({"opt": 9}, False),  # others may not bear it
    ("gptq", 8.0, None): ({"opt": 9}, True),  # nothing at that width or a greater one is known better
    ("bnb-4bit", 4.0, None): ({"pythia": 1}, True),  # all that the method has
    ("gptq", 3.0, 32): ({"a suite of one's own": 1}, True),
}


def test_what_one_suite_has_or_few_rows_is_no_format_where_more_is_known(atlas: qb.Fit) -> None:
    rows = [
        {"suite": suite, "method": method, "bits": bits, "group_size": group, "settings": ""}
        for (method, bits, group), (suites, _) in MADE_UP.items()
        for suite, count in suites.items()
        for _ in range(count)
    ]
    fit = replace(atlas, data=pl.DataFrame(rows))
    found = known_formats(fit).select("method", "bits", "group_size").rows()
    assert set(found) == {name for name, (_, known) in MADE_UP.items() if known}
    given = replace(fit, attributes={**fit.attributes, "conditioned_on": ({"suite": "opt", "rows": 1},)})
    assert set(known_formats(given).select("method", "bits", "group_size").rows()) == set(MADE_UP)


def test_formats_of_rows_of_ones_own_are_known(atlas: qb.Fit) -> None:
    mine = pl.DataFrame({"suite": "mine", "model": "mine-3b", "n_params": 3e9, "tokens": 2e12, "dataset": "wikitext2",
                         "method": "gptq", "bits": [3.0, 4.0], "group_size": 32})  # fmt: skip
    mine = mine.with_columns(qid=atlas.predict(mine.drop("suite", "model"))["median"])
    own = {"gptq 3 bits g32", "gptq 4 bits g32"}
    assert not own & set(known_formats(atlas)["format"])
    given = atlas.condition(mine)
    assert set(known_formats(given)["format"]) == own | set(known_formats(atlas)["format"])


def test_types_wider_than_any_fitted_file_are_named(atlas: qb.Fit) -> None:
    with pytest.warns(qb.errors.AssumptionWarning, match="no GGUF file of more than 5 bits .*Q5_0, .*Q6_K") as told:
        known_formats(atlas, "gguf")
    assert "Q4_K_M" not in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known_formats(atlas, "gptq")


def test_at_equal_bytes_the_atlas_names_formats_the_least_loss_first(atlas: qb.Fit) -> None:
    found = qb.pareto(atlas, memory=16e9, tokens=15e12, dataset="wikitext2")
    np.testing.assert_allclose(found["n_params"] * found["bits_per_weight"] / 8, 16e9)
    assert found["median"].is_sorted() and found["prob_best"].sum() == pytest.approx(1.0)
    assert set(found["format"]) == {*known_formats(atlas)["format"], "16 bits"}
    sizes = dict(found.select("format", "bits_per_weight").iter_rows())
    assert sizes["gguf Q4_K_M"] == BITS["Q4_K_M"] and sizes["bnb-nf4 g64"] == 4.5 and sizes["16 bits"] == 16
    assert sizes["gptq 3 bits g128"] == bits_per_weight(3, 128) and sizes["gptq 4 bits"] == 4
    for name in ("gguf Q3_K_M", "gptq 3 bits g128", "awq 4 bits"):
        (row,) = found.filter(format=name).to_dicts()
        asked = {key: row[key] for key in ("n_params", "tokens", "method", "bits", "group_size", "settings")}
        alone = atlas.predict(dataset="wikitext2", **{k: v for k, v in asked.items() if v is not None})["median"].item()
        assert row["qid"] == pytest.approx(alone, rel=0.12), name  # of other draws: 2,000 of a joint normal
    (plain,) = found.filter(format="16 bits").to_dicts()
    assert plain["qid"] == 0 and plain["lower"] == plain["upper"]


def test_of_one_method_only_its_formats(atlas: qb.Fit) -> None:
    asked = {"memory": 8e9, "tokens": 1e12}
    of_awq = set(qb.pareto(atlas, **asked, method="awq")["format"])
    assert of_awq == {*known_formats(atlas, "awq")["format"], "16 bits"} > {"awq 4 bits", "awq 4 bits g64"}
    whose = qb.pareto(atlas, **asked, settings="bartowski/Q4_K_M")["settings"].drop_nulls()
    assert whose.str.starts_with("bartowski/").all() and "bartowski/IQ3_XS" in whose.to_list()
    widths = qb.pareto(atlas, **asked, bits=[4.8], method="gguf")  # whose bits have their scales in them
    assert "format" not in widths.columns and widths["n_params"].item() == pytest.approx(8 * 8e9 / 4.8)
    unknown = qb.pareto(atlas, **asked, method="mine")
    assert unknown["bits"].to_list() == [2, 3, 4, 5, 6, 8, 16]


def test_advice_about_a_gguf_file_lists_its_makers_types(atlas: qb.Fit) -> None:
    asked = {"n_params": [1e9, 8e9], "tokens": 15e12, "dataset": "wikitext2"}
    found = qb.advise(atlas, **asked, settings="bartowski/Q4_K_M", max_qid=0.3, prob=0.9)
    assert (
        found.select("method", "settings", "bits")
        .unique()
        .sort("bits", "settings")
        .equals(
            known_formats(atlas, "gguf", ["bartowski/Q4_K_M"])
            .select("method", "settings", "bits")
            .sort("bits", "settings")
        )
    )
    for row in found.filter(pl.col("settings").str.contains("IQ3_M|Q4_K_M")).to_dicts():
        band = atlas.predict(
            n_params=row["n_params"], tokens=15e12, dataset="wikitext2", method="gguf", bits=row["bits"],
            settings=row["settings"],
        )  # fmt: skip
        assert (row["median"], row["lower"], row["upper"]) == pytest.approx(
            band.select("median", "lower", "upper").row(0)
        )
    first = {n: part.filter(pl.col("prob") >= 0.9) for (n,), part in found.group_by("n_params")}
    for (n,), part in found.group_by("n_params"):
        advised = part.filter("advised")["settings"].to_list()
        assert advised == first[n]["settings"].to_list()[:1] and len(advised) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", qb.errors.UnfittedWarning)  # of bits that a type does not have
        qb.advise(atlas, **asked, settings="bartowski/Q4_K_M", max_qid=0.3)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_names_and_ends_of_intervals_are_whole_on_a_terminal(width: int, atlas: qb.Fit, tmp_path: Path) -> None:
    shown = on_a_terminal(["advise", "--memory", "16GB", "--tokens", "15T", "--dataset", "wikitext2"], tmp_path, width)
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines() if line.startswith(" ")]
    assert max(map(len, lines)) <= width and "…" not in shown
    found = qb.pareto(atlas, memory=16e9, tokens=15e12, dataset="wikitext2")
    for row in found.to_dicts():
        ends = [f"{row[name]:.4g}" for name in ("median", "lower", "upper")]
        assert any(line.startswith(f" {row['format']} ") and set(ends) <= set(line.split()) for line in lines), row
