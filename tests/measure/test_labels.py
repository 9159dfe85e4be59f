"""A plan that is edited and run again into its folder gives the table that it gives in a fresh one.

Each edit changes one key of the plan. The two checkpoints have two layers each, and windows are few.
"""

import shutil
from pathlib import Path

import polars as pl
import pytest

from measure.conftest import TINY, small_model
from qidbayes.measure import load_plan
from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.run.local import measure
from qidbayes.measure.run.outcome import Outcome
from qidbayes.table import read_table

COST = ("seconds_quantize", "seconds_evaluate", "peak_memory_gib")
PLAN = f"""
suite = "mine"
title = "A title"
dtype = "float32"
seed = 3

[revisions]
name = "step{{step}}"
steps = [100]
tokens_per_step = 2_000

[revisions.learning_rate]
schedule = "cosine"
warmup_steps = 10
total_steps = 300
final = 0.1

[[models]]
name = "small"
path = "models/{{revision}}"
tokenizer = "{TINY / "tokenizer"}"
n_params = {count_parameters(small_model())}
learning_rate = 1e-3

[[models]]
name = "alone"
path = "models/alone"
tokenizer = "{TINY / "tokenizer"}"
n_params = {count_parameters(small_model())}
tokens = 5_000_000
revision = "last"

[[quantizations]]
method = "rtn"
name = "rounded"
bits = [3]
group_size = [16]
symmetric = true

[[quantizations]]
method = "gptq"
bits = [3]
group_size = [16]

[calibration]
dataset = {{ name = "calibration", path = "{TINY / "calibration.txt"}" }}
windows = 4
seq_len = 16

[evaluation]
datasets = [{{ name = "held-out", path = "{TINY / "evaluation.txt"}" }}]
seq_len = 16
tokens = 64
reference_tokenizer = "{TINY / "tokenizer"}"
"""
EDITS = {
    "suite": ('suite = "mine"', 'suite = "other"'),
    "title": ('title = "A title"', 'title = "Another"'),
    "dtype": ('dtype = "float32"', 'dtype = "bfloat16"'),
    "seed": ("seed = 3", "seed = 4"),
    "revisions.name": ('name = "step{step}"', 'name = "at{step}"'),
    "revisions.steps": ("steps = [100]", "steps = [200, 100]"),
    "revisions.tokens_per_step": ("tokens_per_step = 2_000", "tokens_per_step = 2_500"),
    "learning_rate.schedule": ('schedule = "cosine"', 'schedule = "linear"'),
    "learning_rate.warmup_steps": ("warmup_steps = 10", "warmup_steps = 150"),
    "learning_rate.total_steps": ("total_steps = 300", "total_steps = 400"),
    "learning_rate.final": ("final = 0.1", "final = 0.2"),
    "models.name": ('name = "small"', 'name = "little"'),
    "models.path": ('path = "models/{revision}"', 'path = "moved/{revision}"'),
    "models.path of other weights": ('path = "models/alone"', 'path = "models/step300"'),
    "models.path to nothing": ('path = "models/alone"', 'path = "models/none"'),
    "models.path of a copy": ('path = "models/alone"', 'path = "models/step100"'),
    "models.tokenizer": (f'tokenizer = "{TINY / "tokenizer"}"', 'tokenizer = "tokenizer"'),
    "models.n_params": (f"n_params = {count_parameters(small_model())}", "n_params = 999_999"),
    "models.learning_rate": ("learning_rate = 1e-3", "learning_rate = 2e-3"),
    "no models.learning_rate": ("learning_rate = 1e-3", ""),
    "models.tokens": ("tokens = 5_000_000", "tokens = 6_000_000"),
    "models.revision": ('revision = "last"', 'revision = "best"'),
    "quantizations.method": ('method = "rtn"', 'method = "gptq"'),
    "quantizations.name": ('name = "rounded"', 'name = "nearest"'),
    "quantizations.bits": ("bits = [3]", "bits = [3, 4]"),
    "quantizations.group_size": ("group_size = [16]", "group_size = [32, 16]"),
    "quantizations.symmetric": ("symmetric = true", "symmetric = false"),
    "calibration.dataset": ("calibration.txt", "evaluation.txt"),
    "calibration.dataset.name": ('name = "calibration"', 'name = "texts"'),
    "calibration.windows": ("windows = 4", "windows = 5"),
    "calibration.seq_len": ("seq_len = 16", "seq_len = 20"),
    "evaluation.datasets.name": ('name = "held-out"', 'name = "unseen"'),
    "evaluation.datasets.path": ("evaluation.txt", "calibration.txt"),
    "evaluation.seq_len": ("seq_len = 16\ntokens", "seq_len = 8\ntokens"),
    "evaluation.tokens": ("tokens = 64", "tokens = 96"),
    "evaluation.reference_tokenizer": (f'reference_tokenizer = "{TINY / "tokenizer"}"', ""),
    "a label and a width": ("tokens_per_step = 2_000", "tokens_per_step = 2_500", ("bits = [3]", "bits = [3, 2]")),
}  # fmt: skip
# What no number hangs on: nothing is measured again, so that the seconds that it took are those of the first run.
LABELS = [
    "suite", "title", "revisions.tokens_per_step", "models.tokens", "models.learning_rate", "no models.learning_rate",
    *[name for name in EDITS if name.startswith("learning_rate.")], "models.path", "models.n_params",
    "models.tokenizer", "calibration.dataset.name",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, and a run of the plan as it stands."""
    folder = tmp_path_factory.mktemp("labels")
    for seed, name in enumerate(("step100", "step200", "step300", "alone")):
        for models in ("models", "moved"):
            small_model(seed).save_pretrained(folder / models / name)
    for step in (100, 200):
        (folder / "models" / f"at{step}").symlink_to(folder / "models" / f"step{step}")
    (folder / "tokenizer").symlink_to(TINY / "tokenizer")
    run(folder, PLAN, folder / "run")
    return folder


def run(place: Path, text: str, folder: Path) -> Outcome:
    (place / "plan.toml").write_text(text)
    return measure(load_plan(place / "plan.toml"), folder)


def tables(folder: Path) -> list[tuple[pl.DataFrame, dict[str, str]]]:
    """What a run's tables say, and what their metadata says of where the numbers are from."""
    return [
        (
            read_table(path),
            {k: v for k, v in pl.read_parquet_metadata(path).items() if k not in ("ARROW:schema", "qidbayes.digest")},
        )
        for path in (folder / "table.parquet", folder / "table-per-reference-token.parquet")
        if path.exists()
    ]


def edited(name: str) -> str:
    old, new, *more = EDITS[name]
    text = PLAN
    for one, other in [(old, new), *more]:
        assert one in text
        head, _, tail = text.rpartition(one) if name.startswith("evaluation") else text.partition(one)
        text = head + other + tail
    return text


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_plan_gives_in_its_old_folder_what_it_gives_in_a_fresh_one(
    name: str, place: Path, tmp_path: Path
) -> None:
    text = edited(name)
    again = run(place, text, Path(shutil.copytree(place / "run", tmp_path / "again")))
    fresh = run(place, text, tmp_path / "fresh")
    assert (again.rows, again.failed, again.missing) == (fresh.rows, fresh.failed, fresh.missing)
    ours, theirs = tables(tmp_path / "again"), tables(tmp_path / "fresh")
    for (table, says), (wanted, said) in zip(ours, theirs, strict=name != "evaluation.reference_tokenizer"):
        assert table.drop(COST).equals(wanted.drop(COST))
        assert says == said
    if name in LABELS:
        run(place, PLAN, tmp_path / "again")
        assert all(
            ours.equals(first) and says == said
            for (ours, says), (first, said) in zip(tables(tmp_path / "again"), tables(place / "run"), strict=True)
        )  # seconds too: nothing was lost, nor done again
