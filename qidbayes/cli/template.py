"""`qidbayes template`: a CSV file to fill in."""

from pathlib import Path

import click

from qidbayes.cli.output import echo_frame, say, write_csv


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE...]", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where it is written.  [default: stdout]")
def template(files: tuple[Path, ...], output: Path | None) -> None:
    """Write a CSV to fill in: a measurement table, or labels for the runs in FILE.

    Without FILE it is a table with three rows of an example, a 16-bit run and two quantized ones, to be replaced by
    your own. With FILE, as of `qidbayes import`, it has a row a file, with what the file says of its run; what it does
    not say is empty. Fill that in and give it as --labels.
    """
    from qidbayes.errors import InputError
    from qidbayes.table.runs.template import example, labels

    frame = labels(files) if files else example()
    if output is None:
        echo_frame(frame, "csv")
        return
    if output.exists():
        raise InputError(f"{output}: is there already, and may be filled in; choose another --output")
    write_csv(frame, output)
    say(f"{output}: {frame.height} rows to fill in", err=True)
