"""Options that several commands take."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from qidbayes.errors import InputError, nearest
from qidbayes.resources import shipped
from qidbayes.units import parse_bytes, parse_count

if TYPE_CHECKING:
    from qidbayes.posterior import Fit, PointEstimate


class Counts(click.ParamType[list[float]]):
    """One or several counts, separated by commas: ``7B,70B``."""

    name = "COUNTS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            return [parse_count(part) for part in str(value).split(",")]
        except InputError as error:
            self.fail(str(error), param, ctx)


class Sizes(click.ParamType[list[float]]):
    """One or several sizes in bytes, separated by commas: ``8GB,24GB``."""

    name = "SIZES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            return [parse_bytes(part) for part in str(value).split(",")]
        except InputError as error:
            self.fail(str(error), param, ctx)


_MOST_IN_A_RANGE = 100


class Numbers(click.ParamType[list[float]]):
    """One or several positive numbers, separated by commas: ``2,3,4``; or whole ones from and to: ``2-4``."""

    name = "NUMBERS"

    def __init__(self, also: float | None = None) -> None:
        self._also = also  # one more that has a meaning, such as −1 of group sizes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            found = [number for part in str(value).split(",") for number in _range(part)]
        except ValueError:
            found = []
        if not found or not all(0 < number < float("inf") or number == self._also for number in found):
            also = "" if self._also is None else " (or 0)" if self._also == 0 else f" (or {self._also:g}, per channel)"
            self.fail(f"{value!r} is not a list of positive numbers, such as 2,3,4 or 2-4{also}", param, ctx)
        return found


def _range(text: str) -> list[float]:
    """Read a number, or whole numbers from and to.

    Raises
    ------
    ValueError
        If the text is neither, or says too many.
    """
    ends = re.fullmatch(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", text)
    if not ends:
        return [float(text)]
    first, last = int(ends[1]), int(ends[2])
    if not first <= last < first + _MOST_IN_A_RANGE:
        raise ValueError(text)
    return [float(number) for number in range(first, last + 1)]


class OneOf(click.Choice[str]):
    """One of some names; a misspelt one is told which it is near to."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        near = nearest(value, self.choices)
        said = super().get_invalid_choice_message(value, ctx)
        return f"{said} Did you mean {near!r}?" if near else said


class _Named(click.Path):
    """A file, or a shipped one by its name; completion offers both."""

    def __init__(self, endings: tuple[str, ...], names: Callable[[], Iterable[str]] = tuple, **options: Any) -> None:
        super().__init__(**options)
        self._endings, self._names = endings, names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        found = [CompletionItem(name) for name in sorted(self._names()) if name.startswith(incomplete)]
        folder, _, begun = incomplete.rpartition("/")
        where = Path(f"{folder}/" if incomplete.startswith("/") and not folder else folder or ".")
        for path in sorted(where.glob("*")) if where.is_dir() else ():
            if path.name.startswith(begun) and (path.is_dir() or path.suffix in self._endings):
                shown = f"{folder}/{path.name}" if "/" in incomplete else path.name
                found.append(CompletionItem(f"{shown}/" if path.is_dir() else shown))
        return found


def _law_names() -> list[str]:
    return [path.stem for path in shipped("models").glob("*.toml")]


def _table_names() -> list[str]:
    tables = [path for path in shipped("measurements").glob("*/*") if path.suffix in (".csv", ".parquet")]
    return [p.parent.name if p.stem == p.parent.name else f"{p.parent.name}/{p.stem}" for p in tables]


def fit_file(**options: Any) -> click.Path:
    """Return the type of a saved fit."""
    return _Named((".nc",), **options)


def law_name() -> click.Path:
    """Return the type of a law: a shipped one by its name, or a TOML file."""
    return _Named((".toml",), _law_names)


def table_name() -> click.Path:
    """Return the type of a table: a shipped one by its name, or a CSV or Parquet file."""
    return _Named((".csv", ".parquet"), _table_names)


class Names(click.ParamType[list[str]]):
    """One or several names, separated by commas: ``gptq,awq``."""

    name = "NAMES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        found = [part.strip() for part in str(value).split(",")]
        if not all(found):
            self.fail(f"{value!r} is not a list of names, such as gptq,awq", param, ctx)
        return found


def _further(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...], answer: str | None
) -> dict[str, list[float] | list[str]]:
    """Return the values of each column that ``--at`` gives, none of which has an option of its own."""
    if not given:
        return {}
    import polars as pl

    from qidbayes.law.law import suggestion
    from qidbayes.table.columns import COLUMNS
    from qidbayes.table.further import is_further, meant

    known = {column.name: column.dtype for column in COLUMNS}
    options = [option for option in ctx.command.params if isinstance(option, click.Option)]
    own = {_COLUMNS.get(str(option.name), str(option.name)): option.opts[0] for option in options}
    found: dict[str, list[float] | list[str]] = {}
    for text in given:
        column, _, listed = text.partition("=")
        values = listed.split(",")
        if not column or not all(values):
            raise click.BadParameter(f"{text!r} is not a column and its values, such as learning_rate=1e-4", ctx, param)
        if column in own:
            raise click.BadParameter(f"{column} has an option of its own; give {own[column]}", ctx, param)
        if column == answer:
            raise click.BadParameter(f"{column} is what is asked for; leave it out", ctx, param)
        if column not in known and (meant(column) or not is_further(column)):
            near = suggestion(column, list(known))
            raise click.BadParameter(f"a table has no column {column!r}{near}, and a law needs none", ctx, param)
        if column in found:
            raise click.BadParameter(f"{column} is given twice; give all its values at once, as a,b", ctx, param)
        numbers = Numbers(also=-1 if column == "group_size" else 0)
        found[column] = values if known.get(column) == pl.String else numbers.convert(listed, param, ctx)
    return found


