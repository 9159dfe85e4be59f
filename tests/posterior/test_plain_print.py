"""What a plain Python shell shows of an answer: the interval, and what was asked."""

import re
import warnings
from collections.abc import Callable

import polars as pl
import pytest

import qidbayes as qb

ASKED = {"n_params": "7B", "bits": [3, 4]}
ANSWERS: dict[str, tuple[Callable[[qb.Fit], pl.DataFrame], str, list[str]]] = {
    "predict": (lambda fit: fit.predict(tokens="1T", **ASKED), "mean", ["n_params", "tokens", "bits"]),
    "project": (lambda fit: fit.project(**ASKED), "worse_than_random", ["n_params", "tokens", "bits"]),
    "project of a model": (
        lambda fit: fit.project(model=fit.data["model"][0], **ASKED),
        "worse_than_random",
        ["n_params", "tokens", "bits", "model"],
    ),
    "tokens_to_threshold": (lambda fit: fit.tokens_to_threshold(0.2, **ASKED), "never", ["qid", "n_params", "bits"]),
    "advise": (lambda fit: qb.advise(fit, n_params="7B", tokens="1T", max_qid=0.2), "advised", ["prob", "bits"]),
    "pareto": (lambda fit: qb.pareto(fit, memory="8GB", tokens="1T"), "prob_best", ["memory", "bits", "n_params"]),
    "training_level": (
        lambda fit: fit.training_level([0.1, 0.2], n_params="1B", bits=[4, 3]),
        "measurements",
        ["n_params"],
    ),
    "summary": (lambda fit: fit.summary(), "name", []),
    "interval": (lambda fit: fit.interval("beta"), "name", []),
}


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("width", [80, 120])
def test_the_interval_stands_first_and_is_shown(unified: qb.Fit, what: str, width: int) -> None:
    ask, beside, question = ANSWERS[what]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is assumed
        frame = ask(unified)
    middle = "tokens" if what == "tokens_to_threshold" else "median"
    assert {*frame.columns[:4]} == {middle, "lower", "upper", beside}
    assert not [column.name for column in frame if column.null_count() == frame.height], "empty columns"
    with pl.Config(tbl_width_chars=width, ascii_tables=True):
        shown = header(str(frame))
    assert [name for name in (middle, "lower", "upper", beside, *question) if name not in shown] == []


def header(text: str) -> list[str]:
    """Return the names at the top of a printed frame, whose letters a narrow column breaks over lines."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    names = ["".join(parts) for parts in zip(*cells[: cells_of_head(cells)], strict=True)]
    return [re.sub("---.*", "", name) for name in names]


def cells_of_head(cells: list[list[str]]) -> int:
    """Return how many lines the head takes: those before the last that names a type."""
    return max(i for i, line in enumerate(cells) if any(cell == "---" for cell in line))
