"""Every example of the README and the docs runs."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import qidbayes as qb
from qidbayes.law import parse_law

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run_in_order(page: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks(page, "python"))], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_readme_commands_run_in_order(tmp_path: Path) -> None:
    lines = [line for block in blocks(ROOT / "README.md", "console") for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    ours = [command[1:] for command in commands if command[0] == "qidbayes"]
    assert len(ours) >= 8
    for command in ours:
        done = subprocess.run(
            [sys.executable, "-m", "qidbayes", *command], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert (tmp_path / "projection.png").read_bytes().startswith(b"\x89PNG")


def test_toml_blocks_are_laws() -> None:
    (text,) = blocks(ROOT / "README.md", "toml")
    assert tomllib.loads(text)["equation"] == parse_law(text).equation


def test_the_reference_names_all_that_is_public() -> None:
    text = (ROOT / "docs" / "api.rst").read_text()
    missing = [name for name in qb.__all__ if f"qidbayes.{name}\n" not in text and name != "plot"]
    assert not missing
    assert "automodule:: qidbayes.plots" in text


def test_every_page_is_on_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {path.stem for path in (ROOT / "docs").glob("*.*") if path.suffix in (".md", ".rst")} - {"index"}
    assert pages <= set(index.split())


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
