"""A cell's fingerprint changes with everything that could change its numbers, and with nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from measure.conftest import write_plan
from qidbayes.measure import Plan, load_plan
from qidbayes.measure.inputs.fingerprint import Fingerprints, versions

# What is changed in the plan's text; whether the 16-bit loss depends on it.
CHANGES: dict[str, tuple[str, str, bool]] = {
    "dtype": ('dtype = "float32"', 'dtype = "bfloat16"', True),
    "the config's dtype": ('dtype = "float32"', "", True),
    "seed": ("seed = 3", "seed = 4", True),
    "begin": ("seed = 3", 'seed = 3\nbegin = "window"', True),
    "evaluation length": ("seq_len = 32\ntokens", "seq_len = 16\ntokens", True),
    "evaluation tokens": ("tokens = 1_024", "tokens = 2_048", True),
    "reference": ("[evaluation]", '[evaluation]\nreference_tokenizer = "a/b"', True),
    "evaluation text": ("evaluation.txt", "calibration.txt", True),
    "calibration text": ("calibration.txt", "evaluation.txt", False),
    "calibration windows": ("windows = 8", "windows = 9", False),
    "calibration length": ("windows = 8\nseq_len = 32", "windows = 8\nseq_len = 31", False),
    "bits": ("bits = 3\n", "bits = 2\n", False),
    "group size": ("group_size = 16", "group_size = 32", False),
    "a setting": ("group_size = 16", "group_size = 16\ndamping = 0.02", False),
}


def of_gptq(plan: Plan, *, commit: str = "c", tokenizer: str = "t", files: str | None = None) -> str:
    (gptq,) = (q for q in plan.quantizations if q.method == "gptq")
    return Fingerprints(plan).of(commit, tokenizer, gptq, files, plan.evaluation.datasets[0])


def of_16_bits(plan: Plan) -> str:
    return Fingerprints(plan).of("c", "t", None, None, plan.evaluation.datasets[0])


def replacing(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert text.count(old) == 1
        return text.replace(old, new)

    return change


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_plan_changes_the_fingerprints_of_what_it_measures(name: str, tmp_path: Path) -> None:
    old, new, sixteen = CHANGES[name]
    before = load_plan(write_plan(tmp_path))
    after = load_plan(write_plan(tmp_path, replacing(old, new)))
    assert of_gptq(after) != of_gptq(before)
    assert (of_16_bits(after) != of_16_bits(before)) == sixteen


def test_it_changes_with_what_files_are_pinned_to(tmp_path: Path) -> None:
    plan = load_plan(write_plan(tmp_path))
    found = {of_gptq(plan), of_gptq(plan, commit="d"), of_gptq(plan, tokenizer="u"), of_gptq(plan, files="f")}
    assert len(found) == 4


def test_it_changes_with_the_text_of_a_file_that_keeps_its_name(tmp_path: Path) -> None:
    texts = [tmp_path / name for name in ("evaluation.txt", "calibration.txt")]
    for path in texts:
        path.write_text("Before.")
    here = load_plan(write_plan(tmp_path, lambda text: text.replace(str(_shipped(text)), str(tmp_path))))
    found = {of_gptq(here)}
    for path in texts:
        path.write_text("After.")
        found.add(of_gptq(here))
    assert len(found) == 3


def _shipped(plan: str) -> Path:
    return Path(plan.split('path = "')[-1].split('"')[0]).parent


def test_it_stays_where_only_labels_change(tmp_path: Path) -> None:
    plan = load_plan(write_plan(tmp_path))
    for old, new in (("tokens_per_step = 2_000", "tokens_per_step = 3_000"), ('suite = "test"', 'suite = "other"')):
        assert of_gptq(load_plan(write_plan(tmp_path, replacing(old, new)))) == of_gptq(plan)


def install(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put version 99.9 of a package before the one that is installed."""
    told = folder / "site" / f"{package.replace('-', '_')}-99.9.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.9\n")
    monkeypatch.syspath_prepend(folder / "site")


@pytest.mark.parametrize("package", ["qidbayes", "torch", "transformers", "tokenizers", "bitsandbytes"])
def test_it_changes_with_the_version_of_a_package(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(write_plan(tmp_path))
    before = of_gptq(plan), of_16_bits(plan)
    install(package, tmp_path, monkeypatch)
    assert versions()[package] == "99.9"
    assert of_gptq(plan) != before[0]
    assert of_16_bits(plan) != before[1]


@pytest.mark.parametrize("package", ["compressed-tensors", "gguf"])
def test_readers_of_files_count_for_files_alone(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load_plan(write_plan(tmp_path))
    before = of_gptq(plan), of_gptq(plan, files="f")
    install(package, tmp_path, monkeypatch)
    assert of_gptq(plan) == before[0]
    assert of_gptq(plan, files="f") != before[1]
