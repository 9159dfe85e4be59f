"""`checks/arrows.py` finds arrows that go up, and circles."""

import importlib.util
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[1] / "checks" / "arrows.py"
_SPEC = importlib.util.spec_from_file_location("arrows", CHECK)
assert _SPEC and _SPEC.loader
arrows = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(arrows)
problems = arrows.problems

MODULES = {
    "law.law": "from pkg.errors import InputError",
    "table.read": "import pkg.errors",
    "infer.fit": "from pkg.law.law import Law",
    "cli.fit": "from pkg.infer import fit",
}


def package(tmp_path: Path, **changed: str) -> Path:
    """Write a package whose arrows are sound, but for what is changed."""
    root = tmp_path / "pkg"
    for name, text in {"errors": "class InputError: ...", **MODULES, **changed}.items():
        path = root / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        (path.parent / "__init__.py").touch()
    return root


def test_the_package_itself_is_sound() -> None:
    done = subprocess.run([sys.executable, CHECK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "one way: cli > qidbayes > reports > plots > score > decide > infer > posterior > noise" in done.stdout


def test_a_sound_package_has_no_problems(tmp_path: Path) -> None:
    assert problems(package(tmp_path)) == []


@pytest.mark.parametrize(
    ("module", "text", "found"),
    [
        ("law.law", "from pkg.infer.fit import fit", "pkg.law.law imports pkg.infer.fit"),
        ("law.law", "def f():\n    from pkg.infer import fit", "pkg.law.law imports pkg.infer.fit"),
        ("errors", "import pkg.table.read", "pkg.errors imports pkg.table.read"),
        ("infer.fit", "if TYPE_CHECKING:\n    import pkg", "pkg.infer.fit imports pkg"),
        ("measure.run", "import pkg.infer.fit", "pkg.measure.run imports pkg.infer.fit"),
        ("decide.next", "import pkg.measure.run", "pkg.decide.next imports pkg.measure.run"),
    ],
)
def test_an_arrow_that_goes_up(tmp_path: Path, module: str, text: str, found: str) -> None:
    root = package(tmp_path, **{"measure.run": "", module: text})
    assert f"{found}, which is above it" in problems(root)


def test_a_circle_counts_also_where_only_types_are_meant(tmp_path: Path) -> None:
    root = package(
        tmp_path,
        **{
            "law.prior": "from pkg.law.names import A",
            "law.names": "if TYPE_CHECKING:\n    from pkg.law.law import Law",
            "law.law": "from pkg.law.prior import Prior",
        },
    )
    (found,) = problems(root)
    assert found.startswith("a circle of imports: ")
    steps = found.removeprefix("a circle of imports: ").split(" → ")
    follows = {"pkg.law.law": "pkg.law.prior", "pkg.law.prior": "pkg.law.names", "pkg.law.names": "pkg.law.law"}
    assert len(steps) == 4 and all(follows[a] == b for a, b in pairwise(steps))


def test_a_folder_without_a_layer_is_refused(tmp_path: Path) -> None:
    (found,) = problems(package(tmp_path, **{"attic.box": ""}))
    assert found.startswith("attic: a folder without a layer")
