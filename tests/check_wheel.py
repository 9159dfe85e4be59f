"""Install a built wheel in an empty environment, in another folder, and ask it: `make wheel`."""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(wheel: Path) -> None:
    """Fit `pythia` and ask for numbers with nothing but the wheel and what it depends on."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        python = f"{folder}/venv/bin/python"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", str(wheel)],
            check=True,
        )

        def qidbayes(*arguments: str) -> str:
            command = [f"{folder}/venv/bin/qidbayes", *arguments]
            return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

        home = subprocess.run(
            [python, "-c", "import qidbayes; print(qidbayes.__file__)"],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert home.startswith(folder), f"the wheel is not what was imported: {home}"
        missing = subprocess.run([python, "-c", "import torch"], cwd=folder, capture_output=True).returncode
        assert missing, "the modelling half must install without torch"
        refused = subprocess.run(
            [f"{folder}/venv/bin/qidbayes", "measure", "tiny"], cwd=folder, capture_output=True, text=True
        )
        assert (refused.returncode, refused.stdout) == (2, ""), refused
        assert refused.stderr.startswith("qidbayes: measuring needs torch"), refused.stderr
        qidbayes("fit", "pythia", "--law", "unified", "--seed", "0")
        beta = next(
            row for row in json.loads(qidbayes("summary", "unified.nc", "--format", "json")) if row["name"] == "beta"
        )
        assert 0.44 < beta["median"] < 0.50, beta
        qidbayes("report", "unified.nc", "-o", "report.html")  # its style and script are files of the package
        assert "class WhatIf" in Path(folder, "report.html").read_text(encoding="utf-8")
        table = list(csv.DictReader(qidbayes("tokens", "--published", "per-bit", "--format", "csv").splitlines()))
        # Table 1: 1B parameters, 4 bits, 0.2 nats: 1442.4B tokens.
        assert abs(float(table[2]["tokens"]) / 1442.4e9 - 1) < 2e-3, table[2]
    print(f"{wheel.name}: installed, fitted and asked in an empty environment")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
