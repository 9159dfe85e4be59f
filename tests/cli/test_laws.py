"""`qidbayes laws NAME` for programs: JSON that is the law again, CSV with a row for each of its names."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from qidbayes.cli import cli
from qidbayes.law import law_names, load_law
from qidbayes.law.read import law_from_dict


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["laws", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("name", law_names())
def test_json_is_the_law(name: str) -> None:
    found = json.loads(printed(name, "--format", "json"))
    assert found.pop("latex") == load_law(name).latex() == printed(name, "--latex").strip()
    assert law_from_dict(found, "json") == load_law(name)


@pytest.mark.parametrize("name", law_names())
def test_csv_has_a_row_for_each_name(name: str) -> None:
    law = load_law(name)
    rows = list(csv.DictReader(io.StringIO(printed(name, "--format", "csv"))))
    assert [row["name"] for row in rows] == [*law.priors, *law.define]
    assert [row["definition"] for row in rows if row["definition"]] == list(law.define.values())
    for point, constants in law.published.items():
        assert {row["name"]: json.loads(row[point]) for row in rows if row[point]} == constants
