"""How far a computation is: shown on terminals and in notebooks, and nowhere else unless it is asked for."""

import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import run
from terminal import on_a_terminal, python_on_a_terminal

import qidbayes as qb
from qidbayes.progress import shown_to, shows_progress

SCRIPT = """
from qidbayes.progress import shows_progress

@shows_progress("counting")
def count(progress=None):
    for done in range(5):
        if progress:
            progress(done + 1, 5)

count({arguments})
"""
FIT = """
from dataclasses import replace
import qidbayes as qb

table = qb.load_table("pythia").filter(tokens=41943040000).head(12)
law = qb.load_law("unified").with_noise(discrepancy="none")
few = dict(draws=20, tune=100, chains=1, random_seed=0)
qb.fit(table, law, **few, progress=False)
print("silent so far")
qb.fit(table, law, **few)
"""


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_a_callable_is_called_and_false_and_a_file_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    with shown_to(lambda *seen: told.append(seen), "counting") as tell:
        assert tell is not None
        tell(1, 2)
    assert told == [(1, 2)]
    for wanted in (False, None):
        with shown_to(wanted, "counting") as tell:
            assert tell is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("arguments", "shows"), [("", True), ("progress=True", True), ("progress=False", False)])
def test_a_terminal_shows_a_bar_unless_it_is_told_not_to(arguments: str, shows: bool, tmp_path: Path) -> None:
    shown = plain(python_on_a_terminal(["-c", SCRIPT.format(arguments=arguments)], tmp_path))
    assert bool(re.search(r"counting ━+ 100% 0:00:0\d", shown)) == shows
    assert shows or shown == ""


def test_a_fit_shows_how_far_it_is_unless_it_is_told_not_to(tmp_path: Path) -> None:
    shown = plain(python_on_a_terminal(["-W", "ignore", "-c", FIT], tmp_path, 60))
    before, after = shown.split("silent so far")
    assert before == ""
    assert "building the model" in after and re.search(r"sampling ━+ 100%", after)


def test_the_first_word_of_a_report_comes_before_its_work(tmp_path: Path) -> None:
    shown = plain(on_a_terminal(["report", "nothing.nc"], tmp_path))
    assert shown.index("reading the fits") < shown.index("there is no such file")


def test_a_notebook_shows_a_bar_of_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            shown.append(html)

    def display(html: str, display_id: bool) -> Handle:
        assert display_id
        shown.append(html)
        return Handle()

    kernel: Any = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))  # type: ignore[arg-type]

    @shows_progress("counting")
    def count(progress: Any = None) -> None:
        for done in range(1000):
            progress(done + 1, 1000)

    count()
    assert shown[0] == "<progress></progress> building the model …"
    assert re.fullmatch(r'<progress value="1000" max="1000"></progress> counting 100% · 0:0\d', shown[-1])
    assert len(shown) < 50  # not one for each step


@pytest.mark.parametrize("name", ["fit", "backtest", "compare", "report"])
def test_what_takes_long_shows_it_and_keeps_its_signature(name: str) -> None:
    function = getattr(qb, name)
    assert inspect.signature(function).parameters["progress"].default is None
    assert function.__wrapped__.__name__ == name and function.__doc__ == function.__wrapped__.__doc__


ROWS = "model,n_params,tokens,method,bits,qid\n" + "".join(
    f"m{n},{n}e8,{d}e10,gptq,{bits},{0.02 * d**0.5 * 4.0**-bits * n**-0.25:.6f}\n"
    for n in (1, 3, 10)
    for d in (1, 2, 4, 8)
    for bits in (1, 2, 3)
)
LAW = """
response = "qid"
equation = "k * D**beta / {term}"

[parameters]
k    = {{ prior = "LogNormal", mu = 0, sigma = 3 }}
beta = {{ prior = "Normal", mu = 0.5, sigma = 0.5 }}
{further}

[reference]
D = 1e11
{reference}

[noise]
discrepancy = "none"
"""


@pytest.mark.parametrize("command", ["backtest", "compare"])
def test_a_table_that_is_fitted_again_and_again_shows_what_is_left(command: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(ROWS)
    for name, term, reference in (("sizes", "N**alpha", "N = 1e9"), ("widths", "P**alpha", "P = 4")):
        further = 'alpha = { prior = "Normal", mu = 1, sigma = 1 }'
        (tmp_path / f"{name}.toml").write_text(LAW.format(term=term, further=further, reference=reference))
    split = ["--split", "leave n_params", "--jobs", "1"]
    asked = [command, "mine.csv", "--law", "sizes.toml", "--law", "widths.toml", *split]
    shown = plain(on_a_terminal(asked, tmp_path))
    assert shown.strip().startswith("preparing the folds")  # before anything is read or fitted
    assert re.search(r"fitting ━.* \d+% [\d:]+ about [\d:]+ left", shown)
    piped = run(*asked, cwd=tmp_path)
    assert piped.returncode == 0
    assert "fitting" not in piped.stderr and "━" not in piped.stderr + piped.stdout.split("\n")[0]
