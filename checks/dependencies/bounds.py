"""Install the lowest version that every bound allows, and run the quick tests there: `make check-bounds`.

    python checks/dependencies/bounds.py FOLDER      # an environment is made in it: some minutes and 2 GB

The modelling half only: the bounds of the extra `measure` need PyTorch at its lowest, gigabytes that many indexes no
longer have.
"""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# Of each room what needs little time; together they import every dependency.
TESTS = ("tests/table", "tests/law", "tests/posterior", "tests/infer/test_least_squares.py",
         "tests/infer/test_jax_log_density.py", "tests/plots/test_plot_qid.py")  # fmt: skip


def lowest() -> list[str]:
    """Return every direct dependency at its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = []
    for line in project["dependencies"]:
        need = Requirement(line)
        (bound,) = [one.version for one in need.specifier if one.operator == ">="]
        found.append(f"{need.name}=={bound}")
    return found


def main(folder: Path) -> int:
    """Make the environment and run the tests in it."""
    venv.create(folder, with_pip=True, clear=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *lowest(), "pytest", "hypothesis"], check=True)
    subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
    print(*lowest())
    # Without the doctests of the whole package, some of which need torch.
    return subprocess.run([python, "-m", "pytest", "-o", "addopts=-q", *TESTS], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
