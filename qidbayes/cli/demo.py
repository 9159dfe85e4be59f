"""`qidbayes demo`: the paper's own points in, intervals and projections out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qidbayes.cli.output import echo_frame, question_first, say, write_csv

if TYPE_CHECKING:
    import polars as pl

    from qidbayes.posterior import Fit


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default="demo", show_default=True, help="Folder.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
def demo(output: Path, seed: int) -> None:
    """Fit the unified law and the 16-bit law to the paper's measured Pythia points, and answer with intervals.

    Writes the saved fits, the tables (CSV) and the figures (PNG, SVG) into a folder.
    """
    from qidbayes.cli.progress import sampling
    from qidbayes.cli.summary import warn
    from qidbayes.table import load_table

    table = load_table("pythia")
    fits = {}
    for law in ("unified", "kaplan-16bit"):
        say(f"fitting {law} to the GPTQ points of arXiv:2411.17691 …", err=True)
        with sampling() as progress:
            from qidbayes.infer.fit import fit  # takes seconds, under the bar

            fits[law] = fit(table, law, random_seed=seed, progress=progress)
        fits[law].save(output / f"{law}.nc")
        say(repr(fits[law]), err=True)
        warn(fits[law])
    for name, (title, frame) in _answers(table, fits).items():
        write_csv(frame, output / f"{name}.csv")
        say()
        echo_frame(frame, "table", title, counts=("tokens", "lower", "upper", "paper") if name == "tokens" else ())
    _figures(fits, output)
    say(f"\nThe fits (.nc), tables (.csv) and figures (.png, .svg) are in {output}/", err=True)
    say(f"Ask the fit anything: qidbayes tokens {output / 'unified.nc'} --suite pythia --params 8B", err=True)
    sys.exit(1 if any(found.diagnostics.problems() for found in fits.values()) else 0)


def _answers(table: "pl.DataFrame", fits: dict[str, "Fit"]) -> dict[str, tuple[str, "pl.DataFrame"]]:
    import polars as pl

    from qidbayes.infer.least_squares import least_squares
    from qidbayes.posterior import published

    answers = {}
    for law, point in (("unified", "eq8"), ("kaplan-16bit", "eq3")):
        posterior = fits[law].summary(published=point).rename({"published": "paper"})
        linear = least_squares(table, law, "linear").constants
        baseline = pl.DataFrame({"name": list(linear), "least_squares": list(linear.values())}, strict=False)
        answers[f"constants-{law}"] = (
            f"{fits[law].law.title}: posterior (90% intervals), the paper's constants, least squares in linear space",
            posterior.select("name", "median", "lower", "upper", "ess_bulk", "r_hat", "paper").join(
                baseline, on="name", how="left", maintain_order="left"
            ),
        )
    qid, sizes, bits = [0.2, 0.3, 0.4, 0.5], [1e9, 7e9, 70e9, 405e9], [2.0, 3.0, 4.0]
    suite = "pythia"  # another run of it, as the paper's numbers are; a model of another family has wider bands
    ours = fits["unified"].tokens_to_threshold(qid, n_params=sizes, bits=bits, suite=suite)
    paper = published("per-bit").tokens_to_threshold(qid, n_params=sizes, bits=bits)
    answers["tokens"] = (
        "Training tokens at which QiD reaches a threshold: 90% intervals for a newly trained Pythia, and the paper's",
        question_first(ours.drop("suite"), ("qid", "n_params", "bits")).with_columns(paper=paper["tokens"]),
    )
    sizes = sizes[1:]  # as in the paper's figure
    projected = fits["unified"].project(n_params=sizes, bits=bits, suite=suite, loss_16bit=fits["kaplan-16bit"])
    projected = projected.select(
        "n_params", "tokens", "bits", "median", "lower", "upper", "loss_16bit", "worse_than_random"
    )
    paper = published("per-bit").predict(n_params=sizes, tokens=100e12, bits=bits)
    answers["projection"] = (
        "QiD of a Pythia at 100 trillion tokens, nats per token: 90% bands, and the paper's Figure 1",
        projected.with_columns(paper=paper["median"]),
    )
    return answers


def _figures(fits: dict[str, "Fit"], output: Path) -> None:
    from qidbayes import plots
    from qidbayes.posterior import published

    unified, kaplan, paper = fits["unified"], fits["kaplan-16bit"], published("per-bit")
    figures = {
        "projection": plots.projection(unified, loss_16bit=kaplan, published=paper),
        "qid": plots.qid(unified),
        "loss-16bit": plots.loss_16bit(kaplan),
        "tokens-to-threshold": plots.tokens_to_threshold(unified, published=paper),
    }
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            plots.save(figure, output / f"{name}{suffix}")
