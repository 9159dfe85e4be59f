"""`qidbayes params` where PyTorch is missing, and where there is nothing to count."""

import subprocess
import sys
from pathlib import Path

import pytest

# As where PyTorch is not installed: an import of it fails.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from qidbayes.cli import main; main()"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.json: no such file; give a model's config.json, or a folder that has one"),
        ("[]", "config.json: not a config.json; it must hold an object"),
        ('{"model_type": "llama"}', "counting needs torch; pip install 'qidbayes[measure]'"),
    ],
)
def test_it_says_what_is_missing_and_first_what_needs_no_torch(
    tmp_path: Path, config: str | None, message: str
) -> None:
    if config:
        (tmp_path / "config.json").write_text(config)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "params", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
