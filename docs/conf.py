"""The documentation site: `make docs`. Its pages are these, the README and the data cards, where they lie."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

from qidbayes import __version__
from qidbayes.cli import cli

project = "qidbayes"
author = copyright = "The qidbayes developers"  # noqa: A001 (Sphinx's name for it)
version = release = __version__

# The source folder is the repository's root, so that links between its pages lead where they lead on a file system.
root_doc = "docs/index"
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*", "benchmarks/README.md", "measurements/README.md",
    "measurements/*/README.md",
]  # fmt: skip
exclude_patterns = [".*", "demo", "dist", "docs/site", "tests", "qidbayes", "checks"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
default_role = "code"  # docstrings quote code as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 90
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"qidbayes {version}"
html_static_path = ["calculator"]  # of the front page

_WIDTH = 86  # of a line that needs no scrolling


class CommandLineHelp(Directive):
    """A section for each command, with what its `--help` prints."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        root = cli.make_context("qidbayes", [], resilient_parsing=True, terminal_width=_WIDTH)
        contexts = [root]
        for name in cli.list_commands(root):
            command = cli.get_command(root, name)
            contexts.append(command.make_context(name, [], root, resilient_parsing=True, terminal_width=_WIDTH))
        found: list[nodes.Node] = []
        for context in contexts:
            section = nodes.section(ids=[nodes.make_id(context.command_path)], names=[context.command_path])
            section += nodes.title(text=context.command_path)
            section += nodes.literal_block(text=context.get_help(), language="text")
            found.append(section)
        return found


def calculator(app: Sphinx, page: str, *_: object) -> None:
    """Bring the calculator to the front page, and to no other."""
    if page == root_doc:
        app.add_css_file("calculator.css")
        for name in ("grid.js", "calculator.js"):
            app.add_js_file(name, loading_method="defer")


def setup(app: Sphinx) -> None:
    """Make the directive and the calculator known."""
    app.add_directive("command-line-help", CommandLineHelp)
    app.connect("html-page-context", calculator)
