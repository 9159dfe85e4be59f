"""The numbers of the README and of docs/ are those of the tables that commands make."""

import importlib.util
import re
import subprocess
from pathlib import Path

import polars as pl
import pytest

from qidbayes.cli import cli
from qidbayes.law import law_names

ROOT = Path(__file__).parents[1]
BACKTEST = pl.read_csv(ROOT / "benchmarks" / "backtest.csv")
COMPARE = pl.read_csv(ROOT / "benchmarks" / "compare.csv")
HOW = {
    "default": "posterior",
    "no discrepancy": "effects alone",
    "independent": "independent",
    "least squares": "least-squares",
}
SCORES = {"held by 90% bands": "coverage_90", "log density": "log_density", "CRPS": "crps", "width": "log_width_90"}
TABLE = re.compile(r"^\|(.+)\|\n\|[-|]+\|\n((?:\|.*\|\n)+)", re.M)

_SPEC = importlib.util.spec_from_file_location("readme", ROOT / "docs" / "readme.py")
assert _SPEC and _SPEC.loader
readme = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(readme)


def tables(page: str, first: str) -> list[tuple[list[str], list[list[str]]]]:
    """Return header and rows of a page's tables whose first column is called so."""

    def cells(line: str) -> list[str]:
        return [cell.strip().strip("`") for cell in line.strip("|").split("|")]

    found = TABLE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    return [(cells(head), [cells(row) for row in rows.splitlines()]) for head, rows in found if cells(head)[0] == first]


def agrees(said: str, number: float | None) -> bool:
    """Return whether a number is said with the digits it has, of a table that is itself rounded to three."""
    if number is None or not said:
        return number is None and not said
    digits = said.replace("−", "-").removesuffix("%")
    unit = 10.0 ** -len(digits.partition(".")[2])
    value = number * 100 if said.endswith("%") else number
    return abs(float(digits) - value) <= unit / 2 + (0.05 if said.endswith("%") else 0.0005) + 1e-9


CHECKS = {"make fuzz", "make mutants", "make test-elsewhere"}
"""Of the code, not of the paper."""


def test_one_script_makes_every_table() -> None:
    script = (ROOT / "runs" / "paper.sh").read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", ROOT / "runs" / "paper.sh"]).returncode == 0
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    steps = re.findall(r"^make ([\w-]+)$", script, re.M)
    assert len(steps) > 10 and set(steps) <= targets
    for command in set(pl.read_csv(ROOT / "checks" / "provenance.csv")["command"]) - CHECKS:
        assert command in script, command
    for path in re.findall(r"python (benchmarks/\S+)", script):
        assert (ROOT / path).exists()
    for words in (line.split() for line in re.findall(r"^ *\.venv/bin/qidbayes (.*)$", script, re.M)):
        context = cli.make_context("qidbayes", words[:1], resilient_parsing=True)
        command = cli.get_command(context, words[0])
        assert command
        command.make_context(words[0], words[1:])  # raises if an option is wrong


def test_what_agrees() -> None:
    assert agrees("−0.07", -0.0745) and agrees("88%", 0.88) and agrees("", None) and agrees("0.17", 0.165)
    assert not agrees("0.07", -0.07) and not agrees("89%", 0.88) and not agrees("", 0.1) and not agrees("0.18", 0.169)


def test_the_backtests_of_the_docs_are_the_benchmarks() -> None:
    both = tables("backtest.md", "hidden")
    assert [len(rows) for _, rows in both] == [8, 10]
    for head, rows in both:
        for row in rows:
            (split,) = BACKTEST.filter(split=row[0]).partition_by("split")
            assert int(row[1]) == split["points"][0]
            score = ""
            for title, said in zip(head[2:], row[2:], strict=True):
                left, _, how = title.rpartition(": ")
                score = SCORES[left] if left else score
                number = split.filter(how=HOW[how])[score].item()
                assert agrees(said, number), f"{row[0]}, {title}: {said}, but {number} in benchmarks/backtest.csv"


def test_the_readme_says_how_bands_held_on_average_and_at_worst() -> None:
    names = [row[0] for row in tables("backtest.md", "hidden")[0][1]]
    held = BACKTEST.filter(pl.col("split").is_in(names)).group_by("how")
    found = {
        how: (mean, worst) for how, mean, worst in held.agg(m=pl.mean("coverage_90"), w=pl.min("coverage_90")).rows()
    }
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.search(
        r"in (\w+) ways: .* nominal 90% bands hold (\d+%) of the hidden points on average, and (\d+%) at worst\. "
        r"A fit with independent errors holds (\d+%) and (\d+%)",
        text,
    )
    assert said and said[1] == "eight" and len(names) == 8
    numbers = (*found["posterior"], *found["independent"])
    assert all(agrees(text, number) for text, number in zip(said.groups()[1:], numbers, strict=True)), numbers


