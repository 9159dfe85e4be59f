"""Licences of what is installed, and that a vulnerability or an unreachable database would be told."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from qidbayes.cli import cli
from qidbayes.errors import InputError

FOLDER = Path(__file__).parents[1] / "checks" / "dependencies"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.mark.parametrize("extras", [(), ("measure",)])
def test_every_licence_is_on_the_list(checks: None, extras: tuple[str, ...]) -> None:
    from licences import refused

    count, wrong = refused(extras)
    assert wrong == []
    assert count > 30  # arviz, jax, pymc, … and theirs


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True), ("Apache-2.0 AND CNRI-Python", True), ("GPL-3.0-only OR BSD-3-Clause", True),
        ("GPL-3.0-only", False), ("MIT AND AGPL-3.0-or-later", False), ("", False), ("Proprietary", False),
    ],
)  # fmt: skip
def test_what_the_list_allows(checks: None, expression: str, allowed: bool) -> None:
    from licences import is_allowed

    assert is_allowed(expression) == allowed


@contextmanager
def database(vulnerable: str) -> Iterator[str]:
    """A database that knows of one vulnerable package."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            results = [{"vulns": [{"id": "CVE-1"}]} if q["package"]["name"] == vulnerable else {} for q in queries]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"results": results}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / "vulnerabilities.py"), *arguments], capture_output=True, text=True
    )


def test_a_vulnerability_is_named() -> None:
    with database("numpy") as address:
        done = audit("--address", address)
    assert done.returncode == 1 and done.stdout.startswith("numpy ") and "CVE-1" in done.stdout
    with database("nothing") as address:
        done = audit("--address", address)
    assert done.returncode == 0 and "0 with known vulnerabilities" in done.stdout


def test_a_database_that_does_not_answer_is_told() -> None:
    for arguments, status in (((), 0), (("--require",), 2)):
        done = audit("--address", "http://127.0.0.1:9", *arguments)
        assert done.returncode == status and done.stderr.startswith("VULNERABILITIES NOT CHECKED")


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_measuring_without_its_libraries_says_what_to_install(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(InputError, match=rf"measuring needs {library}; pip install 'qidbayes\[measure\]'"):
        CliRunner().invoke(cli, ["measure", "tiny"], catch_exceptions=False)
    planned = CliRunner().invoke(cli, ["measure", "tiny", "--dry-run"])
    assert planned.exit_code == 0 and "together" in planned.output
