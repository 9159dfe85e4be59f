"""``--at`` with every column of a table, in every command that takes it: answered or refused by name."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from made import SMOOTH, unified_fit

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.table.schema import NAMES

pytestmark = pytest.mark.filterwarnings(  # which `main` hides
    "ignore::qidbayes.errors.DiagnosticsWarning", "ignore::qidbayes.errors.ExtrapolationWarning"
)
NEXT = ["next-measurements", "FIT", "pythia", "--params", "70B", "--tokens", "15T", "--picks", "1"]
COMMANDS = {
    "tokens": ["tokens", "FIT"],
    "project": ["project", "FIT"],
    "training-level": ["training-level", "FIT", "--qid", "0.05", "--params", "7B", "--bits", "4"],
    "advise": ["advise", "FIT", "--params", "8B", "--tokens", "1T", "--max-qid", "1e9"],
    "advise, by memory": ["advise", "FIT", "--memory", "8GB", "--tokens", "1T"],
    "next-measurements": [*NEXT, "--bits", "4"],
    "tokens, published": ["tokens", "--published", "per-bit"],
    "project, published": ["project", "--published", "unified"],
}
TEXT = {"suite": "pythia", "model": "EleutherAI/pythia-160m-deduped", "method": "gptq", "dataset": "refinedweb"}
NAMED = {"suite", "model", "method", "dataset", "group_size", "settings", "bits", "n_params"}
OWN = {
    "tokens": NAMED | {"qid"},
    "project": NAMED | {"tokens", "loss_16bit"},
    "training-level": NAMED | {"qid", "qid_se"},
    "advise": NAMED | {"tokens", "loss_16bit"},
    "next-measurements": NAMED | {"tokens", "qid"},
}
ANSWERED = {"revision"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with a discrepancy, whose questions may name the most."""
    path = tmp_path_factory.mktemp("fits") / "made.nc"
    rng, table = np.random.default_rng(0), qb.load_table("pythia").head(12)
    data = table.drop("learning_rate", "status", "error", "device", "seconds_quantize", "seconds_evaluate")
    assert TEXT["model"] in data["model"]
    beta = rng.normal(0.5, 0.03, 40)
    unified_fit({"k_ref": 0.05, "beta": beta, "alpha": 0.3, "gamma": 5.0}, SMOOTH, data).save(path)
    return path


def ask(command: str, saved: Path, *further: str) -> Result:
    return CliRunner().invoke(cli, [str(saved) if word == "FIT" else word for word in COMMANDS[command]] + [*further])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_column_is_answered_or_refused(command: str, saved: Path) -> None:
    name = command.split(",")[0]
    answer = {"tokens": "tokens", "training-level": "tokens"}.get(name)
    answered = set()
    for column in NAMES:
        done = ask(command, saved, "--at", f"{column}={TEXT.get(column, 2)}")
        if column in OWN[name]:
            assert done.exit_code == 2 and f"{column} has an option of its own; give --" in done.stderr, done.output
        elif column == answer:
            assert done.exit_code == 2 and "tokens is what is asked for" in done.stderr
        elif isinstance(done.exception, qb.InputError):
            assert column in str(done.exception)
        else:
            assert done.exit_code == 0, (column, done.output, done.exception)
            answered.add(column)
    assert answered == (set() if "published" in command else ANSWERED)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["kind=response"], "option of its own|no column 'kind'"),
        (["queries=1"], "a table has no column 'queries'"),
        (["learning_rat=1e-4"], "did you mean 'learning_rate'"),
        (["revision=a", "revision=b"], "revision is given twice; give all its values at once"),
        (["learning_rate=fast"], "is not a list of positive numbers"),
        (["learning_rate=nan"], "is not a list of positive numbers"),
        (["group_size=-2"], "option of its own"),
        (["revision"], "is not a column and its values"),
        (["revision=a,,b"], "is not a column and its values"),
    ],
)
def test_what_is_no_column_or_no_value_is_refused(command: str, given: list[str], says: str, saved: Path) -> None:
    done = ask(command, saved, *(word for text in given for word in ("--at", text)))
    assert done.exit_code == 2
    assert any(part in " ".join(done.stderr.split()) for part in says.split("|")), done.stderr


def test_a_column_is_asked_of_as_in_python(saved: Path) -> None:
    given = ("--params", "7B", "--bits", "3", "--suite", "pythia,new", "--at", "revision=7", "--format", "json")
    done = ask("tokens", saved, *given)
    python = qb.load_fit(saved).tokens_to_threshold(
        [0.2, 0.3, 0.4, 0.5], n_params=[7e9], bits=[3.0], suite=["pythia", "new"], revision=["7"]
    )
    # A text stays one though it could be read as a number.
    assert python["revision"].unique().to_list() == ["7"]
    told = pl.DataFrame(json.loads(done.stdout))
    # The command puts the question first, and adds a band beside, of slopes that wander.
    assert told.drop("walk_lower", "walk_upper").select(python.columns).equals(python)
    assert (told["walk_upper"] > told["walk_lower"]).all()


def test_a_group_size_of_minus_one_is_per_channel(saved: Path) -> None:
    given = ("--params", "7B", "--bits", "3", "--format", "json")
    per_channel = ask("tokens", saved, *given, "--group-size", "-1")
    assert [row["lower"] for row in json.loads(per_channel.stdout)] == [
        row["lower"] for row in json.loads(ask("tokens", saved, *given).stdout)
    ]


def test_candidates_of_a_memory_share_one_value(saved: Path) -> None:
    fit = qb.load_fit(saved)
    asked = {"memory": 8e9, "tokens": 1e12}
    one = qb.pareto(fit, **asked, suite="pythia")
    assert qb.pareto(fit, **asked, suite=["pythia"]).equals(one)
    assert one["suite"].unique().to_list() == ["pythia"]
    with pytest.raises(qb.InputError, match="suite: 2 values; give one"):
        qb.pareto(fit, **asked, suite=["pythia", "new"])
