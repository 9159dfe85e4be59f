"""`qidbayes plot`: figures from saved fits."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from qidbayes.cli.options import OneOf, ci_option, fit_file, given, kind_option, question, question_options
from qidbayes.cli.output import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Figure:
    """What a figure shows, and which of the command's options it takes."""

    what: str
    takes: tuple[str, ...] = ()
    several: bool = False
    """Whether it takes more than one fit."""
    fits: bool = True
    """Whether it is drawn from fits at all, and not from measurements alone."""
    of_drift: bool = False
    """Whether it is drawn from a table that `measure --drift` wrote, and from no fit."""


_FIGURES = {
    "projection": _Figure("QiD projected to 100T training tokens (Figure 1).", ("published", "loss-16bit")),
    "loss": _Figure("Loss before and after quantization against tokens (Figure 2).", ("table", "loss-16bit")),
    "qid-by-tokens": _Figure("QiD against training tokens, by model (Figure 3).", ("table",)),
    "qid-by-size": _Figure("QiD against model size (Figures 4 and 10, left).", ("table",)),
    "qid-by-bits": _Figure("QiD against bit width (Figure 5).", ("table",)),
    "qid": _Figure("QiD against training tokens, by model and bits (Figure 6).", ("table",)),
    "loss-quantized": _Figure("Loss after quantization = 16-bit + QiD (Figure 7).", ("table", "loss-16bit")),
    "loss-16bit": _Figure("16-bit loss against training tokens (Figure 7)."),
    "datasets": _Figure("QiD on several evaluation sets (Figure 8).", ("table",), several=True),
    "methods": _Figure("QiD by several quantization methods (Figure 9).", ("table",), several=True),
    "predicted-against-measured": _Figure("Predicted against measured QiD (Figure 10).", ("table",), several=True),
    "qid-map": _Figure("QiD over model sizes and training tokens (Figure 11)."),
    "tokens-by-year": _Figure("Training tokens of open models by year, and when QiD is reached (Figure 13)."),
    "native-low-bit": _Figure("Models trained in low bits against 16 bits (Figure 14).", ("table",), fits=False),
    "weight-change": _Figure("How far training and rounding move weights (Figure 12).", of_drift=True),
    "tokens-to-threshold": _Figure("Training tokens at which QiD reaches a threshold (Table 1).", ("published",)),
}
_OF_ATLAS = ("projection", "qid-map", "tokens-by-year", "tokens-to-threshold")
"""The figures that are drawn of the shipped fit where none is given: those beyond the points."""
_LISTED = "\n".join(f"  {name:<28}{figure.what}" for name, figure in _FIGURES.items())


@click.command(epilog=f"\b\nFigures, and which of arXiv:2411.17691 they are:\n{_LISTED}")
@click.argument("name", type=OneOf(list(_FIGURES)), metavar="NAME")
@click.argument("fits", type=fit_file(), nargs=-1, metavar="[FIT]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A .png, .svg or .pdf file.  [default: NAME.png]")
@click.option("--table", "tables", multiple=True, metavar="TABLE",
              help="Measurements to draw, if not those that were fitted; may be repeated.")  # fmt: skip
@click.option("--loss-16bit", type=fit_file(), help="A fit of a 16-bit law.  [default: the fit's own]")
@click.option("--published", metavar="LAW[:POINT]", help="Draw a law's published constants beside the fit.")
@question_options
@kind_option
@ci_option
def plot(
    name: str,
    fits: tuple[str, ...],
    output: Path | None,
    tables: tuple[str, ...],
    loss_16bit: str | None,
    published: str | None,
    kind: str,
    ci_prob: float,
    **named: Any,
) -> None:
    """Draw the figure called NAME from a saved FIT: some take several."""
    figure = _FIGURES[name]
    about = {"with" if column == "own" else column.replace("_", "-"): value for column, value in named.items()}
    for option, value in {"table": tables, "loss-16bit": loss_16bit, "published": published, **about}.items():
        if value and option not in figure.takes and not (option in about and name in _OF_ATLAS):
            having = ", ".join(_OF_ATLAS if option in about else [n for n, f in _FIGURES.items() if option in f.takes])
            raise click.UsageError(f"--{option} has no place in {name}; it is for {having}")
    if not figure.fits:
        _of_tables(name, fits, tables, output, ci_prob)
        return
    if figure.of_drift:
        _draw_drift(name, fits, output)
        return
    if not fits and name not in _OF_ATLAS:
        raise click.UsageError(
            f"{name} is drawn from a saved FIT; {', '.join(_OF_ATLAS)} are drawn of the atlas without"
        )
    if len(fits) > 1 and not figure.several:
        having = ", ".join(other for other, found in _FIGURES.items() if found.several)
        raise click.UsageError(f"{name} is drawn from one fit, not {len(fits)}; {having} take several")
    from qidbayes import plots
    from qidbayes.cli.summary import warn
    from qidbayes.posterior import load_fit
    from qidbayes.posterior import published as published_point
    from qidbayes.table import load_table

    law, _, point = (published or "").partition(":")
    loaded = [load_fit(fit) for fit in fits or ("atlas",)]
    asked: dict[str, Any] = {}
    if name in _OF_ATLAS:
        loaded[0], asked = question(loaded[0], named, kind)
        if several := [column for column, value in asked.items() if isinstance(value, list)]:
            raise click.UsageError(f"{name} is drawn of one --{several[0].replace('_', '-')}")
    base = load_fit(loss_16bit) if loss_16bit else None
    for found in (*loaded, *([base] if base else [])):
        warn(found)
    drawn = getattr(plots, name.replace("-", "_"))(
        *loaded,
        kind=kind,
        ci_prob=ci_prob,
        **asked,
        **given(
            table=load_table(*tables) if tables else None,
            loss_16bit=base,
            published=published_point(law, point or None) if published else None,
        ),
    )
    _write(drawn, name, output)


def _of_tables(name: str, fits: tuple[str, ...], tables: tuple[str, ...], output: Path | None, ci_prob: float) -> None:
    """Draw a figure of measurements alone."""
    if fits:
        raise click.UsageError(f"{name} is drawn from measurements (--table), not from a fit")
    if click.get_current_context().get_parameter_source("kind") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--kind has no place in {name}: nothing is fitted there")
    from qidbayes import plots
    from qidbayes.table import load_table

    table = load_table(*tables) if tables else None
    _write(getattr(plots, name.replace("-", "_"))(table, ci_prob=ci_prob), name, output)


def _write(drawn: "Figure", name: str, output: Path | None) -> None:
    from qidbayes.plots import save

    path = output or Path(f"{name}.png")
    save(drawn, path)
    say(f"drawn in {path}", err=True)


def _draw_drift(name: str, tables: tuple[str, ...], output: Path | None) -> None:
    if len(tables) != 1:
        raise click.UsageError(f"{name} is drawn from one table, which `qidbayes measure --drift` writes")
    from qidbayes import plots
    from qidbayes.table.drift import read_drift

    _write(plots.weight_change(read_drift(tables[0])), name, output)