def test_the_comparison_of_the_docs_is_the_benchmarks() -> None:
    ((head, rows),) = tables("backtest.md", "law")
    assert [row[0] for row in rows] == COMPARE["law"].to_list()
    for row, numbers in zip(rows, COMPARE.select(head).rows(), strict=True):
        for name, said, number in zip(head[1:], row[1:], numbers[1:], strict=True):
            assert agrees(said, number), f"{row[0]}, {name}: {said}, but {number} in benchmarks/compare.csv"


def nano(name: str) -> pl.DataFrame:
    return pl.read_csv(ROOT / "benchmarks" / f"nano-{name}.csv", infer_schema_length=None)


def intervals(row: list[str]) -> list[list[str]]:
    """Return the numbers of cells such as ``.47 (.37 to .57)``."""
    return [re.findall(r"−?\d*\.\d+", cell) for cell in row if cell]


def test_nanos_ratios_and_slopes_are_the_benchmarks() -> None:
    three = ("mean", "lower", "upper")
    ((_, ratios),) = tables("nano.md", "log(QiD / QiD) at equal tokens")
    pairs = nano("contrasts").filter(dataset="held-out", method="gptq", group_size=64, tokens="all")
    ends = nano("ends")
    rows = [pairs, *(ends.filter(ratio=f"{name}") for name in ("decayed/stable", "cosine/stable", "cosine/decayed"))]
    ((_, slopes),) = tables("nano.md", "slope of log QiD over log D, from 120M tokens on")
    late = nano("slopes").filter(tokens_above=1.2e8)
    rows += [late.filter(schedule=name) for name in ("stable", "decayed", "cosine")]
    for said, found in zip(ratios + slopes, rows, strict=True):
        for bits, numbers in zip((2.0, 3.0, 4.0), intervals(said[1:]), strict=True):
            (row,) = found.filter(bits=bits).select(three).rows()
            assert all(agrees(text, number) for text, number in zip(numbers, row, strict=True)), (said, row)


def test_nanos_exponents_are_the_benchmarks() -> None:
    (rows,) = (rows for head, rows in tables("nano.md", "") if "Pythia" in head)
    both, own = nano("pooled"), nano("laws").filter(law="unified", discrepancy="smooth")
    symbols = {"β": "beta", "α": "alpha", "γ": "gamma"}
    three = ("median", "lower", "upper")
    for i, row in enumerate(rows):
        name = next(symbols[letter] for letter in row[0] if letter in symbols)
        if i < 3:
            found = [own.filter(name=name, suite=suite) for suite in ("nano", "pythia")]
        else:
            fit = both.filter(discrepancy="smooth" if i < 6 else "none")
            found = [fit.filter(name=name, group=suite) for suite in ("nano", "pythia")]
            found.append(fit.filter(name=f"{name}_population"))
        for numbers, frame in zip(intervals(row[1:]), found, strict=True):
            (values,) = frame.select(three).rows()
            assert all(agrees(text, number) for text, number in zip(numbers, values, strict=True)), (row, values)


def test_nanos_held_out_points_are_the_benchmarks() -> None:
    (rows,) = (rows for head, rows in tables("nano.md", "") if "points" in head)
    parts = ("large, early", "large, late", "small, late", "all")
    for part, (_, points, *said) in zip(parts, rows, strict=True):
        for text, discrepancy in zip(said, ("none", "smooth"), strict=True):
            (row,) = nano("held-out").filter(part=part, discrepancy=discrepancy).rows(named=True)
            held, bias = text.split(", ")
            assert int(points) == row["points"] and agrees(held, row["coverage_90"]) and agrees(bias, row["bias"]), row


PRINTED = """fitting …

Constants: posterior
 name    median    r_hat
 ───────────────────────
 k_ref      0.5    1.000
 beta      0.48    1.001
 k          0.2

Tokens: intervals
 qid   n_params   bits   tokens
 ──────────────────────────────
 0.2         1B      2     500M
 0.2         1B      4       3T
"""
BLOCK = """Constants: posterior
 name   median   r_hat
 ─────────────────────
 beta     0.47   1.000
 k         0.3

Tokens: intervals
 qid   n_params   bits   tokens
 ──────────────────────────────
 0.2         1B      4     2.8T
"""


