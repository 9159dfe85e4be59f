"""Files that lm-eval and llama.cpp wrote become rows, with units, pairs and errors that follow from their numbers."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

import qidbayes as qb
from qidbayes.errors import InputError, TableWarning
from qidbayes.resources import shipped
from qidbayes.table.runs.llama_cpp import read_log
from qidbayes.table.runs.lm_eval import read_results

RUNS = Path(__file__).parents[2] / "data" / "runs"
LM_EVAL, LLAMA, PUBLIC = RUNS / "lm-eval", RUNS / "llama.cpp", RUNS / "public"
TOKENIZER = shipped("measurements") / "tiny" / "tokenizer"
TINY = {"n_params": 595_072, "tokens": "1073741824"}
SMOL = {"n_params": "106M", "dataset": "held-out"}
pytestmark = pytest.mark.filterwarnings("ignore::qidbayes.errors.TableWarning")


def samples(model: str) -> list[dict]:
    (path,) = (LM_EVAL / f"models__{model}").glob("samples*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def results(model: str) -> Path:
    (path,) = (LM_EVAL / f"models__{model}").glob("results*.json")
    return path


def numbers(name: str, pattern: str) -> list[float]:
    found = re.search(pattern, (LLAMA / f"SmolLM2-135M-Instruct-{name}.log").read_text())
    assert found
    return [float(text) for text in found.groups()]


def test_lm_eval_is_read_paired_and_turned_into_nats_per_token() -> None:
    table = qb.read_table(LM_EVAL, tokenizer=TOKENIZER, **TINY)
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    before = samples("tiny-128x3")
    tokens = sum(len(tokenizer.encode(sample["target"]).ids) for sample in before)
    assert table.select("model", "method", "bits", "group_size", "seq_len").rows() == [
        ("tiny-128x3", "none", 16.0, None, 256),
        ("tiny-128x3", "rtn", 3.0, 32, 256),
        ("tiny-128x3", "rtn", 4.0, 32, 256),
    ]
    assert table["n_eval_tokens"].unique().to_list() == [tokens]
    nll = {
        m: np.array([-s["byte_perplexity"][0] for s in samples(m)]) for m in ("tiny-128x3", "tiny-128x3-rtn-3bit-g32")
    }
    three = table.filter(bits=3).row(0, named=True)
    assert table["loss_16bit"][0] == pytest.approx(nll["tiny-128x3"].sum() / tokens, rel=1e-12)
    difference = nll["tiny-128x3-rtn-3bit-g32"] - nll["tiny-128x3"]
    assert three["qid"] == pytest.approx(difference.sum() / tokens, rel=1e-9)
    assert three["loss"] - three["loss_16bit"] == pytest.approx(three["qid"], rel=1e-9)
    # The jackknife over documents, which knows nothing of the formula, of a ratio to their tokens.
    size = np.array([len(tokenizer.encode(sample["target"]).ids) for sample in before], dtype=float)
    left = (difference.sum() - difference) / (size.sum() - size)
    jackknife = math.sqrt((len(left) - 1) / len(left) * np.square(left - left.mean()).sum())
    assert three["qid_se"] == pytest.approx(jackknife, rel=0.15)
    assert three["source"].startswith("lm-eval 0.4.13, results_2026-")


def test_tokens_may_be_given_in_place_of_a_tokenizer(tmp_path: Path) -> None:
    both = [results("tiny-128x3"), results("tiny-128x3-rtn-4bit-g32")]
    exact = qb.read_table(*both, n_eval_tokens=2588, **TINY)
    assert exact["qid"][1] == qb.read_table(LM_EVAL, tokenizer=TOKENIZER, **TINY).filter(bits=4)["qid"].item()
    # Without the samples the bytes have to be given too, and nothing tells the error of the difference.
    for path in both:
        shutil.copy(path, tmp_path / f"{path.parent.name}.json")
    plain = qb.read_table(*sorted(tmp_path.iterdir()), n_eval_tokens=2588, n_eval_bytes=5470, **TINY)
    assert plain.filter(bits=4)["qid"].item() == pytest.approx(exact["qid"][1], rel=1e-12)
    assert plain["qid_se"].null_count() == 2
    with pytest.raises(InputError, match=r"says bits per byte, .* Give n_eval_tokens and n_eval_bytes .*, the length"):
        qb.read_table(*sorted(tmp_path.iterdir()), **TINY)
    with pytest.raises(InputError, match=r"\(and 2 more\): says bits per byte, .* Give n_eval_tokens .*, the length"):
        qb.read_table(LM_EVAL, **TINY)


@pytest.mark.parametrize("name", ["Q4_0", "Q3_K_M"])
def test_a_comparison_of_llama_cpp_is_what_it_printed(name: str) -> None:
    table = qb.read_table(LLAMA / f"SmolLM2-135M-Instruct-{name}.kl.log", **SMOL)
    row = table.row(0, named=True)
    ratio = numbers(f"{name}.kl", r"Mean ln\(PPL\(Q\)/PPL\(base\)\)     : +([0-9.]+) ± +([0-9.]+)")
    (base,) = numbers(f"{name}.kl", r"Mean PPL\(base\) +: +([0-9.]+)")
    (quantized,) = numbers(f"{name}.kl", r"Mean PPL\(Q\) +: +([0-9.]+)")
    kld, top = numbers(f"{name}.kl", r"Mean    KLD: +([0-9.]+)(?s:.*)Same top p: +([0-9.]+)")
    assert (row["qid"], row["qid_se"], row["mean_kld"], row["same_top"]) == (*ratio, kld, top / 100)
    assert row["loss_16bit"] == math.log(base) and row["loss"] == pytest.approx(math.log(quantized), abs=1e-6)
    assert (row["method"], row["settings"], row["bits"]) == ("gguf", name, {"Q4_0": 4.5, "Q3_K_M": 3.9}[name])
    assert (row["model"], row["seq_len"], row["n_eval_tokens"]) == ("SmolLM2-135M-Instruct", 512, 16 * 255)


def test_perplexities_of_llama_cpp_are_paired_by_chunk() -> None:
    table = qb.read_table(
        *(LLAMA / f"SmolLM2-135M-Instruct-{n}.log" for n in ("F16", "Q4_0.ppl", "Q3_K_M.ppl")), **SMOL
    )
    assert table["method"].to_list() == ["none", "gguf", "gguf"]
    assert table["settings"].to_list() == ["", "Q4_0", "Q3_K_M"]
    for name, row in zip(
        ("Q4_0", "Q3_K_M"), table.filter(pl.col("method") != "none").iter_rows(named=True), strict=True
    ):
        qid, error = numbers(f"{name}.kl", r"Mean ln\(PPL\(Q\)/PPL\(base\)\)     : +([0-9.]+) ± +([0-9.]+)")
        assert row["qid"] == pytest.approx(qid, abs=1e-5), "two perplexities, printed to four decimals"
        # Over 16 chunks, where the program's own error takes 4,080 tokens for independent.
        assert 0.5 < row["qid_se"] / error < 2
        after, before = (
            np.log(
                [
                    float(v)
                    for v in re.findall(r"\[\d+\]([0-9.]+),", (LLAMA / f"SmolLM2-135M-Instruct-{n}.log").read_text())
                ]
            )
            for n in (f"{name}.ppl", "F16")
        )
        chunks = np.diff(np.arange(1, 17) * (after - before), prepend=0)
        assert row["qid_se"] == pytest.approx(chunks.std(ddof=1) / 4, rel=1e-9)


def test_where_both_are_there_the_comparison_stays_and_the_rest_is_named() -> None:
    with pytest.warns(TableWarning) as told:
        table = qb.read_table(LLAMA, **SMOL)
    assert table["settings"].to_list() == ["", "Q3_K_M", "Q4_0"]
    assert table["mean_kld"].drop_nulls().to_list() == [0.119696, 0.274671]
    said = [str(warning.message) for warning in told]
    assert "left out" in said[0] and said[0].count("compares the same with its base") == 2
    assert "is taken to be the 16-bit one" in said[1] and "training tokens are not known of" in said[2]


def test_what_cannot_be_paired_is_named(tmp_path: Path) -> None:
    for name in ("F16", "Q4_0.ppl"):
        shutil.copy(LLAMA / f"SmolLM2-135M-Instruct-{name}.log", tmp_path)
    text = (LLAMA / "SmolLM2-135M-Instruct-Q4_0.ppl.log").read_text()
    (tmp_path / "Other-1B-Q4_0.log").write_text(text)
    (tmp_path / "SmolLM2-135M-Instruct-Q5_0.log").write_text(text.replace("n_ctx=512", "n_ctx=2048"))
    with pytest.warns(TableWarning, match="left out") as told:
        table = qb.read_table(tmp_path, n_params="106M")
    assert table["settings"].to_list() == ["", "Q4_0"]
    said = str(told[0].message)
    assert "Other-1B-Q4_0.log: no 16-bit run of Other-1B, context 512, 4080 tokens; 16-bit runs are of SmolLM2" in said
    assert "Q5_0.log: no 16-bit run of SmolLM2-135M-Instruct, context 2048" in said and "there is one of" in said
    (tmp_path / "SmolLM2-135M-Instruct-F16.log").unlink()
    with pytest.raises(InputError, match="no run can be compared with a 16-bit run"):
        qb.read_table(tmp_path, n_params="106M")


def test_labels_say_what_files_do_not(tmp_path: Path) -> None:
    shutil.copy(LLAMA / "SmolLM2-135M-Instruct-F16.log", tmp_path / "a.log")
    shutil.copy(LLAMA / "SmolLM2-135M-Instruct-Q4_0.ppl.log", tmp_path / "b.log")
    with pytest.raises(InputError, match="neither its name nor its file says method and bits; label it"):
        qb.read_table(tmp_path, n_params="106M")
    (tmp_path / "labels.csv").write_text(
        "file,model,method,bits,settings,n_params,tokens,calibration_tokens\n"
        "a.log,smol,none,16,,106M,,\nb,smol,mine,4,made here,106M,2T,1e5\n"
    )
    table = qb.read_table(tmp_path / "a.log", tmp_path / "b.log", labels=tmp_path / "labels.csv")
    assert table.select("model", "method", "bits", "settings", "tokens", "calibration_tokens").rows() == [
        ("smol", "none", 16.0, "", None, None), ("smol", "mine", 4.0, "made here", 2 * 10**12, 1e5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"name": ["a.log"]}, "column 'file' is missing"),
        ({"file": ["a", "a"], "bits": [3, 4]}, "rows 1 and 2: 'a' stands there twice"),
        ({"file": ["a"], "qid": [0.1]}, "column 'qid' is what runs measured"),
        ({"file": ["a"], "bits": [99]}, "row 1, column 'bits': 99 is not accepted"),
        ({"file": ["a"], "step": [99]}, "a checkpoint is named in 'revision'"),
    ],
)
def test_labels_that_say_something_else_are_refused(labels: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        qb.read_table(LLAMA, labels=labels, **SMOL)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", "{", "not JSON"),
        ("results.json", "[" * 100_000, "not JSON"),
        ("results.json", "[]", "not lm-eval's results"),
        ("results.json", '{"results": {"piqa": {"acc,none": 0.7}}, "model_name": "m"}', "no task has bits_per_byte"),
        ("results.json", '{"results": {"wikitext": {"bits_per_byte,none": 0.7}}}', "names no model"),
        ("a.log", "nothing", "no 'Final estimate: PPL'"),
        ("a.log", "Final estimate: PPL = 0.5 +/- 0.1", "it must be above 1"),
        (
            "a.log",
            "Mean PPL(Q) : 5\nMean PPL(base) : 0.1\nMean ln(PPL(Q)/PPL(base)) : 1 ± 0.1",
            "base model's perplexity",
        ),
        ("samples.jsonl", "{}", "samples are read with the results"),
    ],
)
def test_files_that_hold_no_run_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        qb.read_table(tmp_path / name, n_params=1e9)


def test_samples_of_another_run_are_refused(tmp_path: Path) -> None:
    shutil.copytree(LM_EVAL / "models__tiny-128x3", tmp_path / "m")
    (path,) = (tmp_path / "m").glob("results*.json")
    document = json.loads(path.read_text())
    document["results"]["tiny_text"]["bits_per_byte,none"] *= 1.01
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="they are of another run"):
        qb.read_table(tmp_path, n_eval_tokens=2588, **TINY)


def test_one_size_for_several_models_is_refused(tmp_path: Path) -> None:
    for model in ("X-1B", "Y-7B"):
        for name in ("F16", "Q4_0.ppl"):
            shutil.copy(LLAMA / f"SmolLM2-135M-Instruct-{name}.log", tmp_path / f"{model}-{name}.log")
    with pytest.raises(InputError, match=r"n_params: one value for 2 models \(X-1B, Y-7B\)"):
        qb.read_table(tmp_path, n_params=1e9)
    with pytest.raises(InputError, match=r"n_params: nobody says .* X-1B, Y-7B has"):
        qb.read_table(tmp_path)


def test_an_older_log_tells_of_its_model(tmp_path: Path) -> None:
    """The lines are of llama.cpp in 2024: they name the file, its type and its bits per weight."""
    loaded = (
        "llama_model_loader: loaded meta data with 22 key-value pairs and 292 tensors from ../m/{} (version GGUF V3)\n"
    )
    tail = "perplexity: calculating perplexity over 2 chunks, n_ctx=512, batch_size=512, n_seq=1\n[1]{0},[2]{0},\n"
    tail += "Final estimate: PPL = {0} +/- 0.1\n"
    kept = "llama_model_loader: - kv   3: quantize.imatrix.file str = x.imatrix\n"
    kept += "llama_model_loader: - kv   4: quantize.imatrix.dataset str = data/calibration_v3.txt\n"
    text = loaded.format("x-7b-f16.gguf") + tail.format("5.0000")
    text += loaded.format("x-7b-Q4_K_M.gguf") + kept + "llm_load_print_meta: model ftype      = Q4_K - Medium\n"
    text += "llm_load_print_meta: model size       = 3.80 GiB (4.84 BPW)\n" + tail.format("5.1000")
    (tmp_path / "all.log").write_text(text)
    row = qb.read_table(tmp_path / "all.log", n_params="6.5B").filter(pl.col("method") != "none").row(0, named=True)
    assert (row["model"], row["method"], row["bits"], row["bits_per_weight"]) == ("x-7b", "gguf", 4.8, 4.84)
    assert row["settings"] == "Q4_K_M, imatrix calibration_v3.txt" and row["qid"] == pytest.approx(math.log(5.1 / 5))


def test_tables_with_perplexities_come_in_too(tmp_path: Path) -> None:
    (tmp_path / "readme.csv").write_text("model,method,bits,ppl\nx-7b,fp16,16,5.47\nx-7b,GPTQ,4,5.61\n")
    table = qb.read_table(tmp_path / "readme.csv", n_params="6.5B", tokens="1T")
    assert table["qid"].to_list() == [None, pytest.approx(math.log(5.61 / 5.47))]


def test_one_text_in_two_contexts_is_two_data_sets(tmp_path: Path) -> None:
    for context, name in ((512, "short"), (2048, "long")):
        for kind in ("F16", "Q4_0.ppl"):
            text = (LLAMA / f"SmolLM2-135M-Instruct-{kind}.log").read_text().replace("n_ctx=512", f"n_ctx={context}")
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"x-{kind}.log").write_text(text)
    with pytest.warns(TableWarning, match="told apart by -ctx in its name: wiki"):
        table = qb.read_table(tmp_path, n_params="1B", dataset="wiki")
    assert table.select("dataset", "method").rows() == [
        ("wiki-ctx2048", "none"), ("wiki-ctx2048", "gguf"), ("wiki-ctx512", "none"), ("wiki-ctx512", "gguf"),
    ]  # fmt: skip


def test_a_run_that_is_repeated_is_named(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        shutil.copytree(LLAMA, tmp_path / folder, ignore=shutil.ignore_patterns("*.kl.log", "*Q3*"))
    with pytest.warns(TableWarning, match=r"another 16-bit run of .*is taken.*says the same and is taken"):
        assert qb.read_table(tmp_path, n_params="1B").height == 2


def test_one_length_for_two_texts_is_refused(tmp_path: Path) -> None:
    document = json.loads(results("tiny-128x3").read_text())
    document["results"]["other"] = document["results"]["tiny_text"]
    (tmp_path / "results.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"n_eval_tokens: one value for 2 texts \(tiny_text, other\)"):
        qb.read_table(tmp_path, n_eval_tokens=2588, n_eval_bytes=5470, **TINY)


def test_labels_may_be_a_frame(tmp_path: Path) -> None:
    labels = pl.DataFrame({"file": ["SmolLM2-135M-Instruct-Q4_0.kl.log"], "settings": ["from Q4_1"]})
    table = qb.read_table(LLAMA / "SmolLM2-135M-Instruct-Q4_0.kl.log", labels=labels, **SMOL)
    assert table["settings"].to_list() == ["from Q4_1"]


def test_a_log_of_llama_cpp_s_own_tests() -> None:
    """Of ggml-org/ci, build 4840: two runs in one log, models called ggml-model-*.gguf, Pythia 2.8B."""
    table = qb.read_table(PUBLIC / "ggml-ci-pythia-2.8b.log", n_params=2_517_652_480, tokens="300B")
    row = table.row(1, named=True)
    assert (row["model"], row["method"], row["bits"], row["bits_per_weight"]) == ("pythia-2.8B", "gguf", 8.5, 8.51)
    assert (row["dataset"], row["seq_len"], row["n_eval_tokens"]) == ("wikitext2", 2048, 4 * 1023)
    assert row["qid"] == pytest.approx(math.log(10.3702 / 10.3475))
    assert 0 < row["qid_se"] < 0.002, "paired: the program says 0.4 of 10 for either perplexity, which is 0.04 nats"
    assert row["source"] == "llama.cpp b4840, ggml-ci-pythia-2.8b.log"


def test_comparisons_that_people_posted() -> None:
    """Of ik_llama.cpp's discussions, without its base, and two in one log of somebody's sweep, without names."""
    scout = qb.read_table(PUBLIC / "Llama-4-Scout-IQ3_XXS.log", n_params="107B").row(0, named=True)
    assert (scout["model"], scout["method"], scout["bits"]) == ("Llama-4-Scout", "gguf", 3.1)
    assert (scout["qid"], scout["qid_se"], scout["mean_kld"]) == (0.030502, 0.002438, 0.106186)
    assert scout["loss"] == pytest.approx(math.log(8.894160))
    runs = read_log(PUBLIC / "Qwen3.6-35B-A3B.log")
    assert [(run.qid, run.qid_se) for run in runs] == [(-0.00005, 0.001548), (0.005092, 0.001806)]
    assert [run.further["same_top"] for run in runs] == pytest.approx([0.98105, 0.97835])
    with pytest.raises(InputError, match="neither its name nor its file says method and bits"):
        qb.read_table(PUBLIC / "Qwen3.6-35B-A3B.log", n_params="34B")


def test_a_model_card_with_its_commands() -> None:
    """GLM-4.6 for ik_llama.cpp: files in parts, the text before the model, and a base that is Q8_0, not 16 bits."""
    path = PUBLIC / "GLM-4.6.md"
    runs = read_log(path)
    assert [(run.stem, run.qid, run.qid_se) for run in runs] == [
        ("GLM-4.6-unsloth", 0.05888, 0.003478), ("GLM-4.6-slow", 0.050827, 0.003141),
    ]  # fmt: skip
    assert {run.dataset for run in runs} == {"ddh0_imat_calibration_data_v2"}
    with pytest.raises(InputError, match=r"GLM-4\.6-slow: neither its name nor its file says method and bits"):
        qb.read_table(path, n_params="32B")
    with pytest.warns(
        TableWarning, match=r"was compared with GLM-4\.6-KLD-.*, which is gguf: QiD is from there"
    ) as said:
        told = qb.read_table(path, n_params="32B", model="GLM-4.6", method="gguf-iq2-kl", bits=2)
    assert told["qid"].to_list() == [0.05888]
    assert "has another QiD of what is called the same (0.05888 against 0.050827)" in str(said[0].message)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("sign", ["+/-", "±", "┬▒", "\ufffd"])
def test_consoles_that_cannot_write_plus_minus(tmp_path: Path, encoding: str, sign: str) -> None:
    """Qwen3.8-27B against itself, in ASCII as it was published, and as consoles of Windows and PowerShell have it."""
    log = tmp_path / "Qwen3.8-27B-Q8_0.log"
    text = (PUBLIC / "Qwen3.8-27B-Q8_0.md").read_text(encoding="utf-8")
    log.write_text(text.replace("+/-", sign), encoding=encoding)
    row = qb.read_table(log, n_params="26B").row(0, named=True)
    assert (row["model"], row["method"], row["bits"]) == ("Qwen3.8-27B", "gguf", 8.5)
    assert (row["qid"], row["qid_se"], row["loss_16bit"]) == (0.000572, 0.000351, pytest.approx(math.log(5.929072)))


def test_perplexities_of_single_words_are_refused_by_reason() -> None:
    """RWKV7-Goose 0.1B of lm-eval in 2025: lambada's perplexity is of the last word alone, so that it is no loss."""
    with pytest.raises(InputError, match=r"RWKV7.*: no task has bits_per_byte or byte_perplexity; run one that sums"):
        qb.read_table(PUBLIC / "RWKV7-Goose-0.1B.json", n_params="0.1B")


