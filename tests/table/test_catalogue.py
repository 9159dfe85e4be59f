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
    "atlas": 1669,
    "bitnet": 370,
    "chinchilla": 240,
    "chinchilla/excluded": 5,
    "gguf-2024": 423,
    "gguf-2026": 486,
    "llama-qwen": 38,
    "nano": 4550,
    "nano/code": 4550,
    "nano/wikitext2": 4550,
    "ptq-papers": 876,
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
    "ptq-papers": {"opt", "llama-1", "llama-2", "llama-3", "mistral", "phi", "qwen3", "deepseek"},
    "ptq-wikitext2": {"opt", "bloom", "llama-1"},
    "gguf-2024": {
        "llama-1",
        "llama-2",
        "llama-3",
        "mistral",
        "gemma-2",
        "qwen2",
        "qwen2.5",
        "exaone",
        "open-llama",
    },
    "gguf-2026": {"deepseek", "glm", "qwen3", "qwen3.5"},
}
"""The suites of tables that hold several."""
ASIDE = {
    "ptq-papers": {"collapsed": 156, "doubtful": 119},
    "ptq-wikitext2": {"collapsed": 8},
    "gguf-2026": {"doubtful": 16},
}
"""The statuses of rows that no law is fitted to, and how many have each."""
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
    aside = table.filter(pl.col("status") != "ok")
    assert dict(aside.group_by("status").len().rows()) == ASIDE.get(name, {})
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
    untold = made.filter(pl.col("tokens").is_null())
    assert set(untold["suite"]) == {"glm", "mistral", "qwen3.5"}
    assert (
        untold.height
        == made.filter(pl.col("suite").is_in(["mistral", "qwen3.5"]) | (pl.col("model") == "GLM-4.6")).height
    )


@pytest.mark.parametrize("name", ["ptq-papers", "gguf-2024"])
def test_the_atlas_has_what_stands_out_of_rounding(name: str) -> None:
    cell = ["suite", "model", "tokens", "method", "bits", "group_size", "settings", "dataset"]
    table = load_table(name).filter(status="ok")
    taken = table.join(load_table("atlas"), on=cell, how="semi", nulls_equal=True)
    left = table.join(taken, on=cell, how="anti", nulls_equal=True)
    assert (taken.height, left.height) == {"ptq-papers": (558, 43), "gguf-2024": (315, 108)}[name]
    stands_out = (pl.col("qid") > 5 * pl.col("qid_se")) & (pl.col("bits") <= 5)
    assert taken.select(stands_out.all()).item()
    assert set(left.filter(stands_out).select("method", "bits").rows()) == (
        {("awq", 2.0), ("rtn", 2.0)} if name == "ptq-papers" else set()
    )


def test_a_collapsed_model_has_a_perplexity_of_a_thousand() -> None:
    table = load_table("ptq-papers")
    collapsed = table.filter(status="collapsed")
    assert collapsed.equals(table.filter(pl.col("loss") >= round(math.log(1000), 6)))
    said = collapsed["source"].str.extract(r" to ([\d.]+)$").cast(pl.Float64)
    assert said.min() == 1000  # Mistral 7B: printed as 1e3


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


def test_a_source_has_one_16bit_loss_of_a_model_on_a_text() -> None:
    for name in ("ptq-papers", "gguf-2024"):
        source = pl.col("source").str.replace("; perplexity .*", "")
        rows = load_table(name).group_by("model", "dataset", source=source)
        spread = rows.agg(pl.col("loss_16bit").max() - pl.col("loss_16bit").min())
        assert spread["loss_16bit"].max() < 2e-6  # differences from printed ones end in another digit


@pytest.mark.parametrize("name", ["ptq-papers", "gguf-2024"])
def test_perplexities_in_the_source_are_those_of_the_row(name: str) -> None:
    table = load_table(name)
    for column, place in (("loss_16bit", r"perplexity ([\d.]+) to"), ("loss", r" to ([\d.]+)$")):
        said = table["source"].str.extract(place).cast(pl.Float64).log()
        assert (said - table[column]).abs().max() < 1e-6
    assert (table["source"].str.count_matches(r"\(") == table["source"].str.count_matches(r"\)")).all()


