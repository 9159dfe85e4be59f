"""Plans: the shipped ones say what they should, and mistakes are named with their place."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from measure.conftest import PLAN, write_plan
from qidbayes.errors import InputError
from qidbayes.measure import load_plan
from qidbayes.measure.quantize import quantizer_from_settings
from qidbayes.model_names import read_name
from qidbayes.resources import shipped


def test_the_papers_grid_is_shipped() -> None:
    plan = load_plan(shipped("measurements") / "pythia" / "plan.toml")
    assert len({c.model for c in plan.checkpoints}) == 6
    assert len(plan.checkpoints) == 120
    assert max(c.tokens for c in plan.checkpoints) == 98_000 * 2_097_152
    assert {d.name for d in plan.evaluation.datasets} == {"refinedweb", "wikitext2"}
    asked = {(q.method, q.bits) for q in plan.quantizations}
    assert asked >= {("gptq", 2), ("gptq", 8), ("awq", 4), ("rtn", 2), ("bnb-nf4", 4), ("bnb-fp4", 4), ("bnb-int8", 8)}
    # Learning rates of Pythia 12B as computed from the published schedule, to the digits given there.
    rates = {c.revision: c.learning_rate for c in plan.checkpoints if "12b" in c.model}
    assert rates["step512"] == pytest.approx(4.296503496503496e-05, rel=1e-12)
    assert rates["step2000"] == pytest.approx(0.00011999568018680851, rel=1e-9)


@pytest.mark.parametrize("suite", ["pythia", "pythia-full", "pythia-released", "spectra", "llama-qwen", "nano", "tiny"])
def test_shipped_plans_are_plans(suite: str) -> None:
    plan = load_plan(shipped("measurements") / suite / "plan.toml")
    assert plan.suite == suite
    quantized_here = [quantization for quantization in plan.quantizations if quantization.method != "prequantized"]
    for quantization in quantized_here:  # what the plan accepts, the quantizers do
        assert quantizer_from_settings(quantization.for_quantizer()).bits == quantization.bits


def test_methods_are_in_lower_case_and_minus_one_is_per_channel(tmp_path: Path) -> None:
    """As tables read them; a byte-order mark before it all is passed over."""
    path = write_plan(tmp_path)
    text = path.read_text(encoding="utf-8")
    asked = load_plan(path).quantizations
    assert None in {q.group_size for q in asked}
    other = text.replace('group_size = "channel"', "group_size = -1").replace('method = "gptq"', 'method = "GPTQ"')
    assert other != text
    path.write_text("\ufeff" + other, encoding="utf-8")
    assert load_plan(path).quantizations == asked


REFUSALS = {
    "misspelt key": ("seed = 3", "sed = 3", r"plan.toml: the key sed is not known; did you mean seed\?"),
    "unknown method": ('method = "gptq"', 'method = "gtpq"', r"\[\[quantizations\]\] 2: method = 'gtpq'.*mean gptq\?"),
    "unknown setting": ("bits = 3", "bits = 3\nact_oder = true", r"no setting act_oder; did you mean act_order"),
    "a setting of another kind": (
        "bits = 3",
        'bits = 3\ndamping = "much"',
        r"\[\[quantizations\]\] 2: gptq: damping = 'much' is not accepted; give a number above 0 and at most 1",
    ),
    "a width that no quantizer has": (
        "bits = 3",
        "bits = 9",
        r"bits = 9; give whole numbers .* at most 8",
    ),
    "a width of 1": ("bits = [3, 4]", "bits = [1]", r"\[\[quantizations\]\] 1: bits = \[1\]; give whole numbers of at"),
    "no group size": ('group_size = "channel"', "", r"group_size is missing; give the number of weights that share"),
    "the same twice": ("bits = [3, 4]", "bits = [3, 3]", r"two quantizations are rtn 3 bits gchannel; keep one"),
    "no steps": ("[revisions]", "[revision]", r"give tokens, or a table \[revisions\]"),
    "step 0": ("steps = [100,", "steps = [1,", r"steps = .*; give steps that make at least 100,000 training tokens"),
    "a count as text": ("n_params = ", 'n_params = "many" #', r"'many' is not a count"),
    "both places": ('name = "small"', 'name = "small"\nid = "a/b"', r'give either id = "owner/name".* or path'),
    "until more than a share": (
        "tokens = 1_024\n",
        "tokens = 1_024\nuntil = 2\n",
        r"\[evaluation\]: until = 2; give a share of QiD above 0 and below",
    ),
    "too many orders": ("seq_len = 32\n", "seq_len = 32\norders = 17\n", r"\[calibration\]: orders = 17; give 1 to 16"),
    "no calibration": ("", "", r"\[calibration\] is missing; give a dataset, windows and seq_len for gptq"),
    "an unknown set": ("path =", "pth =", r"give 'held-out' an id or a path, or name a known set"),
    "one window": ("tokens = 1_024", "tokens = 33", r"\[evaluation\]: tokens = 33; give a whole number of at least 64"),
    "a bad dtype": ('"float32"', '"int4"', r"dtype = 'int4' is not known; Accepted: bfloat16, float16, float32"),
    "a bad begin": (
        "seed = 3",
        'seed = 3\nbegin = "words"',
        r"begin = 'words' is not known; Accepted: document, window",
    ),
    "not TOML": ("suite =", "suite", r"plan.toml: is not valid TOML"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_mistakes_are_named(name: str, tmp_path: Path) -> None:
    old, new, message = REFUSALS[name]

    def change(text: str) -> str:
        if name == "no calibration":
            return text[: text.index("[calibration]")] + text[text.index("[evaluation]") :]
        head, found, tail = text.rpartition(old) if name == "an unknown set" else text.partition(old)
        assert found
        return head + new + tail

    with pytest.raises(InputError, match=message):
        load_plan(write_plan(tmp_path, change))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        load_plan(tmp_path / "nowhere.toml")


def many(count: int, start: int = 0) -> str:
    return str(list(range(start, start + count)))


WIDTHS = '[[quantizations]]\nmethod = "rtn"\nbits = {bits}\ngroup_size = {sizes}\n'
TOO_MUCH = {
    # Each table makes fewer than 10,000; all of them 1.5 million, from 120 kB.
    "quantizations": (
        lambda text: text + 150 * WIDTHS.format(bits=[2] * 100, sizes=many(99, 1)),
        r"152 tables \[\[quantizations\]\] make 1,485,003 widths and group sizes; give at most 10,000",
    ),
    "checkpoints": (
        lambda text: text.replace("[100, 200, 400]", many(10_001, 100)),
        "1 models make 10,001 checkpoints; give at most 10,000",
    ),
    "cells": (
        lambda text: text.replace("[100, 200, 400]", many(5_000, 100)) + WIDTHS.format(bits="[5]", sizes=many(500, 1)),
        "5,000 checkpoints, 503 quantizations and 1 evaluation sets make 2,520,000 cells; give at most 1,000,000",
    ),
    "a place": (
        lambda text: text.replace("models/{revision}", 300 * "{revision}/").replace("step{step}", 200 * "s" + "{step}"),
        "its path is longer than 4,096 characters; give a shorter one",
    ),
    "a text": (
        lambda text: text.replace("models/{revision}", 5_000 * "a"),
        "path has 5,000 characters; give at most 4,096",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_more_than_a_plan_holds_is_refused_with_figures_before_it_is_made(name: str, tmp_path: Path) -> None:
    change, message = TOO_MUCH[name]
    path = write_plan(tmp_path, change)
    tracemalloc.start()
    with pytest.raises(InputError, match=message):
        load_plan(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40e6  # what TOML itself takes, not what the plan would


def test_quantized_files_of_one_model_each_are_counted_as_what_they_are(tmp_path: Path) -> None:
    """1,200 checkpoints of 1,200 models, each with files of its own: 1,200 × 1,200 cells only if counted wrongly."""
    head, _, tail = PLAN.partition("[[models]]")
    model = '[[models]]\nname = "m{n}"\npath = "m"\ntokens = "1B"\nn_params = 10_000\n'
    files = '[[quantizations]]\nmethod = "prequantized"\nname = "gptq"\npath = "q"\nbits = 4\ngroup_size = 32\n'
    files += 'models = ["m{n}"]\n'
    made = head + "".join(model.format(n=n) + files.format(n=n) for n in range(1_200))
    path = tmp_path / "plan.toml"
    path.write_text(made.format() + tail[tail.index("[evaluation]") :].format(evaluation="texts"))
    plan = load_plan(path)
    assert sum(plan.rows_of(checkpoint) for checkpoint in plan.checkpoints) == 2_400


GGUF_FILE = '[[quantizations]]\nmethod = "prequantized"\nid = "bartowski/{model}-GGUF"\nfile = "{model}-Q4_K_M.gguf"\n'


@pytest.mark.parametrize(
    ("more", "cell"),
    [
        ("", ("gguf", 4.8, None, "bartowski/Q4_K_M")),
        ('settings = "imatrix wiki"', ("gguf", 4.8, None, "bartowski/Q4_K_M, imatrix wiki")),
        ('settings = "unsloth/Q3_K_S"', ("gguf", 3.4, None, "unsloth/Q3_K_S")),
        ("bits = 5.3", ("gguf", 5.3, None, "bartowski/Q4_K_M")),
        ('name = "gguf-iq3-m"', ("gguf", 3.6, None, "IQ3_M")),  # as older plans named them
        ('name = "gguf-mine"', ("gguf", 4.8, None, "bartowski/Q4_K_M, mine")),
    ],
)
def test_a_gguf_file_is_named_by_maker_and_type(tmp_path: Path, more: str, cell: tuple[object, ...]) -> None:
    path = write_plan(tmp_path, lambda text: text.replace("[evaluation]", f"{GGUF_FILE}{more}\n\n[evaluation]", 1))
    plan = load_plan(path)
    assert plan.quantizations[-1].cell == cell
    stored, named = read_name("x-Q4_K_M.gguf")[1], plan.quantizations[-1]
    if not more:  # as an import of such a file has it, but for the maker, whom a file's name does not tell
        assert named.cell[:3] == (stored.method, stored.bits, stored.group_size)
        assert named.recipe == f"bartowski/{stored.settings}"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("group_size = 32", "group_size: a GGUF file's type says it; leave it out"),
        ('name = "mine"', r"name = 'mine'; give none to a GGUF file, whose method is gguf; settings tell files apart"),
        ("bits = 40", "bits = 40; give the bits a weight of its matrices"),
        ("Q4_K_M", "bits is missing; give the bits a weight of its matrices, or in settings the type of the file"),
    ],
)
def test_what_a_gguf_file_does_not_take(tmp_path: Path, changed: str, message: str) -> None:
    entry = GGUF_FILE.replace("-Q4_K_M", "") if changed == "Q4_K_M" else f"{GGUF_FILE}{changed}\n"
    with pytest.raises(InputError, match=message):
        load_plan(write_plan(tmp_path, lambda text: text.replace("[evaluation]", f"{entry}\n[evaluation]", 1)))


def test_files_of_others_say_what_they_were_quantized_with(tmp_path: Path) -> None:
    entry = '[[quantizations]]\nmethod = "prequantized"\npath = "q"\nbits = 4\ngroup_size = 32\n'
    for name, method in (("Auto-Round", "autoround"), ("nf4", "bnb-nf4"), ("mine", "mine")):
        more = f'{entry}name = "{name}"\nsettings = "act-order"\n\n[evaluation]'
        path = write_plan(tmp_path, lambda text, more=more: text.replace("[evaluation]", more, 1))
        assert load_plan(path).quantizations[-1].cell == (method, 4.0, 32, "act-order")
    with pytest.raises(InputError, match=r"name is missing; give what the files were quantized with, such as gptq"):
        load_plan(write_plan(tmp_path, lambda text: text.replace("[evaluation]", f"{entry}\n[evaluation]", 1)))


def test_the_dry_run_imports_no_torch() -> None:
    program = (
        "import sys; from qidbayes.cli.measure import measure\n"
        "measure(['pythia', '--dry-run'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'polars'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    together = done.stdout.split("together")[1].split()
    assert together[:2] == ["120", "3120"]  # 6 × 20 checkpoints; 12 quantizations and 16 bits on 2 sets
    assert together[2] == "120"  # one a checkpoint
    assert 900 < float(together[3]) < 950  # GB: the sum of 16-bit Pythias is 20 × 46 GB


def test_what_a_plan_leaves_out_is_for_models_and_tokenizers_to_say(tmp_path: Path) -> None:
    plan = load_plan(write_plan(tmp_path, lambda text: text.replace('dtype = "float32"', "")))
    assert (plan.dtype, plan.begin, plan.evaluation.datasets[0].column) == (None, None, None)
    named = load_plan(write_plan(tmp_path, lambda text: text.replace('.txt" }', '.jsonl", column = "body" }')))
    assert [named.evaluation.datasets[0].column, named.calibration and named.calibration.dataset.column] == ["body"] * 2