@pytest.mark.parametrize(
    ("arguments", "cell"),
    [
        ({"pretrained": "bartowski/x-GGUF", "gguf_file": "x-Q4_K_M.gguf"}, ("gguf", 4.8, None, "bartowski/Q4_K_M")),
        ({"pretrained": "TheBloke/x-GPTQ-4bit-128g"}, ("gptq", 4.0, 128, "by TheBloke")),
        ({"pretrained": "Intel/x-int4-AutoRound"}, ("autoround", 4.0, None, "by Intel")),
    ],
)
def test_lm_eval_s_files_of_others_are_named_as_the_atlas_names_them(
    tmp_path: Path, arguments: dict, cell: tuple[object, ...]
) -> None:
    path = tmp_path / "results.json"
    config = {"model": "hf", "model_args": arguments, "model_sha": "0123abcd"}
    path.write_text(json.dumps({"results": {"wikitext": {"bits_per_byte,none": 0.7}}, "config": config}))
    (run,) = read_results(path)
    found = run.quantization
    assert (found.method, found.bits, found.group_size, found.settings) == cell


def test_results_of_an_early_lm_eval() -> None:
    """As posted in EleutherAI/lm-evaluation-harness#806, in 2023: no filters in names, arguments as one text."""
    (run,) = read_results(PUBLIC / "llama-2-7b-2023.json")
    assert (run.stem, run.dataset, run.quantization.method) == ("Llama-2-7b", "wikitext", "none")
    assert run.bits_per_byte == pytest.approx(math.log2(1.5015845643537054))