def test_a_model_has_one_size_and_one_training_in_every_table() -> None:
    """By whatever suite and spelling a table has it: `Llama2-7B` of one is `Llama-2-7B` of another."""
    rows = pl.concat(load_table(n).select("model", "n_params", "tokens") for n in FAMILIES).unique()
    spelled = pl.col("model").str.split("/").list.last().str.to_lowercase().str.replace_all("-", "")
    size = pl.col("n_params").max() / pl.col("n_params").min()
    models = rows.group_by(spelled).agg(pl.col("tokens").n_unique(), size=size)
    assert models.height >= 80
    assert (models["tokens"] == 1).all() and (models["size"] < 1 + 1e-6).all()


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


PRINTED = [
    ("ptq-papers", "LLaMA-33B", "awq", 3, 128, "wikitext2", 4.10, 4.63),
    ("ptq-papers", "Llama-2-70B", "rtn", 2, 128, "wikitext2", 3.31, 27.27),
    ("ptq-papers", "Llama-2-13B", "gptq", 4, None, "wikitext2", 4.88, 5.13),
    ("ptq-papers", "Llama-3-8B", "gptq", 3, 128, "ptb", 10.6, 15.2),
    ("ptq-papers", "Qwen3-32B", "gptq", 4, 128, "wikitext2", 7.61, 7.86),
    ("ptq-papers", "Qwen3-4B-Base", "rtn", 4, None, "c4", 11.6, 14.4),
    ("ptq-papers", "Qwen3-14B-Base", "awq", 3, None, "wikitext2", 6.38, 9.95),
    ("ptq-papers", "Mistral-7B-v0.1", "gptq", 2, 64, "wikitext2", 5.25, 14.2),
    ("ptq-papers", "OPT-13B", "awq", 3, 128, "wikitext2", 10.12, 10.68),
    ("ptq-papers", "OPT-30B", "gptq", 2, 64, "wikitext2", 9.56, 11.87),
    ("gguf-2024", "LLaMA-7B", "ikawrakow/Q3_K_M", None, None, "wikitext2", 5.9066, 6.1503),
    ("gguf-2024", "Llama-2-7B", "ikawrakow-imatrix/IQ2_XS-pure", None, None, "wikitext2", 5.7975, 8.1669),
    ("gguf-2024", "Llama-2-70B", "llama.cpp/Q2_K", None, None, "wikitext2", 3.4313, 3.7339),
    ("gguf-2024", "Mistral-7B-v0.1", "ikawrakow/Q4_1-jan24", None, None, "wikitext2", 5.6924, 5.8244),
    ("gguf-2024", "gemma-2-9b", "fedric95/Q2_K", None, None, "wikitext2", 6.9209, 8.7979),
    ("gguf-2024", "EXAONE-3.5-7.8B-Instruct", "ThomasBaruzier/IQ3_XS", None, None, "wikitext2", 8.8992, 9.2103),
    ("gguf-2024", "Qwen2.5-0.5B-Instruct", "ThomasBaruzier/IQ2_M", None, None, "wikitext2", 15.1819, 18.325),
]
"""As the second reader of a table typed them, or of GGUF as the notes of the one reader have them."""


@pytest.mark.parametrize(("name", "model", "what", "bits", "group", "dataset", "before", "after"), PRINTED)
def test_perplexities_as_printed(
    name: str, model: str, what: str, bits: int | None, group: int | None, dataset: str, before: float, after: float
) -> None:
    rows = load_table(name).filter(model=model, dataset=dataset)
    if bits is None:
        rows = rows.filter(settings=what)
    else:
        rows = rows.filter(pl.col("group_size").eq_missing(group), method=what, bits=float(bits))
    assert rows.select("loss_16bit", "loss").rows() == [(round(math.log(before), 6), round(math.log(after), 6))]
    assert rows["qid"].item() == pytest.approx(math.log(after / before), abs=2e-6)


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
        ("ptq-papers", "loss_16bit", 1866.29481),
        ("ptq-papers", "loss", 3847.244798),
        ("gguf-2024", "loss_16bit", 803.348999),
        ("gguf-2024", "loss", 860.635343),
        ("gguf-2024", "kld", 8.726239),
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
    papers = load_table("ptq-papers").filter(pl.col("qid") <= 0)
    assert below.height == bitnet.height + files.height + papers.height
    assert set(bitnet["model"]) == {"decoder-only 1.2B"}
    assert (bitnet.height, bitnet["tokens"].min(), bitnet["tokens"].max()) == (32, 800_000_000, 3_900_000_000)
    assert files.height == 35 + 2  # of gguf-2024 two at Q6_K
    assert papers.height == 9


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
