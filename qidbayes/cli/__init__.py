"""The command line: one command a file, imported when it is called."""

import keyword
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn, TextIO

import click

from qidbayes.cli import interrupts
from qidbayes.cli.output import caution, filled, say
from qidbayes.errors import (
    AssumptionWarning,
    DataWarning,
    DiagnosticsWarning,
    ExtrapolationWarning,
    InputError,
    TableWarning,
    UnfittedWarning,
    nearest,
    printable,
)

_TOLD = (AssumptionWarning, ExtrapolationWarning, TableWarning, UnfittedWarning)
# Said here, so that `qidbayes --help` imports no command.
_COMMANDS = {
    "advise": "How few bits keep QiD under a bound, or what to run in some memory.",
    "backtest": "Score a law by what it says of rows it was not fitted to.",
    "compare": "Compare laws by rows they were not fitted to, and weigh them by stacking.",
    "demo": "Fit the paper's own points and write answers, tables and figures.",
    "doctor": "Show versions, device and cache of this installation, and what an extra would add.",
    "fit": "Fit a law to measurement tables by NUTS and save the posterior.",
    "import": "Make a table of runs of lm-eval and llama.cpp, or of perplexities.",
    "laws": "List the shipped laws, or show one.",
    "measure": "Measure losses before and after quantization, from a plan.",
    "next-measurements": "Which cells of a plan to measure next, for a narrower answer.",
    "params": "Count a model's parameters from its config.json: the N of laws.",
    "plot": "Draw a figure from a saved fit.",
    "project": "Project QiD to more tokens and larger models, with bands.",
    "report": "Write saved fits as one HTML page, with sliders.",
    "search": "Search for the form of a law, by runs that are held out.",
    "summary": "Show a saved fit: parameters, credible intervals, diagnostics.",
    "tables": "List the shipped measurement tables, or print some.",
    "template": "Write a CSV to fill in: a table, or labels of runs.",
    "tokens": "Training tokens at which QiD reaches a threshold, with intervals.",
    "training-level": "How far a model is trained, from QiDs measured of it.",
}

_RENAMED = {"design": "next-measurements"}
"""What commands were called in an earlier version."""
_COMPUTES = "qidbayes.infer.threads"


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx  # click passes it to every method
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name in _RENAMED:
            click.echo(f"qidbayes: {cmd_name} is now {_RENAMED[cmd_name]}", err=True)
        cmd_name = _RENAMED.get(cmd_name, cmd_name)
        if cmd_name not in _COMMANDS:
            return None
        module = cmd_name.replace("-", "_") + ("_" if keyword.iskeyword(cmd_name) else "")
        command: click.Command = getattr(import_module(f"qidbayes.cli.{module}"), module)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[0].startswith("-"):
                raise
            near = nearest(args[0], _COMMANDS)
            hint = f"did you mean {near!r}?" if near else "`qidbayes --help` lists them."
            raise click.UsageError(f"No such command {args[0]!r}; {hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in sorted(_COMMANDS)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "--version", package_name="qidbayes")
@click.pass_context
def cli(context: click.Context) -> None:
    """Bayesian scaling laws for what low-bit quantization costs a language model.

    Sizes are typed as people say them: 7B parameters, 100T tokens. Data goes to stdout, progress and warnings to
    stderr. Exit status: 0 done, 1 a finding (a fit whose diagnostics fail), 2 a mistake in what was asked.
    """
    context.with_resource(_telling())


@contextmanager
def _telling() -> Iterator[None]:
    """Say once on stderr what an answer takes for granted, whichever command asks for it."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **further: Any) -> None:
        if issubclass(category, _TOLD):
            caution(str(message))
        else:
            others(message, category, *where, **further)

    with warnings.catch_warnings():
        others = warnings.showwarning
        warnings.showwarning = show
        for category in _TOLD:
            warnings.simplefilter("always", category)
        yield


def main() -> None:
    """Run the command line; what a user or the system can help is told in one message, without a traceback."""
    interrupts.listen()
    for told in (DataWarning, DiagnosticsWarning):
        warnings.simplefilter("ignore", told)  # the commands say these in their own way
    try:
        try:
            status = cli(standalone_mode=False)  # what a command exited with, None for 0
        except SystemExit as left:
            status = left.code
        sys.stdout.flush()  # a full disk shows here, and not when Python ends
        sys.exit(status)
    except InputError as error:
        say(f"qidbayes: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)
        message = filled(f"Error: {error.format_message()}", sys.stderr).removeprefix("Error: ")
        vars(error)["format_message"] = lambda: message
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _stopped()
    except BrokenPipeError:  # the reader of a pipe has seen enough, as `head` does
        _let_go(sys.stdout)
        sys.exit(0)
    except OSError as error:  # a full disk behind stdout, a folder that may not be read, …
        where = error.filename or "standard output"
        say(f"qidbayes: {where}: {error.strerror or error}", err=True)
        _let_go(sys.stdout)
        sys.exit(2)
    except Exception:
        if interrupts.came():  # what was imported when Ctrl-C came may have made another error of it
            _stopped()
        raise


def _stopped() -> NoReturn:
    click.echo("qidbayes: stopped", err=True)
    if _COMPUTES in sys.modules:
        # A thread in the midst of a long computation would abort Python's own end, which takes JAX seconds besides.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)
    sys.exit(130)


def _let_go(stream: TextIO) -> None:
    """Point a stream that cannot be written to at nothing, so that Python's own last flush of it does not fail."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
