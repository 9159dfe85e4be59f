"""Options that several commands take."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from qidbayes.errors import InputError
from qidbayes.units import parse_bytes, parse_count

if TYPE_CHECKING:
    from qidbayes.posterior import Fit, Point


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


class Numbers(click.ParamType[list[float]]):
    """One or several positive numbers, separated by commas: ``2,3,4``."""

    name = "NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            found = [float(part) for part in str(value).split(",")]
        except ValueError:
            found = []
        if not found or not all(0 < number < float("inf") for number in found):
            self.fail(f"{value!r} is not a list of positive numbers, such as 2,3,4", param, ctx)
        return found


class At(click.ParamType[tuple[str, list[float] | list[str]]]):
    """A column and its values: ``learning_rate=1e-4`` or ``suite=mine``."""

    name = "COLUMN=VALUES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, list[float] | list[str]]:
        if isinstance(value, tuple):
            return value
        column, _, text = str(value).partition("=")
        values = text.split(",")
        if not column or not all(values):
            self.fail(f"{value!r} is not a column and its values, such as learning_rate=1e-4", param, ctx)
        try:
            return column, [float(v) for v in values]
        except ValueError:
            return column, values


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
at_option = click.option(
    "--at", type=At(), multiple=True,
    help="Values of a further column the law needs, such as suite=mine or learning_rate=1e-4; may be repeated.",
)  # fmt: skip
source_arguments = options(
    click.argument("fit", required=False, type=click.Path()),
    click.option("--published", metavar="LAW[:POINT]", help="Ask a law's published constants instead of a fit."),
)


def asked(fit: str | None, published: str | None) -> "Fit | Point":
    """Return the saved fit or the published point that a command was given."""
    if (fit is None) == (published is None):
        raise click.UsageError("give either a saved FIT or --published LAW")
    from qidbayes.posterior import load_fit
    from qidbayes.posterior import published as published_point

    if fit is not None:
        return load_fit(fit)
    law, _, point = (published or "").partition(":")
    return published_point(law, point or None)


def given(**values: Any) -> dict[str, Any]:
    """Return the values that were given."""
    return {name: value for name, value in values.items() if value is not None}
