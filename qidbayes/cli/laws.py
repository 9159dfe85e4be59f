"""`qidbayes laws`: the shipped laws."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from qidbayes.cli.options import law_name
from qidbayes.cli.output import echo_frame, echo_json, format_option, say
from qidbayes.errors import printable

if TYPE_CHECKING:
    from qidbayes.law import Law
    from qidbayes.law.law import Constants


@click.command()
@click.argument("name", required=False, type=law_name())
@click.option("--latex", is_flag=True, help="Print the equation of NAME as LaTeX.")
@click.option("--toml", is_flag=True, help="Print the file of NAME: what a law of your own starts from.")
@format_option
def laws(name: str | None, latex: bool, toml: bool, fmt: str) -> None:
    """List the shipped laws, or show the one called NAME (or in a .toml file).

    Of one law JSON has all that its file says and CSV a row for each of its parameters and definitions.
    """
    from qidbayes.law import law_names, load_law
    from qidbayes.law.read import law_file

    for option, given, what in (("--latex", latex, "an equation"), ("--toml", toml, "a file")):
        if given and not name:
            raise click.UsageError(f"{option} needs the NAME of a law")
        if given and fmt != "table":
            raise click.UsageError(f"{option} prints {what}, which --format {fmt} has no place for")
    if latex and toml:
        raise click.UsageError("give either --latex or --toml")
    import polars as pl

    if name:
        law = load_law(name)
        if toml:
            click.echo(printable(law_file(name).read_text(encoding="utf-8-sig").rstrip("\n")))
        elif fmt == "json":
            echo_json({**law.to_dict(), "latex": law.latex()})
        elif fmt == "csv":
            echo_frame(pl.DataFrame(_parts(law), infer_schema_length=None), fmt)
        else:
            if latex:
                click.echo(printable(law.latex()))
                return
            say(str(law))
            for point, constants in law.published.items():
                say(f"  published {point}: " + ", ".join(f"{n} = {v}" for n, v in constants.items()))
        return

    shipped = [load_law(n) for n in law_names()]
    rows = [
        {
            "law": law.name,
            "response": law.response,
            "equation": law.equation,
            "published": ", ".join(law.published),
            "source": law.source,
        }
        for law in shipped
    ]
    echo_frame(pl.DataFrame(rows), fmt)


def _flat(constants: "Constants") -> dict[str, Any]:
    """Return a point's constants as one column of a frame: where any differs by group, as JSON."""
    if not any(isinstance(constant, Mapping) for constant in constants.values()):
        return dict(constants)
    return {name: json.dumps(dict(c) if isinstance(c, Mapping) else c) for name, c in constants.items()}


def _parts(law: "Law") -> list[dict[str, Any]]:
    """Return a row for each parameter and definition of a law, with what papers give for it."""
    said: dict[str, tuple[str | None, str | None]] = {name: (repr(prior), None) for name, prior in law.priors.items()}
    said |= {name: (None, text) for name, text in law.define.items()}
    points = {point: _flat(constants) for point, constants in law.published.items()}
    return [
        {"name": name, "prior": prior, "definition": text, **{point: c.get(name) for point, c in points.items()}}
        for name, (prior, text) in said.items()
    ]
