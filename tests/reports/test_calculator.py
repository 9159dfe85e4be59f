"""The calculator of the docs' front page in headless Chromium, held against `Fit.predict` between its grid's points."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
from reports.chromium import CHROMIUM, chromium

import qidbayes as qb
import qidbayes.units

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED IN A BROWSER: no Chromium on the PATH")
DOCS = Path(__file__).parents[2] / "docs"
GPTQ = "GPTQ, groups of 128"


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calculator", DOCS / "calculator.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:assumed", "ignore:these data do not identify suite_sd")
def test_the_page_answers_as_predict_does(made: ModuleType, tmp_path: Path) -> None:
    atlas = qb.load_fit("atlas")
    grid = made.grid(atlas, [("", GPTQ), ("llama", GPTQ)])
    off = {part["suite"]: part["error"] for part in grid["parts"]}
    (tmp_path / "grid.js").write_text(made.script(grid))
    for name in ("calculator.js", "calculator.css"):
        (tmp_path / name).write_text((DOCS / "calculator" / name).read_text())
    (tmp_path / "page.html").write_text(
        '<!doctype html><meta name="viewport" content="width=device-width"><link rel=stylesheet href=calculator.css>'
        '<div id="calculator"></div><script src=grid.js></script><script src=calculator.js></script>'
    )
    with chromium() as tab:
        tab.open(tmp_path / "page.html", 390)
        assert tab.value("document.documentElement.scrollWidth") <= 390
        for suite, size, tokens in (("", "8B", "15T"), ("", "70B", ""), ("llama", "2.2B", "700B")):
            for name, value in (("suite", suite), ("n_params", size), ("tokens", tokens)):
                tab.value(f"document.querySelector('[name={name}]').value = {value!r}")
            tab.value("document.querySelector('[name=n_params]').dispatchEvent(new Event('input', {bubbles: true}))")
            told = {"tokens": qb.units.parse_count(tokens)} if tokens else {}
            about = {"suite": suite} if suite else {}
            n_params = qb.units.parse_count(size)
            found = atlas.predict(n_params=n_params, bits=4, method="gptq", group_size=128, **told, **about)
            for level in ("median", "lower", "upper"):
                shown = float(tab.value(f"document.querySelector('.{level}-shown').textContent"))
                # Two digits are shown: half of the last is at most 5%.
                assert shown == pytest.approx(found[level][0], rel=off[suite] + 0.05), (suite, size, level)
            # Small beside the band: less than a fifth of its half-width.
            assert math.log1p(off[suite]) < 0.1 * math.log(found["upper"][0] / found["lower"][0])
            advised = qb.advise(atlas, n_params=n_params, max_qid=0.1, method="gptq", group_size=128, **told, **about)
            bits = advised.filter("advised")["bits"].to_list()
            expected = f"{bits[0]:g}." if bits else "No width"
            assert expected in tab.value("document.querySelector('.advice').textContent")
        # By keys alone: from the first field to the tokens, which are then not a count.
        tab.value("document.querySelector('[name=n_params]').focus()")
        tab.press("Tab", 9)
        assert tab.value("document.activeElement.name") == "tokens"
        tab.value("document.activeElement.value = '3 parsecs'")
        tab.value("document.activeElement.dispatchEvent(new Event('input', {bubbles: true}))")
        assert "write a count between 10B and 100T" in tab.value("document.querySelector('.refused').textContent")
        assert tab.said == []
