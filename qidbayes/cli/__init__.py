"""The command line: one command a file, imported when it is called."""

import sys
from importlib import import_module

import click

from qidbayes.errors import InputError

# Said here, so that `qidbayes --help` imports no command.
_COMMANDS = {
    "advise": "How few bits keep QiD under a bound, or what to run in some memory.",
    "backtest": "Score a law by what it says of rows it was not fitted to.",
    "compare": "Compare laws by rows they were not fitted to, and weigh them by stacking.",
    "demo": "Fit the paper's own points and write answers, tables and figures.",
    "design": "Which cells of a plan to measure next, for a narrower answer.",
    "fit": "Fit a law to measurement tables by NUTS and save the posterior.",
    "laws": "List the shipped laws, or show one.",
    "measure": "Measure losses before and after quantization, from a plan.",
    "plot": "Draw a figure from a saved fit.",
    "project": "Project QiD to more tokens and larger models, with bands.",
    "report": "Write saved fits as one HTML page, with sliders.",
    "summary": "Show a saved fit: parameters, credible intervals, diagnostics.",
    "tables": "List the shipped measurement tables, or print some.",
    "tokens": "Training tokens at which QiD reaches a threshold, with intervals.",
    "training-level": "How far a model is trained, from QiDs measured of it.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx  # click passes it to every method
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"qidbayes.cli.{module}"), module)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in sorted(_COMMANDS)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "--version", package_name="qidbayes")
def cli() -> None:
    """Bayesian scaling laws for what low-bit quantization costs a language model.

    Sizes are typed as people say them: 7B parameters, 100T tokens. Data goes to stdout, progress and warnings to
    stderr. Exit status: 0 done, 1 a finding (a fit whose diagnostics fail), 2 a mistake in what was asked.
    """


def main() -> None:
    """Run the command line; a user's mistake is told in one message, without a traceback."""
    try:
        sys.exit(cli(standalone_mode=False))  # what a command exited with, None for 0
    except InputError as error:
        click.echo(f"qidbayes: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("qidbayes: stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has seen enough, as `head` does
        sys.stderr.close()
        sys.exit(0)
