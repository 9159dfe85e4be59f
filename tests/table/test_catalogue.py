"""The shipped tables: all there, described, and equal to what was published."""

import importlib.util
import math

import polars as pl
import pytest

from qidbayes.errors import InputError
from qidbayes.resources import shipped
from qidbayes.table import list_tables, load_table
from qidbayes.table.schema import validate

ROWS = {
    "atlas": 796,
    "bitnet": 370,
    "chinchilla": 240,
    "chinchilla/excluded": 5,
    "gguf-2026": 486,
    "llama-qwen": 38,
    "nano": 4550,
    "nano/code": 4550,
    "nano/wikitext2": 4550,
    "ptq-wikitext2": 94,
    "nano-drift": 672,
    "nano-native": 740,
    "pythia": 360,
    "pythia/1.4b": 24,
    "pythia/awq-bnb": 216,
    "pythia/gptq-8bit": 24,
    "pythia/wikitext2": 54,
    "spectra": 18,
    "tiny": 156,
}
FROM_PAPERS = [
    name for name in ROWS if name.split("/")[0] not in ("atlas", "nano", "nano-drift", "nano-native", "tiny")
]  # the others this package measured or made
FAMILIES = {
    "llama-qwen": {"llama", "qwen"},
    "ptq-wikitext2": {"opt", "bloom", "llama-1"},
    "gguf-2026": {"deepseek", "glm", "qwen3", "qwen3.5"},
}
"""The suites of tables that hold several."""
ASIDE = {"ptq-wikitext2": ("collapsed", 8), "gguf-2026": ("doubtful", 16)}
"""The status of rows that no law is fitted to, and how many there are."""
NON_EMBEDDING = {
    "160m": 85_056_000,
    "410m": 302_311_424,
    "1b": 805_736_448,
    "1.4b": 1_208_602_624,
    "2.8b": 2_517_652_480,
    "6.9b": 6_444_163_072,
    "12b": 11_327_027_200,
}
STEPS = [512, *(1000 * k for k in (1, 2, 4, 6, 8, 10, 12, 14, 20, 24, 29, 36, 43, 57, 71, 86, 93, 95, 98))]


def test_the_list_has_every_table_and_its_rows() -> None:
    listed = list_tables()
    assert dict(listed.select("name", "rows").rows()) == ROWS
    assert listed.columns == ["name", "rows", "suites", "models", "methods", "bits", "what"]
    bits = dict(listed.select("name", "bits").rows())
    assert bits["pythia"] == "2, 3, 4"
    widths = load_table("gguf-2026")["bits"]
    assert bits["gguf-2026"] == f"{min(widths):.3g} to {max(widths):.3g}, {len(set(widths))} widths"  # not hundreds


@pytest.mark.parametrize("name", FROM_PAPERS)
def test_every_table_cites_its_source_and_has_a_data_card(name: str) -> None:
    table = load_table(name)
    assert table["source"].null_count() == 0
    assert set(table["suite"]) == FAMILIES.get(name, {name.split("/")[0]})
    status, count = ASIDE.get(name, ("failed", 0))
    assert table.filter(pl.col("status") != "ok")["status"].to_list() == [status] * count
    card = (shipped("measurements") / name.split("/")[0] / "README.md").read_text(encoding="utf-8")
    for heading in (f"## {name}: ", "## How the numbers were read", "## Units", "## Licence and attribution"):
        assert heading in card
    assert list_tables().filter(pl.col("name") == name)["what"].item()


def test_all_shipped_tables_join() -> None:
    names = [name for name in ROWS if name != "atlas"]  # whose rows are theirs
    assert load_table(*names).height == sum(ROWS[name] for name in names)


def test_the_atlas_is_what_its_script_makes_of_the_others() -> None:
    path = shipped("measurements") / "atlas" / "build.py"
    spec = importlib.util.spec_from_file_location("build", path)
    assert spec
    assert spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    made = build.atlas()
    assert validate(made, "atlas").equals(load_table("atlas"))
    assert (made["status"] == "ok").all()
    assert made["tokens"].null_count() == made.filter(suite="qwen3.5").height + made.filter(model="GLM-4.6").height


