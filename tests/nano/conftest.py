"""The suite's scripts, as modules, and a suite of micro-models in a folder."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

os.environ["OMP_NUM_THREADS"] = "1"  # subprocesses too: sums must not depend on how work was split
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch

from qidbayes.resources import shipped

NANO = shipped("measurements") / "nano"
torch.set_num_threads(1)

MICRO = """
vocabulary = 40
window = 32
batch = 32
peak = 4e-3
final = 0.1
warmup = 4
cooldown = 0.2
first = 100

[[runs]]
width = 64
layers = 1
steps = 200
schedules = ["cosine", "stable"]
seeds = [0]
"""


def _module(name: str) -> ModuleType:
    """A script of the suite; it finds the others as it does when it is run."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, NANO / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def train() -> ModuleType:
    return _module("train")


@pytest.fixture(scope="session")
def suite(train: ModuleType) -> ModuleType:
    return _module("suite")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as train.py wants it: 300 documents of a language of 40 tokens in which each follows from the last."""
    random = np.random.default_rng(0)
    documents = []
    for _ in range(300):
        words = [int(random.integers(1, 40))]
        for _ in range(50):
            words.append(1 + (3 * words[-1] + int(random.integers(0, 3))) % 39)
        documents.append([0, *words])
    (tmp_path / "corpus").mkdir()
    np.concatenate(documents).astype("<u2").tofile(tmp_path / "corpus" / "train.u16")
    (tmp_path / "suite.toml").write_text(MICRO)
    return tmp_path