def test_the_readmes_tables_are_rows_of_what_was_printed() -> None:
    assert readme.abridged(BLOCK, PRINTED).splitlines() == [
        line for line in PRINTED.splitlines()[2:] if "k_ref" not in line and "500M" not in line
    ]


@pytest.mark.parametrize(
    ("old", "new"), [(" k         0.3", " kappa     0.3"), ("Tokens:", "Sizes:"), ("4     2.8T", "8     2.8T")]
)
def test_a_row_or_table_that_was_not_printed_is_refused(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=r"printed|called"):
        readme.abridged(BLOCK.replace(old, new), PRINTED)


def test_the_formats_of_the_docs_are_the_benchmarks() -> None:
    made = pl.read_csv(ROOT / "benchmarks" / "formats.csv").filter(model="128x3@step65536").filter(device="NVIDIA H200")
    names = ("qid", "qid_se", "qid_se_quantizer", "kld", "kld_se", "top_agreement")
    (_, rows) = next(found for found in tables("quantizers.md", "method") if "same top token" in found[0])
    assert len(rows) == made.filter(pl.col("bits_per_weight") > 4.2).height
    for row in rows:
        method, *rest = row[0].replace("`", "").split()
        rounded = [word for word in rest if word in ("W4A4", "W8A8")]
        where = made.filter(method=method, rotate="rotated" in rest, activations=bool(rounded))
        for word in rest[:2] if method in ("rtn", "gptq", "hqq") else []:
            if word == "channel":
                where = where.filter(pl.col("group_size").is_null())
            else:
                where = where.filter(group_size=int(word[1:])) if word.startswith("g") else where.filter(bits=int(word))
        (one,) = where.to_dicts()
        assert agrees(row[1], one["bits_per_weight"])
        for said, name in zip(row[2:], names, strict=True):
            number = one[name]
            assert agrees(said, number) and (not said or said.endswith("%") or abs(float(said) / number - 1) < 0.006), (
                row
            )


def test_laws_of_evaluation_that_ends_early_are_the_benchmarks() -> None:
    made = pl.read_csv(ROOT / "benchmarks" / "until.csv").filter(pl.col("run") != "whole")
    (_, rows) = next(found for found in tables("measure.md", "rows") if "farthest" in found[0][1])
    runs = {"until 2%": "until 0.02", "until 5%": "until 0.05", "all windows another seed": "whole again"}
    assert len(rows) == made.height
    for row in rows:
        suite, _, how = row[0].replace(",", "").partition(" ")
        (one,) = made.filter(suite=suite.replace("nano", "nano-again"), run=runs[how]).to_dicts()
        assert agrees(row[1], one["apart_in_sd"])
        assert row[2] == one["farthest"]


def test_libraries_round_as_the_formats_do() -> None:
    made = pl.read_csv(ROOT / "benchmarks" / "formats.csv").drop_nulls("qid_oracle")
    text = " ".join((ROOT / "docs" / "quantizers.md").read_text(encoding="utf-8").split())
    assert f"In all {made.height} pairs, {made.filter(device='NVIDIA H200').height} on the H200, it is ours" in text
    assert f"in {made.filter(device='NVIDIA H200', method='hqq').height} cells" in text
    assert made["qid"].to_list() == made["qid_oracle"].to_list()


CELL = ["model", "method", "act_order", "bits"]


def between(one: tuple[str, str], other: tuple[str, str]) -> pl.DataFrame:
    """GPTQ's cells of two machines and types: squares of the differences, and the variances of their errors."""
    made = pl.read_csv(ROOT / "benchmarks" / "machines.csv").filter(method="gptq")
    a, b = (made.filter(machine=machine, dtype=dtype) for machine, dtype in (one, other))
    both = a.join(b, on=CELL, suffix="_b")
    return both.select(
        square=(pl.col("qid") - pl.col("qid_b")) ** 2,
        own=pl.col("qid_se_quantizer") ** 2 + pl.col("qid_se_quantizer_b") ** 2,
        all=sum(pl.col(f"qid_se{part}") ** 2 for part in ("", "_b", "_quantizer", "_quantizer_b")),
    )