def qid_by_words(before: float, after: float, words: float) -> float:
    """What lm-eval's perplexities of words say, which the import does not read."""
    return math.log(after / before) * words


def test_a_format_among_the_arguments_is_no_16_bits() -> None:
    """Llama 3.1 8B before and after mxfp8, as printed in pytorch/ao#3394 in 2025: imported without help."""
    files = [PUBLIC / "Meta-Llama-3.1-8B.json", PUBLIC / "Meta-Llama-3.1-8B-mxfp8.json"]
    table = qb.read_table(*files, n_params="6.98B", n_eval_tokens=250, n_eval_bytes=1000)
    assert table.select("model", "method", "bits").row(-1) == ("Meta-Llama-3.1-8B", "mxfp8", 8.0)
    bytes_a_word = math.log(7.5472105433748435) / math.log(1.459319739134015)
    expected = qid_by_words(7.5472105433748435, 7.609070006132819, 1000 / bytes_a_word / 250)
    assert table["qid"][-1] == pytest.approx(expected, rel=1e-9) and 0.005 < expected < 0.01


def test_results_that_name_no_model_are_labelled() -> None:
    """As printed in meta-pytorch/gpt-fast#155 in 2024, with HQQ and without: neither run says what it is of."""
    files = [PUBLIC / "gpt-fast.json", PUBLIC / "gpt-fast-hqq.json"]
    with pytest.raises(InputError, match=r"gpt-fast\.json: names no model .*; name it in a table of labels"):
        qb.read_table(*files, n_params="6.5B")
    labels = pl.DataFrame({"file": [f.name for f in files], "model": "x", "method": ["none", "hqq"], "bits": [16, 4]})
    table = qb.read_table(*files, labels=labels, n_params="6.5B", n_eval_tokens=250, n_eval_bytes=1000)
    bytes_a_word = math.log(12.639992147818221) / math.log(1.6070602521912754)
    expected = qid_by_words(12.639992147818221, 12.698986130023261, 1000 / bytes_a_word / 250)
    assert table["method"][-1] == "hqq" and table["qid"][-1] == pytest.approx(expected, rel=1e-6)


