"""A program is made from its description alone, so that no fit gets another's."""

import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pairs
import polars as pl
import pytest
from plain import plain

import qidbayes as qb
from qidbayes.infer import program
from qidbayes.infer.inputs import inputs
from qidbayes.infer.model import model_data
from qidbayes.infer.spec import ModelSpec, describe


def described(table: pl.DataFrame, law: qb.Law) -> ModelSpec:
    rows = inputs(table, law)
    return describe(rows, model_data(rows))


def test_fits_of_equal_shapes_are_those_of_a_process_that_ran_the_other_one_first() -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, pairs.__file__], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as other:
        ours = pairs.digests(reverse=False)
        output, _ = other.communicate()
    theirs = dict(line.split("\t") for line in output.splitlines())
    assert ours == theirs
    assert all(ours[f"{name} 0"] != ours[f"{name} 1"] for name in pairs.PAIRS)


def test_compiling_takes_the_description_and_nothing_else() -> None:
    assert list(inspect.signature(program._compile).parameters) == ["spec"]
    for kind in (program.ProgramSpec, ModelSpec):
        assert kind.__dataclass_params__.frozen and kind.__dataclass_params__.eq  # type: ignore[attr-defined]


def test_equal_shapes_and_other_numbers_have_one_description(pythia: pl.DataFrame) -> None:
    law = plain("unified")
    other = dataclasses.replace(law, name="mine", reference={"N": 2e9, "D": 1e10, "P": 3})
    double = pythia.with_columns(qid=2 * pl.col("qid"), loss=None, loss_16bit=None)
    assert described(pythia, law) == described(double, other)
    assert hash(described(pythia, law)) == hash(described(double, other))


@pytest.mark.parametrize("name", [n for n in pairs.PAIRS if n not in ("other references", "gaps elsewhere")])
def test_what_a_program_depends_on_is_in_its_description(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits are not run: what they would sample is described."""
    found: list[ModelSpec] = []

    class Enough(Exception):  # noqa: N818
        pass

    def note(rows: object, *_: object) -> None:
        found.append(describe(rows, model_data(rows)))  # type: ignore[arg-type]
        raise Enough

    if name == "prior_from of other noise":
        pytest.skip("needs the fits it borrows from; see above")
    monkeypatch.setattr("qidbayes.infer.fit.sample", note)
    for fit in pairs.PAIRS[name]:
        with pytest.raises(Enough):
            fit()
    assert found[0] != found[1]
    assert [a.shape for a in found[0].arrays] == [a.shape for a in found[1].arrays]
