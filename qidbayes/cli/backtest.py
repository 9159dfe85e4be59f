"""`qidbayes backtest`: how a law's bands hold where it was not fitted."""

import os
import sys
from pathlib import Path

import click

from qidbayes.cli.notes import say_notes
from qidbayes.cli.options import fit_file, law_name, table_name
from qidbayes.cli.output import echo_frame, format_option, say, write_csv


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=table_name())
@click.option(
    "--law",
    multiple=True,
    metavar="LAW",
    type=law_name(),
    help="A shipped law or a .toml file; may be repeated.  [default: unified]",
)
@click.option("--split", multiple=True, metavar="RULE", help="What is held out; may be repeated.  "
              "[default: 'rolling tokens' and 'leave n_params']")  # fmt: skip
@click.option("--baseline", multiple=True, help="Score `independent` errors or `least-squares` too; may be repeated.")
@click.option("--fit", type=fit_file(path_type=Path), help="A saved fit to TABLE: test its law, and save the result "
              "in it, for `qidbayes project` to tell of.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A folder for scores.csv, points.csv and "
              "backtest.png.")  # fmt: skip
@format_option
def backtest(
    tables: tuple[str, ...],
    law: tuple[str, ...],
    split: tuple[str, ...],
    baseline: tuple[str, ...],
    fit: Path | None,
    jobs: int | None,
    seed: int,
    output: Path | None,
    fmt: str,
) -> None:
    """Hold rows of a TABLE out by rule, fit a law to the rest, and score what it says of them.

    \b
    A RULE is one of
      'tokens > 100B'                      these rows
      'n_params > 2B and tokens > 50B'     rows for which all of it holds
      'method = awq seeing 6'              these rows, but for six drawn at random
      'leave n_params'                     each value in turn
      'rolling tokens'                     the later half in five blocks, each
                                           predicted from what is before it

    The first scores are the share of points that 50, 80, 90 and 95% bands held, and the log of the 90% band's width as
    a ratio. The others are CRPS and log density (nats a point) of the log response, and the mean of log(measured /
    median). Exits with 1 if the diagnostics of a fit fail.
    """
    from qidbayes.cli.progress import sampling

    if fit and law:
        raise click.UsageError("--fit brings its own law; leave --law out")
    with sampling("fitting", "preparing the folds") as progress:
        from qidbayes.cli.summary import warn
        from qidbayes.errors import InputError
        from qidbayes.posterior import load_fit
        from qidbayes.score.backtest import SPLITS
        from qidbayes.score.backtest import backtest as run
        from qidbayes.table import load_table, table_hash

        table = load_table(*tables)
        saved = load_fit(fit) if fit else None
        if saved:
            warn(saved)
        if saved and saved.attributes.get("table_hash") != table_hash(table):
            raise InputError(
                f"--fit {fit}: was not fitted to the whole of {', '.join(tables)}; give the table it was fitted to"
            )
        found = run(
            table, [saved.law] if saved else list(law or ("unified",)), split or SPLITS, baselines=baseline,
            random_seed=seed, jobs=jobs or os.cpu_count() or 1, progress=progress,
        )  # fmt: skip
    if saved and fit:
        found.attach(saved).save(fit)
        say(f"kept in {fit}", err=True)
    if output:
        from qidbayes import plots

        plots.save(plots.backtest(found), output / "backtest.png")
        for name, frame in (("scores", found.scores), ("points", found.points)):
            write_csv(frame, output / f"{name}.csv")
        say(f"scores.csv, points.csv and backtest.png are in {output}/", err=True)
    shown = found.scores
    if fmt == "table":
        shown = shown.select(c.name for c in shown if c.name != "note" and c.null_count() < shown.height)
    echo_frame(shown, fmt, "Forecasts of rows that were not fitted")
    if fmt == "table":
        say_notes(found.scores)
    sys.exit(1 if found.scores["failed_checks"].sum() else 0)