def test_pythia_is_complete() -> None:
    table = load_table("pythia")
    cells = table.select("model", "tokens", "bits").unique()
    assert cells.height == 6 * 20 * 3
    assert set(table["tokens"]) == {step * 2_097_152 for step in STEPS}
    assert set(table["revision"]) == {f"step{step}" for step in STEPS}
    assert set(table["method"]) == {"gptq"}
    assert set(table["dataset"]) == {"refinedweb"}
    assert table.select("loss_16bit", "loss", "learning_rate").drop_nulls().height == 360


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("pythia")])
def test_pythia_counts_non_embedding_parameters(name: str) -> None:
    sizes = load_table(name).select("model", "n_params").unique().rows()
    assert all(
        NON_EMBEDDING[model.removeprefix("EleutherAI/pythia-").removesuffix("-deduped")] == n for model, n in sizes
    )


def test_a_checkpoint_has_one_16bit_loss() -> None:
    table = load_table("pythia", "pythia/awq-bnb", "pythia/gptq-8bit")
    checkpoints = table.group_by("model", "revision").agg(pl.col("loss_16bit").n_unique())
    assert checkpoints.height == 120
    assert (checkpoints["loss_16bit"] == 1).all()


PUBLISHED = [
    ("pythia", "EleutherAI/pythia-1b-deduped", 29_360_128_000, "gptq", 2.0, 1.116897),
    ("pythia", "EleutherAI/pythia-2.8b-deduped", 60_817_408_000, "gptq", 4.0, 0.022244),
    ("pythia", "EleutherAI/pythia-6.9b-deduped", 75_497_472_000, "gptq", 2.0, 1.147853),
    ("pythia", "EleutherAI/pythia-12b-deduped", 50_331_648_000, "gptq", 3.0, 0.040981),
    ("pythia/awq-bnb", "EleutherAI/pythia-6.9b-deduped", 119_537_664_000, "awq", 4.0, 0.020242),
    ("pythia/awq-bnb", "EleutherAI/pythia-6.9b-deduped", 4_194_304_000, "bnb-4bit", 4.0, 0.018361),
    ("pythia/awq-bnb", "EleutherAI/pythia-410m-deduped", 180_355_072_000, "bnb-4bit", 4.0, 0.120274),
    ("pythia/awq-bnb", "EleutherAI/pythia-12b-deduped", 41_943_040_000, "bnb-4bit", 4.0, 0.036803),
    ("pythia/gptq-8bit", "EleutherAI/pythia-1b-deduped", 205_520_896_000, "gptq", 8.0, 0.000274),
    ("pythia/gptq-8bit", "EleutherAI/pythia-160m-deduped", 119_537_664_000, "gptq", 8.0, 0.000369),
    ("pythia/1.4b", "EleutherAI/pythia-1.4b-deduped", 119_537_664_000, "gptq", 3.0, 0.165637),
    ("pythia/1.4b", "EleutherAI/pythia-1.4b-deduped", 180_355_072_000, "gptq", 2.0, 2.566749),
    ("pythia/wikitext2", "EleutherAI/pythia-12b-deduped", 29_360_128_000, "gptq", 2.0, 0.344209),
    ("pythia/wikitext2", "EleutherAI/pythia-12b-deduped", 148_897_792_000, "gptq", 3.0, 0.161186),
    ("spectra", "FloatLM_99M", 300_000_000_000, "gptq", 3.0, 1.16726),
    ("spectra", "FloatLM_560M", 300_000_000_000, "gptq", 4.0, 0.10313),
    ("llama-qwen", "Llama3-8B(b)", 15_000_000_000_000, "gptq", 3.0, 0.7783),
    ("llama-qwen", "Qwen2-0.5B", 12_000_000_000_000, "gptq", 2.0, 7.9198),
]


@pytest.mark.parametrize(("name", "model", "tokens", "method", "bits", "qid"), PUBLISHED)
def test_qid_as_published(name: str, model: str, tokens: int, method: str, bits: float, qid: float) -> None:
    found = load_table(name).filter(model=model, tokens=tokens, method=method, bits=bits)
    assert found["qid"].to_list() == [qid]


@pytest.mark.parametrize(
    ("size", "step", "loss_16bit"),
    [
        ("410m", 20000, 3.364277),
        ("1b", 93000, 3.042818),
        ("160m", 57000, 3.536657),
        ("410m", 36000, 3.295135),
        ("6.9b", 2000, 3.929011),
        ("160m", 20000, 3.614478),
    ],
)
def test_16bit_losses_as_published(size: str, step: int, loss_16bit: float) -> None:
    found = load_table("pythia").filter(model=f"EleutherAI/pythia-{size}-deduped", revision=f"step{step}")
    assert found["loss_16bit"].to_list() == [loss_16bit] * 3