def test_tables_of_an_early_lm_eval_before_and_after_awq() -> None:
    """As printed in casper-hansen/AutoAWQ#113 in 2023, with four decimals; the width is AutoAWQ's only one then."""
    files = [PUBLIC / "bilingual-gpt-neox-4b.json", PUBLIC / "bilingual-gpt-neox-4b-awq.json"]
    sizes = {"n_params": "3.4B", "n_eval_tokens": 300, "n_eval_bytes": 1000}
    with pytest.raises(InputError, match=r"bilingual-gpt-neox-4b-awq: neither its name nor its file says .*bits"):
        qb.read_table(*files, **sizes)
    labels = pl.DataFrame({"file": [files[1].name], "method": "awq", "bits": 4, "group_size": 128})
    table = qb.read_table(*files, labels=labels, **sizes)
    assert table.select("model", "method", "bits", "group_size").row(-1) == ("bilingual-gpt-neox-4b", "awq", 4.0, 128)
    bytes_a_word = math.log(15.0848) / math.log(1.6611)
    expected = qid_by_words(15.0848, 15.8949, 1000 / bytes_a_word / 300)
    # Bits per byte, of four decimals, differ by .0141 ± .00004.
    assert table["qid"][-1] == pytest.approx(expected, rel=0.006) and 0.03 < expected < 0.035


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("pretrained=x-7b,quantization=fp8", ("fp8", 8.0)),
        ("pretrained=x-7b,quantization=None", ("none", 16.0)),
        ("pretrained=x-7b-4bit,quantization=awq_marlin", ("awq", 4.0)),
        ("pretrained=x-gptq-4bit,quantization=compressed-tensors", ("gptq", 4.0)),
        ("pretrained=x-7b,quantization=bitsandbytes", ("bitsandbytes", None)),
    ],
)
def test_what_vllm_is_told_of_quantization(tmp_path: Path, arguments: str, found: tuple[object, ...]) -> None:
    path = tmp_path / "results.json"
    config = {"model": "vllm", "model_args": arguments}
    path.write_text(json.dumps({"results": {"wikitext": {"bits_per_byte,none": 0.7}}, "config": config}))
    (run,) = read_results(path)
    assert (run.quantization.method, run.quantization.bits) == found


def test_perplexities_that_people_published() -> None:
    """Of the README of GPTQ-for-LLaMa, of arXiv:2210.17323 and of an issue of OWQ: each row finds its 16-bit one."""
    path = PUBLIC / "perplexities.csv"
    given = pl.read_csv(path).with_columns(pl.col("method").str.to_lowercase())
    table = qb.read_table(path)
    before = {row["model"]: row["ppl"] for row in given.filter(method="fp16").iter_rows(named=True)}
    assert len(before) == 15 and table.filter(pl.col("method") != "none")["qid"].null_count() == 0
    expected = [math.log(r["ppl"] / before[r["model"]]) for r in given.iter_rows(named=True) if r["method"] != "fp16"]
    assert table.filter(pl.col("method") != "none")["qid"].to_list() == pytest.approx(expected)
    owq = table.filter(pl.col("suite") == "LLaMA-2", pl.col("bits") == 3, pl.col("group_size").is_null())
    assert owq["settings"].unique().sort().to_list() == ["3.01 bits", "3.1 bits"]