# The columns that options are not called after.
_COLUMNS = {"params": "n_params"}


def options[F: Callable[..., Any]](*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Combine option decorators into one, in the order they are listed in the help."""

    def add(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


ci_option = click.option(
    "--ci-prob", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.9, show_default=True,
    help="The probability of the intervals.",
)  # fmt: skip
kind_option = click.option(
    "--kind", type=click.Choice(["response", "response_params"]), default="response", show_default=True,
    help="The band of a newly measured checkpoint, or of the law alone.",
)  # fmt: skip


def at_option[F: Callable[..., Any]](answer: str | None = None) -> Callable[[F], F]:
    """Add ``--at``, as the parameter `at`: a mapping of columns to their values.

    Parameters
    ----------
    answer
        The column that the command answers with, and that therefore cannot be given.
    """
    return click.option(
        "--at", multiple=True, metavar="COLUMN=VALUES",
        callback=lambda ctx, param, value: _further(ctx, param, value, answer),
        help="Values of a further column the law needs, such as suite=mine or learning_rate=1e-4; may be repeated.",
    )  # fmt: skip


source_arguments = options(
    click.argument("fit", required=False, type=fit_file()),
    click.option(
        "--published", metavar="LAW[:POINT]", type=law_name(), help="Ask a law's published constants instead of a fit."
    ),
)
question_options = options(
    click.option("--suite", type=Names(), help="A suite: a family of models as somebody measured it, such as pythia.  "
                 "[default: one that was not fitted]"),
    click.option("--model", type=Names(), help="A fitted model, whose own effect is then known.  [default: a new one]"),
    click.option("--method", type=Names(), help="A method, such as gptq."),
    click.option("--dataset", type=Names(), help="An evaluation set, such as wikitext2."),
    click.option("--group-size", type=Numbers(also=-1), help="Weights that share a scale; -1 is per channel."),
    click.option("--settings", type=Names(), help="Who made a GGUF file and by which recipe: bartowski/Q4_K_M."),
    click.option("--with", "own", multiple=True, type=click.Path(), metavar="FILE",
                 help="A table of measurements of your own that the answer takes in, in seconds and without a new fit; "
                 "may be repeated. Rows that name no suite are of --suite, or of a new one called after the file."),
)  # fmt: skip
"""What a question may name, as the parameters that `question` takes, and rows of one's own."""


def asked(fit: str | None, published: str | None) -> "Fit | PointEstimate":
    """Return the saved fit or the published point that a command was given; the shipped fit if neither."""
    if fit is not None and published is not None:
        raise click.UsageError("give either a saved FIT or --published LAW")
    from qidbayes.posterior import load_fit
    from qidbayes.posterior import published as published_point

    if published is None:
        return load_fit(fit or "atlas")
    law, _, point = published.partition(":")
    return published_point(law, point or None)


def question[Source: "Fit | PointEstimate"](
    source: Source, named: dict[str, Any], kind: str = "response"
) -> tuple[Source, dict[str, Any]]:
    """Return what answers, with rows of one's own taken in, and what its question names.

    Parameters
    ----------
    source
        The fit or the point that is asked.
    named
        The values of `question_options`.
    kind
        As in `Fit.predict`: the law alone has no suite.
    """
    from qidbayes.posterior import Fit

    own = named.pop("own")
    found = {name: value[0] if len(value) == 1 else value for name, value in given(**named).items()}
    if not own:
        return source, found
    if not isinstance(source, Fit):
        raise click.UsageError("--with goes with a fit; published constants take in no measurements")
    from qidbayes.cli.output import say
    from qidbayes.posterior.own_rows import own_table
    from qidbayes.table import join_tables

    suites = named.get("suite") or []
    tables = [own_table(source, file, suites[0] if len(suites) == 1 else None) for file in own]
    fit = source.condition(join_tables(*tables) if len(tables) > 1 else tables[0])
    before = len(source.attributes.get("conditioned_on", ()))
    taken = fit.attributes["conditioned_on"][before:]
    told = ", ".join(
        f"{part['rows']} rows of suite {part['suite']} (Pareto k {part['pareto_k']:.2f}, "
        f"{part['ess']:.0f} effective draws{_left_out(part['left_out'])})"
        for part in taken
    )
    about = ""
    models = named.get("model") or ()
    own_models = set(fit.data[source.data.height :]["model"])
    if len(taken) == 1 and kind == "response" and "suite" not in found and own_models.issuperset(models):
        found["suite"] = taken[0]["suite"]
        about = f"; the answer is about suite {found['suite']}"
    say(f"taken in: {told}{about}", err=True)
    return fit, found


def _left_out(rows: int) -> str:
    return f"; {rows} left out" if rows else ""


def given(**values: Any) -> dict[str, Any]:
    """Return the values that were given."""
    return {name: value for name, value in values.items() if value is not None}
