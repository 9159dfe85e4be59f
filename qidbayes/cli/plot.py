"""`qidbayes plot`: figures from a saved fit."""

from pathlib import Path

import click

from qidbayes.cli.options import ci_option, given

_FIGURES = {
    "projection": "QiD projected to 100T training tokens (the paper's Figure 1).",
    "qid": "QiD against training tokens, with the measured points (Figure 6).",
    "loss-16bit": "16-bit loss against training tokens, with the measured points (Figure 7).",
    "tokens-to-threshold": "Training tokens at which QiD reaches a threshold (Table 1).",
}


@click.command(epilog="\b\nFigures:\n" + "\n".join(f"  {name:<20} {what}" for name, what in _FIGURES.items()))
@click.argument("name", type=click.Choice(list(_FIGURES)))
@click.argument("fit", type=click.Path())
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A .png, .svg or .pdf file.  [default: NAME.png]")
@click.option("--published", metavar="LAW[:POINT]", help="Draw a law's published constants beside the fit.")
@ci_option
def plot(name: str, fit: str, output: Path | None, published: str | None, ci_prob: float) -> None:
    """Draw the figure called NAME from a saved FIT."""
    from qidbayes import plots
    from qidbayes.posterior import load_fit
    from qidbayes.posterior import published as published_point

    if published and name not in ("projection", "tokens-to-threshold"):
        raise click.UsageError(f"--published has no place in {name}")
    law, _, point = (published or "").partition(":")
    beside = published_point(law, point or None) if published else None
    figure = getattr(plots, name.replace("-", "_"))(load_fit(fit), ci_prob=ci_prob, **given(published=beside))
    path = output or Path(f"{name}.png")
    plots.save(figure, path)
    click.echo(f"drawn in {path}", err=True)
