"""`qidbayes fit`: sample the posterior of a law and save it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qidbayes.cli.options import fit_file, law_name, table_name
from qidbayes.cli.output import say
from qidbayes.cli.rows import only, row_options

if TYPE_CHECKING:
    import polars as pl


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=table_name())
@click.option(
    "--law",
    default="unified",
    show_default=True,
    metavar="LAW",
    type=law_name(),
    help="A shipped law (see `qidbayes laws`) or a .toml file.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where the fit is saved.  [default: LAW.nc]")
@click.option("--quick", is_flag=True, help="Leave out what the equation misses: fitted in seconds, for a first look.")
@click.option("--force", is_flag=True, help="Overwrite a file that is not a fit of these rows.")
@row_options
@click.option(
    "--draws", type=int, help="Draws kept of each chain.  [default: 1000; up to 4000 if the checks want more]"
)
@click.option("--tune", type=int, default=1000, show_default=True, help="Warm-up transitions of each chain.")
@click.option("--chains", type=int, default=4, show_default=True, help="Number of chains.")
@click.option("--target-accept", type=float, default=0.9, show_default=True, help="Acceptance the step size adapts to.")
@click.option("--seed", type=int, help="Random seed; one is drawn and saved if it is not given.")
@click.option("--prior-from", type=fit_file(), help="A saved fit of the same law, whose posterior is the prior here.")
@click.option("--prior-weight", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
              help="What each row of that fit counts for.")  # fmt: skip
def fit(
    tables: tuple[str, ...],
    law: str,
    output: Path | None,
    quick: bool,
    force: bool,
    method: tuple[str, ...],
    bits: list[float] | None,
    dataset: tuple[str, ...],
    draws: int | None,
    tune: int,
    chains: int,
    target_accept: float,
    seed: int | None,
    prior_from: str | None,
    prior_weight: float,
) -> None:
    """Fit a law to measurement tables, and save the posterior.

    TABLE is a shipped table (see `qidbayes tables`) or a CSV or Parquet file; several are joined. A fit of the same
    rows is overwritten, one of others only with --force. Exits with 1 if the fit's diagnostics fail; it is saved all
    the same, and says so whenever it is asked.
    """
    from qidbayes.atomic import refuse_unwritable
    from qidbayes.cli.progress import sampling
    from qidbayes.cli.summary import warn
    from qidbayes.errors import InputError
    from qidbayes.law import load_law
    from qidbayes.posterior import load_fit
    from qidbayes.table import load_table

    chosen = load_law(law)
    if quick:
        chosen = chosen.with_noise(discrepancy="none")
    other = load_fit(prior_from) if prior_from else None
    if other:
        warn(other)
    path = output or Path(f"{chosen.name}.nc")
    if path.suffix != ".nc":
        raise InputError(f"--output {path}: a fit is saved as NetCDF; end its name in .nc")
    table = only(load_table(*tables), method, bits, dataset)
    if not force:
        _keep_others(path, table)
    refuse_unwritable(path)
    with sampling() as progress:
        from qidbayes.infer.fit import fit as sample  # takes seconds, under the bar

        found = sample(
            table, chosen, draws=draws, tune=tune, chains=chains, target_accept=target_accept, random_seed=seed,
            prior_from=other, prior_weight=prior_weight, progress=progress,
        )  # fmt: skip
    found.save(path)
    say(f"{found!r}\nsaved in {path}", err=True)
    for reason, count in found.attributes["left_out"].items():
        say(f"left out: {count} rows {reason}", err=True)
    if quick:
        say(
            'quick: this fit takes the equation at its word (discrepancy = "none"); its bands are too narrow where '
            "nothing was measured. Leave --quick out for answers to rely on.",
            err=True,
        )
    warn(found)
    sys.exit(1 if found.diagnostics.problems() else 0)


def _keep_others(path: Path, table: "pl.DataFrame") -> None:
    """Refuse to overwrite what is not a fit of these rows."""
    from qidbayes.errors import InputError
    from qidbayes.posterior import load_fit
    from qidbayes.table import table_hash

    if not path.exists():
        return
    way_out = "choose another --output, or overwrite it with --force"
    try:
        older = load_fit(path)
    except InputError as error:
        raise InputError(f"{error}; {way_out}") from error
    if older.attributes.get("table_hash") != table_hash(table):
        rows = f"{older.data.height} rows, of {', '.join(map(str, older.data['suite'].unique().sort()[:5]))}"
        raise InputError(f"{path}: holds a fit of law {older.law.name!r} to another table ({rows}); {way_out}")
