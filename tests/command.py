"""The command line in this process, where what it imports, seconds of a new one, is imported already."""

import contextlib
import io
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

from qidbayes.cli import main


def run(*arguments: str, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Return what `qidbayes` exits with and prints, run by its `main` as a new process would, but for Ctrl-C."""
    out, err = io.StringIO(), io.StringIO()
    status: object = None
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["qidbayes", *arguments]),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        patch("qidbayes.cli.interrupts.listen"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            main()
        except SystemExit as left:
            status = left.code
    assert status is None or isinstance(status, int)
    return subprocess.CompletedProcess(["qidbayes", *arguments], status or 0, out.getvalue(), err.getvalue())
