"""`qidbayes laws`: the shipped laws."""

import click

from qidbayes.cli.output import echo_frame, format_option, say


@click.command()
@click.argument("name", required=False)
@click.option("--latex", is_flag=True, help="Print the equation of NAME as LaTeX.")
@format_option
def laws(name: str | None, latex: bool, fmt: str) -> None:
    """List the shipped laws, or show the one called NAME (or in a .toml file)."""
    from qidbayes.law import law_names, load_law

    if latex and not name:
        raise click.UsageError("--latex needs the NAME of a law")
    if name:
        law = load_law(name)
        say(law.latex() if latex else str(law))
        for point, constants in {} if latex else law.published.items():
            say(f"  published {point}: " + ", ".join(f"{n} = {v}" for n, v in constants.items()))
        return
    import polars as pl

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
