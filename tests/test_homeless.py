"""A user without a home, as in some containers: no folder called ``~`` wherever the program runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys
import jax
from click.testing import CliRunner
from qidbayes import InputError
from qidbayes.cli import cli
from qidbayes.cli.measure import measure
from qidbayes.infer.jax_settings import kept_on_disk
from qidbayes.measure import load_plan
from qidbayes.measure.plan import shard
from qidbayes.measure.storage.object_store import Bucket
from qidbayes.resources import cache_folder
jax.devices()
os.setgroups([])
os.setuid(54321)  # nobody's number
assert os.path.expanduser("~") == "~"
assert cache_folder() is None
with kept_on_disk():
    print(jax.config.jax_compilation_cache_dir)
for ask in (lambda: Bucket("s3://a/b", store=object()), lambda: cli(["measure", "tiny"], standalone_mode=False)):
    try:
        ask()
    except InputError as error:
        print(error)
os.environ["XDG_CACHE_HOME"] = "/somewhere"
print(cache_folder())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
def test_nothing_is_kept_in_a_folder_called_tilde(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    homeless = ("HOME", "XDG_CACHE_HOME", "HF_HOME", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in homeless}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "None",
        "s3://a/b: this user has no home to keep its files in meanwhile; set XDG_CACHE_HOME",
        "this user has no home: the hub's files would come into a folder called ~ here; set HF_HOME",
        "/somewhere/qidbayes",
    ]
    assert list(tmp_path.iterdir()) == []