@pytest.mark.parametrize(
    ("one", "other", "ratio", "chi_square", "most"),
    [
        (("CPU", "float32"), ("NVIDIA H200", "float32"), "1.04 times", ".8 over the 24", None),
        (("CPU", "float16"), ("NVIDIA H200", "float16"), "12.7 times", "10.6 and 19.4 over", "more than 1.7 and 2.8"),
        (("CPU", "float32"), ("NVIDIA H200", "float16"), "26 times", "and 19.4 over the 24", "1.7 and 2.8 of them"),
    ],
)
def test_machines_differ_as_the_docs_say(
    one: tuple[str, str], other: tuple[str, str], ratio: str, chi_square: str, most: str | None
) -> None:
    text = " ".join((ROOT / "docs" / "measure.md").read_text(encoding="utf-8").split())
    found = between(one, other)
    assert found.height == 24
    assert all(said in text for said in (ratio, chi_square, most or ratio))
    assert agrees(ratio.split()[0], found["square"].sum() / found["own"].sum())
    share = found["square"] / found["all"]
    assert agrees(re.findall(r"[\d.]+", chi_square)[0], share.sum())
    if most:
        assert agrees(re.findall(r"[\d.]+\d", most)[int("26" in ratio)], share.max() ** 0.5)


def test_memory_changes_no_digit() -> None:
    made = pl.read_csv(ROOT / "benchmarks" / "machines.csv").filter(model="160M shape")
    whole, part = (made.filter(machine=name).drop("machine") for name in ("NVIDIA H200", "NVIDIA H200, 16 GiB of it"))
    assert whole.height == 9
    assert whole.equals(part)


def test_the_readme_says_how_the_atlas_holds() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.search(r"nominal 90% bands held (\d+%) of what was left out\. .* as if about Pythia, held (\d+%)", text)
    scores = pl.read_csv(ROOT / "benchmarks" / "atlas.csv")
    asked = (("atlas", "named"), ("default", "as Pythia"))
    held = [scores.filter(forecaster=forecaster, asked=question)["held_90"].mean() for forecaster, question in asked]
    assert said
    assert all(agrees(share, number) for share, number in zip(said.groups(), held, strict=True))  # type: ignore[arg-type]


def test_how_the_atlas_holds_is_the_benchmark() -> None:
    scores = pl.read_csv(ROOT / "benchmarks" / "atlas.csv")
    asked = [("atlas", a) for a in ("unnamed", "named", "3 rows", "6 rows", "18 rows")]
    asked += [("default", a) for a in ("named", "as Pythia")] + [("offset", a) for a in ("3 rows", "6 rows", "18 rows")]
    (table,) = tables("atlas.md", "asked")
    assert len(table[1]) == len(asked)
    for (forecaster, question), row in zip(asked, table[1], strict=True):
        found = scores.filter(forecaster=forecaster, asked=question)
        held, width, density = found["held_90"], found["half_width"], found["log_density"]
        numbers = [held.mean(), held.min(), width.mean(), density.mean()]
        assert row[1] == str(found.height)
        assert all(agrees(said, number) for said, number in zip(row[2:], numbers, strict=True)), row  # type: ignore[arg-type]


def test_how_the_atlas_held_on_what_was_found_later_is_the_benchmark() -> None:
    every = pl.read_csv(ROOT / "benchmarks" / "atlas-later.csv")
    new = every.filter(pl.col("suite").str.strip_suffix(", later").is_in(["exaone", "gemma-2", "mistral", "phi"]))
    asked = [("atlas", a) for a in ("unnamed", "named", "3 rows", "6 rows", "18 rows")]
    expected = [(every, *one) for one in (*asked, ("default", "as Pythia"))] + [(new, *one) for one in asked]
    (table,) = tables("atlas.md", "asked of later sets")
    assert len(table[1]) == len(expected)
    for (scores, forecaster, question), row in zip(expected, table[1], strict=True):
        found = scores.filter(forecaster=forecaster, asked=question)
        numbers = [found["held_90"].mean(), found["held_90"].min(), found["half_width"].mean()]
        assert row[1] == str(found.height)
        assert all(agrees(s, n) for s, n in zip(row[2:], [*numbers, found["log_density"].mean()], strict=True)), row  # type: ignore[arg-type]


WORLDS = pl.read_csv(ROOT / "benchmarks" / "worlds.csv")


@pytest.mark.parametrize(("asked", "place"), [("new run", 0), ("known run", 1)])
def test_the_worlds_of_the_docs_are_those_of_their_table(asked: str, place: int) -> None:
    header, rows = [one for one in tables("worlds.md", "world") if len(one[0]) > 2][place]
    assert [row[0] for row in rows] == WORLDS["world"].unique(maintain_order=True).to_list()
    by = None
    for row in rows:
        some = WORLDS.filter(world=row[0], asked=asked).sort("beyond")
        for title, said in zip(header[1:], row[1:], strict=True):
            name, _, what = title.rpartition(": ")
            by = name or by
            found = some.filter(by=by)
            if what == "held":
                parts = zip(said.split(), found["coverage_90"], strict=True)
                assert all(agrees(f"{part}%", number) for part, number in parts), (row[0], title)
            else:
                assert agrees(said, found["log_width_90"][-1]), (row[0], title)


