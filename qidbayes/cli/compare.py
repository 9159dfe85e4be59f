"""`qidbayes compare`: laws held against each other by what they say of rows they were not fitted to."""

import os
import sys

import click

from qidbayes.cli.notes import say_notes
from qidbayes.cli.options import law_name, table_name
from qidbayes.cli.output import echo_frame, format_option, say


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=table_name())
@click.option(
    "--law",
    multiple=True,
    required=True,
    metavar="LAW",
    type=law_name(),
    help="A shipped law or a .toml file; two or more.",
)
@click.option("--split", multiple=True, metavar="RULE", help="What is held out, as in `qidbayes backtest`; may be "
              "repeated.  [default: 'rolling tokens' and 'leave n_params']")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@format_option
def compare(
    tables: tuple[str, ...], law: tuple[str, ...], split: tuple[str, ...], jobs: int | None, seed: int, fmt: str
) -> None:
    """Compare laws on a TABLE by groups of rows left out, and weigh them by stacking.

    `log_density` is in nats a held-out point; `behind` is what is missing to the best law, with its standard error
    over training runs. Leave-one-out by importance sampling comes last, of checkpoints and of rows: the neighbours that
    stay in the fit flatter it. Exits with 1 if the diagnostics of a fit fail.
    """
    from qidbayes.cli.progress import sampling

    with sampling("fitting", "preparing the folds") as progress:
        from qidbayes.score.backtest import SPLITS
        from qidbayes.score.compare import compare as run
        from qidbayes.table import load_table

        table = load_table(*tables)
        found = run(table, law, split or SPLITS, random_seed=seed, jobs=jobs or os.cpu_count() or 1, progress=progress)
    echo_frame(found.table, fmt, "Laws by their forecasts of rows that were not fitted")
    if fmt == "table":
        say_notes(found.backtest.scores)
    failed = [name for name, fit in found.fits.items() if fit.diagnostics.problems()]
    if failed:
        say(f"FAILED: the sampler's checks of {', '.join(failed)}", err=True, fg="red")
    sys.exit(1 if failed or found.backtest.scores["failed_checks"].sum() else 0)
