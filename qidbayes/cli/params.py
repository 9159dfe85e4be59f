"""`qidbayes params`: how large a model is, from its configuration."""

from pathlib import Path

import click

from qidbayes.cli.output import echo_frame, format_option, say


@click.command()
@click.argument("configs", nargs=-1, required=True, metavar="CONFIG-OR-FOLDER...", type=click.Path(path_type=Path))
@format_option
def params(configs: tuple[Path, ...], fmt: str) -> None:
    """Count a model's parameters from its config.json alone: the N that tables and laws speak of.

    N is the number of parameters outside token embedding and output head. Of a mixture of experts `active` is what one
    token uses of it. Tokens are what the folder's README.md says, if it does; nobody has checked them. It needs
    transformers (pip install 'qidbayes[measure]'), and neither the network nor weights.
    """
    import polars as pl

    from qidbayes.errors import InputError
    from qidbayes.measure.inputs.configuration import read_plain

    for path in configs:
        read_plain(path)  # what is no configuration is refused before PyTorch is imported, which takes seconds
    try:
        from qidbayes.measure.inputs.sizes import size_of
    except ImportError as error:
        raise InputError(f"counting needs {error.name}; pip install 'qidbayes[measure]'") from error
    sizes = [size_of(path) for path in configs]
    if fmt != "table":
        echo_frame(pl.DataFrame([vars(size) for size in sizes]), fmt)
        return
    for size in sizes:
        say(f"model       {size.model}")
        experts = "" if size.active == size.n_params else ", of all experts"
        say(f"n_params    {size.n_params}   non-embedding{experts}: N")
        if size.active is None:
            say("active                 the configuration does not say how many experts a token uses")
        elif size.active != size.n_params:
            say(f"active      {size.active}   non-embedding, used by one token")
        say(f"embeddings  {size.embeddings}   token embedding and output head")
        if size.tokens is not None:
            say(f"tokens      {size.tokens:.0f}   said by {size.said} (not checked)")
