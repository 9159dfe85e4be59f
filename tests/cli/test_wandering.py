"""What `project` and `tokens` print far beyond the data: the band of a fit whose slopes wander too."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import qidbayes as qb
from qidbayes.cli import cli
from qidbayes.cli.wandering import kept

SEED = 3
pytestmark = pytest.mark.filterwarnings("ignore")  # of small fits, which tests/posterior has


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's own cache out of this."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home / "qidbayes" / "wandering"


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = qb.load_table("pythia")
    tokens = table["tokens"].unique().sort()[::5].implode()
    rows = table.filter(pl.col("tokens").is_in(tokens), pl.col("n_params") < 3e9)
    path = tmp_path_factory.mktemp("wandering") / "unified.nc"
    qb.fit(rows, "unified", random_seed=SEED).save(path)
    return path


def asked(*arguments: str) -> pl.DataFrame:
    found = CliRunner().invoke(cli, [*arguments, "--format", "csv"], catch_exceptions=False)
    assert found.exit_code == 0
    return pl.read_csv(io.StringIO(found.stdout))


def test_both_bands_stand_side_by_side_beyond_twice_the_data(fit: Path) -> None:
    about = ("--params", "7B", "--bits", "4", "--suite", "pythia")
    found = asked("project", str(fit), "--tokens", "200B,100T", *about)
    assert found["walk_lower"][0] is None and found["walk_upper"][0] is None, "inside the data there is one band"
    law = qb.load_law("unified").with_noise(discrepancy="walk")
    other = qb.fit(qb.load_fit(fit).data, law, random_seed=SEED, draws=250, chains=2)
    expected = other.predict(n_params=7e9, tokens=100e12, bits=4, suite="pythia")
    assert found["walk_upper"][1] == pytest.approx(expected["upper"][0], rel=1e-6)
    assert found["walk_lower"][1] == pytest.approx(expected["lower"][0], rel=1e-6)
    assert found["walk_upper"][1] / found["walk_lower"][1] > 2 * found["upper"][1] / found["lower"][1]
    law_alone = asked("project", str(fit), "--tokens", "100T", "--kind", "response_params", *about[:4])
    assert "walk_upper" not in law_alone.columns
    near = asked("project", str(fit), "--tokens", "200B", *about)
    assert "walk_upper" not in near.columns


def test_so_do_tokens_to_a_threshold(fit: Path) -> None:
    found = asked("tokens", str(fit), "--qid", "0.01,0.6", "--params", "7B", "--bits", "4", "--suite", "pythia")
    assert found["walk_upper"][0] is None, "reached within the data"
    assert found["walk_upper"][1] > found["upper"][1]
    assert found["walk_lower"][1] <= found["lower"][1] * 1.5


def test_the_rows_are_fitted_again_once(fit: Path, cache: Path) -> None:
    """By the first question; the next, of another method too, reads what it kept, unless that is damaged."""
    project = ["project", str(fit), "--tokens", "90T", "--params", "7B", "--bits", "4", "--format", "csv"]
    for file in cache.glob("*"):
        file.unlink()
    runs = [CliRunner().invoke(cli, project) for _ in range(2)]
    assert [run.stderr.count("fitting the rows again") for run in runs] == [1, 0]
    assert runs[0].stdout == runs[1].stdout
    tokens = CliRunner().invoke(cli, ["tokens", str(fit), "--qid", "0.6", "--params", "7B", "--bits", "4"])
    assert "fitting the rows again" not in tokens.stderr
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-200])
    again = CliRunner().invoke(cli, project)
    assert again.stdout == runs[0].stdout and "fitting the rows again" in again.stderr


def test_other_rows_another_law_and_another_seed_have_files_of_their_own(fit: Path, cache: Path) -> None:
    read = qb.load_fit(fit)
    others = [
        replace(read, data=read.data.filter(pl.col("bits") > 2)),
        replace(read, law=qb.load_law("size")),
        replace(read, attributes=read.attributes | {"random_seed": SEED + 1}),
    ]
    files = [kept(one) for one in (read, *others)]
    assert len(set(files)) == 4 and {file.parent for file in files if file} == {cache}
    assert kept(replace(read, data=read.data.reverse())) == kept(read), "the order of rows says nothing"