FORMS = {
    "5/2, the default": "matern-5/2",
    "3/2": "matern-3/2",
    "slopes that wander": "walk",
}
"""What the docs call otherwise than the table."""


def test_the_forms_of_the_docs_are_the_benchmark() -> None:
    made = pl.read_csv(ROOT / "benchmarks" / "forms.csv")
    ((head, rows),) = tables("backtest.md", "held out by")
    eight = {row[0] for row in rows[:8]}
    for row in rows:
        named = row[0].replace("`", "").replace("… the fold ", "pythia: rolling tokens: tokens ")
        table, _, split = named.partition(": ") if ": " in named else ("pythia", "", named)
        for form, said in zip(head[1:], row[1:], strict=True):
            (one,) = made.filter(table=table, split=split, form=FORMS.get(form, form)).rows(named=True)
            density, held = said.removesuffix(")").split(" (")
            assert agrees(density, one["log_density"]) and agrees(held, one["coverage_90"]), (row[0], form, one)
    keys = ("half and half", "matern-5/2")
    half, default = (made.filter(pl.col("split").is_in(eight), table="pythia", form=form) for form in keys)
    assert half["split"].to_list() == default["split"].to_list() and half.height == 8
    assert half["coverage_90"].min() >= 0.8 and 0.85 <= half["coverage_90"].mean() <= 0.95  # type: ignore[operator]
    assert (half["log_density"] - default["log_density"]).min() >= -0.05  # type: ignore[operator]


def test_every_shipped_law_returned_the_constants_that_data_were_simulated_from() -> None:
    """Each within four standard deviations of its posterior and four errors of least squares, or it is told."""
    table = pl.read_csv(ROOT / "benchmarks" / "recovery.csv")
    page = " ".join((ROOT / "docs" / "laws.md").read_text(encoding="utf-8").split())
    said = re.search(r"recovery\.csv` has (\d+) laws\. Not in it: (.*?)\. ", page)
    assert said, "docs/laws.md names the laws that were not fitted"
    assert int(said[1]) == table["law"].n_unique()
    assert set(law_names()) - set(table["law"]) == set(re.findall(r"`([\w-]+)`", said[2]))
    passed = pl.col("failed").fill_null("") == ""
    assert set(table.filter(~passed)["law"]) == set(re.findall(r"\*\*`([\w-]+)` fails\*\*", page))
    assert table.filter(passed)["z"].abs().max() < 4  # type: ignore[operator]
    least = table.filter(pl.col("least_squares").is_not_null())
    assert least["least_squares_z"].abs().max() < 4  # type: ignore[operator]
    assert set(table["law"]) - set(least["law"]) <= {"pooled-bit"}, "whose k and gamma least squares cannot tell apart"


CONTEST = {
    "last two thirds of runs": "the last two thirds of runs",
    "largest size": "the largest size",
    "largest size, first 60% of tokens": "the largest size, fitted to the first 60% of tokens",
}


def test_the_contest_of_the_docs_is_the_benchmark() -> None:
    """Pythia's three parts, under a row each that names them, and the families of the atlas."""
    known = pl.read_csv(ROOT / "benchmarks" / "contest.csv", infer_schema_length=None)
    pythia, atlas = (rows for _, rows in tables("contest.md", ""))
    split, checked = "", 0
    for table, rows in (("pythia", pythia), ("atlas", atlas)):
        split = "a family that was not fitted" if table == "atlas" else split
        for called, *numbers in rows:
            if not any(numbers):
                split = CONTEST[called.strip("*")]
                continue
            name = called.replace("`", "").replace(", kaplan-16bit", "").replace("Shannon 16-bit", "shannon-16bit")
            (found,) = known.filter(table=table, split=split, law=name).rows(named=True)
            what = ("log_density", "loss_crps", "loss_coverage_90", *(["loss_r2"] if table == "pythia" else []))
            what += ("qid_crps", "qid_coverage_90")
            assert len(what) == len(numbers)
            for said, column in zip(numbers, what, strict=True):
                assert agrees(said, found[column]), (table, split, name, column)
                checked += 1
    assert checked == 12 * 6 + 8 * 5
