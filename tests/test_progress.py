"""How far a computation is: shown on terminals and in notebooks, and nowhere else unless it is asked for."""

import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
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
qb.fit(table, law, draws=20, tune=100, chains=1, random_seed=0{further})
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


def test_a_fit_shows_how_far_it_is(tmp_path: Path) -> None:
    shown = plain(python_on_a_terminal(["-W", "ignore", "-c", FIT.format(further="")], tmp_path, 60))
    assert "building the model" in shown and re.search(r"sampling ━+ 100%", shown)


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