@pytest.mark.parametrize(
    ("name", "column", "total"),
    [
        ("pythia", "qid", 212.240059),
        ("pythia/awq-bnb", "qid", 10.233022),
        ("pythia/gptq-8bit", "qid", 0.005109),
        ("pythia/1.4b", "qid", 16.270614),
        ("pythia/wikitext2", "qid", 18.452742),
        ("spectra", "qid", 5.87861),
        ("llama-qwen", "qid", 78.8568),
        ("pythia", "loss_16bit", 1246.469832),
        ("chinchilla", "loss_16bit", 634.35469),
        ("chinchilla/excluded", "loss_16bit", 20.67724),
        ("bitnet", "loss_16bit", 1144.2293),
        ("bitnet", "loss", 1216.5248),
    ],
)
def test_no_value_strayed(name: str, column: str, total: float) -> None:
    # Sums over whole tables as published: a value lost, doubled or rounded would show.
    assert load_table(name)[column].sum() == pytest.approx(total, abs=1e-9)


def test_learning_rate_follows_pythia_s_schedule() -> None:
    rows = load_table("pythia").filter(model="EleutherAI/pythia-160m-deduped", bits=2.0)
    warmup, total, peak = 1430, 143_000, 6e-4
    for revision, rate in rows.select("revision", "learning_rate").iter_rows():
        step = int(revision.removeprefix("step"))
        cosine = 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        assert rate == pytest.approx(peak * (step / warmup if step < warmup else cosine), rel=1e-9)


def test_bitnet_pairs_two_runs() -> None:
    table = load_table("bitnet")
    assert dict(table.group_by("model").len().rows()) == {"decoder-only 120M": 185, "decoder-only 1.2B": 185}
    row = table.filter(model="decoder-only 1.2B", tokens=3_100_000_000).row(0, named=True)
    assert (row["loss_16bit"], row["loss"], row["qid"]) == (3.3135, 3.2948, -0.0187)
    assert row["source"] == "arXiv:2411.17691v2 Fig 14 left and right"
    assert table["source"].str.ends_with("and right").sum() == 14


def test_where_qid_is_zero_or_below() -> None:
    below = load_table(*FROM_PAPERS).filter(pl.col("qid") <= 0)
    bitnet, files = below.filter(suite="bitnet"), below.filter(method="gguf")
    assert below.height == bitnet.height + files.height
    assert set(bitnet["model"]) == {"decoder-only 1.2B"}
    assert (bitnet.height, bitnet["tokens"].min(), bitnet["tokens"].max()) == (32, 800_000_000, 3_900_000_000)
    assert files.height == 35


def test_chinchilla_is_what_epoch_fitted() -> None:
    fitted, excluded = load_table("chinchilla"), load_table("chinchilla/excluded")
    assert set(fitted["method"]) == set(excluded["method"]) == {"none"}
    assert excluded["loss_16bit"].to_list() == [5.00558, 4.66523, 3.76556, 3.79387, 3.447]
    assert fitted["tokens"].min() == 819_000_000 > 812_000_000 == excluded["tokens"].max()
    assert load_table("chinchilla", "chinchilla/excluded")["model"].n_unique() == 245


def test_llama3_8b_stands_twice_under_two_names() -> None:
    table = load_table("llama-qwen").filter(pl.col("model").str.starts_with("Llama3-8B"), bits=2.0)
    assert dict(table.select("model", "qid").rows()) == {"Llama3-8B(a)": 7.9952, "Llama3-8B(b)": 6.3759}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("pithia", "did you mean 'pythia'?"), ("pythia/awq", "did you mean 'pythia/"), ("../pythia", "one of atlas, ")],
)
def test_an_unknown_name_lists_the_known_ones(name: str, hint: str) -> None:
    with pytest.raises(InputError) as refused:
        load_table(name)
    message = str(refused.value)
    assert message.startswith(f"unknown table {name!r}; ")
    assert hint in message
    assert all(known in message for known in ROWS)


def test_no_name_at_all() -> None:
    with pytest.raises(InputError, match=r"no table named; .* one of atlas, bitnet"):
        load_table()
