"""Every example of the README and the docs runs."""

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import polars as pl
import pytest

import qidbayes as qb
from qidbayes.law import parse_law
from qidbayes.units import parse_count

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG_SENTENCES = 0.02
"""The share of sentences of more than 30 words (docs/sentences.py): 212 of 944 when this began, 21 of 2,483 now."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def bring_runs(folder: Path) -> None:
    """Put there what docs/import.md speaks of: results of lm-eval, logs of llama.cpp, a model's small files."""
    runs, tiny = ROOT / "tests" / "data" / "runs", ROOT / "measurements" / "tiny"
    shutil.copytree(runs / "lm-eval", folder / "results")
    shutil.copytree(runs / "llama.cpp", folder / "logs", ignore=shutil.ignore_patterns("*.ppl.log"))
    shutil.copytree(tiny / "tokenizer", folder / "mine-7b")
    shutil.copy(tiny / "checkpoints" / "128x3" / "step1024" / "config.json", folder / "mine-7b")


COMMANDS = """
import json, sys
from qidbayes.cli import main
for words in json.load(sys.stdin):
    sys.argv = ["qidbayes", *words]
    try:
        main()
    except SystemExit as left:
        if left.code:
            sys.exit(f"{words}: exit status {left.code}")
"""


def run_in_order(commands: list[list[str]], folder: Path) -> None:
    """Run command lines of `qidbayes` one after the other, all in one process: each would import for seconds."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=folder, input=json.dumps(commands), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_commands_that_bring_runs_in_run_as_they_stand(tmp_path: Path) -> None:
    """Of docs/import.md, but for those of other programs and of a fit, which the README's test runs."""
    bring_runs(tmp_path)
    lines = [line for block in blocks(ROOT / "docs" / "import.md", "console") for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    ours = [c[1:] for c in commands if c[0] == "qidbayes" and c[1] in ("import", "params", "template")]
    assert len(ours) == 3
    run_in_order(ours, tmp_path)
    assert qb.read_table(tmp_path / "mine.parquet").height == qb.read_table(tmp_path / "gguf.parquet").height == 3


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has imported and compiled already; a warning is no error, as for a reader."""
    if page.name == "import.md":
        bring_runs(tmp_path)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile("\n".join(blocks(page, "python")), page.name, "exec"), {"__name__": "__main__"})


def test_readme_commands_run_in_order(tmp_path: Path) -> None:
    lines = [line for block in blocks(ROOT / "README.md", "console") for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    ours = [command[1:] for command in commands if command[0] == "qidbayes"]
    assert len(ours) >= 8
    run_in_order(ours, tmp_path)
    assert (tmp_path / "projection.png").read_bytes().startswith(b"\x89PNG")
    demo_is_of_this_fit(qb.load_fit(tmp_path / "unified.nc"))


def demo_is_of_this_fit(fit: qb.Fit) -> None:
    """Hold what the README shows of `make demo` against a fit with the demo's seed.

    Another machine draws other numbers: those of two fits are within four standard errors of their difference,
    and the end of a 90% interval, the less certain one, has 2.1 standard deviations over the root of the draws. Of
    constants there are a thousand independent draws and more, of a new model's answers 200.
    """
    rows: dict[str, list[list[str]]] = {"name": [], "qid": [], "n_params": []}
    table = ""
    for words in (line.split() for block in blocks(ROOT / "README.md", "text") for line in block.splitlines()):
        if words and words[0] in rows:
            table = words[0]
        elif len(words) > 5 and words[1][0] in "0123456789":
            rows[table].append(words)
    assert [len(found) for found in rows.values()] == [4, 4, 3]
    ends, pairs = ("lower", "upper"), []
    summary = fit.summary(published="eq8").rows_by_key("name", named=True, unique=True)
    for name, *numbers in rows["name"]:
        assert float(numbers[-2]) == pytest.approx(summary[name]["published"], rel=5e-4)
        pairs.append((numbers, [summary[name][column] for column in ("median", *ends)], 1000))
    paper = qb.published("per-bit")
    for qid, size, bits, *numbers in rows["qid"]:
        asked = {"n_params": parse_count(size), "bits": float(bits)}
        answer = fit.tokens_to_threshold(float(qid), **asked, suite="pythia").select("tokens", *ends).row(0)
        pairs.append((numbers, answer, 200))
        assert parse_count(numbers[-1]) == pytest.approx(
            paper.tokens_to_threshold(float(qid), **asked)["tokens"].item(), rel=5e-3
        )
    for size, tokens, bits, *numbers in rows["n_params"]:
        asked = {"n_params": parse_count(size), "tokens": parse_count(tokens), "bits": float(bits)}
        pairs.append((numbers, fit.predict(**asked, suite="pythia").select("median", *ends).row(0), 200))
        assert float(numbers[-1]) == pytest.approx(paper.predict(**asked)["median"].item(), rel=5e-4)
    for said, found, draws in pairs:
        sd = math.log(found[2] / found[1]) / 3.29
        bound = 4 * math.sqrt(2) * 2.1 * sd / math.sqrt(draws) + 0.005
        assert all(number > 1e15 for text, number in zip(said[:3], found, strict=True) if text == ">1,000T")
        told = [(parse_count(s), number) for s, number in zip(said[:3], found, strict=True) if s != ">1,000T"]
        off = [abs(math.log(number / other)) for number, other in told]
        assert max(off) < bound, (said, found)


def test_toml_blocks_are_laws() -> None:
    (text,) = blocks(ROOT / "README.md", "toml")
    assert tomllib.loads(text)["equation"] == parse_law(text).equation


def test_few_sentences_are_long() -> None:
    """Nobody has to read a sentence twice: what share has more than 30 words may only fall, and is lowered here."""
    sys.path.insert(0, str(ROOT / "docs"))
    import sentences as counter

    every = [one for page in counter.PAGES for one in counter.sentences(page.read_text())]
    long = [one for page in counter.PAGES for one in counter.long_sentences(page)]
    assert len(every) > 1000 and len(long) / len(every) <= LONG_SENTENCES, long
    text = "Word" + 30 * " word"
    counted = counter.sentences(f"Short. {text}. `{text}`.\n\n| {text} |\n\n```text\n{text}\n```")
    assert counted == ["Short.", f"{text}.", "x."]


def test_how_many_points_is_what_was_simulated() -> None:
    rows = pl.read_csv(ROOT / "benchmarks" / "points.csv").rows(named=True)
    page = (ROOT / "docs" / "points.md").read_text()
    told = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|\s\d.*$", page, re.M)]
    new = ("inside", "at 1T tokens", "7B at 1T tokens")
    assert len(told) == len(rows) == 6
    for cells, row in zip(told, rows, strict=True):
        assert cells[0] == f"{row['runs']} × {row['checkpoints']} × {row['widths']}" and int(cells[1]) == row["rows"]
        found = [f"{row[f'{name}: factor']:.2g}" for name in new]
        found += [f"{row['alpha_width']:.2f}", f"{row['beta_width']:.2f}"]
        assert [float(cell) for cell in cells[2:7]] == [float(number) for number in found]
        assert cells[7] == f"{sum(row[f'{name}: held'] for name in new)} of {3 * row['simulations']}"


def test_what_to_cite_is_this_version() -> None:
    cited = (ROOT / "docs" / "citing.md").read_text()
    (own, *papers) = re.findall(r"@(\w+)\{([^,]+),(.*?)^\}", cited, re.M | re.S)
    assert own[:2] == ("software", "qidbayes") and f"version = {{{qb.__version__}}}" in own[2]
    known = (ROOT / "CITATION.cff").read_text()
    for title in re.findall(r"title: \"(.*)\"", known):
        assert title in cited.replace("{LLMs}", "LLMs").replace("{100T}", "100T")
    laws = {law: qb.load_law(law).source for law in ("unified", "chinchilla-16bit", "precision-ptq")}
    numbers = re.findall(r"arXiv:(\d{4}\.\d{5})", cited)
    assert all(set(re.findall(r"arXiv:(\d{4}\.\d{5})", source)) <= set(numbers) for source in laws.values())
    assert len(papers) == len(numbers)


def test_the_reference_names_all_that_is_public() -> None:
    text = (ROOT / "docs" / "api.rst").read_text()
    missing = [name for name in qb.__all__ if f"qidbayes.{name}\n" not in text and name != "plot"]
    assert not missing
    assert "automodule:: qidbayes.plots" in text


def test_every_page_is_on_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {path.stem for path in (ROOT / "docs").glob("*.*") if path.suffix in (".md", ".rst")} - {"index"}
    assert pages <= set(index.split())


def test_every_picture_is_shown_and_made_by_a_command() -> None:
    shown = {name for page in PAGES for name in re.findall(r"images/([\w-]+\.png)", page.read_text())}
    pictures = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert shown == pictures
    figures = (ROOT / "docs" / "figures.md").read_text()
    drawn = {f"{name}.png" for name in re.findall(r"^\$ qidbayes plot ([\w-]+)", figures, re.M)}
    drawn |= set(re.findall(r"-o ([\w-]+\.png)", figures))
    makers = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    assert not [name for name in pictures - drawn if name not in makers]


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
