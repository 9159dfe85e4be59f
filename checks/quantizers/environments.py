"""Build an environment per oracle: `python environments.py CACHE [--python python3.11]`.

The libraries do not live together, nor all of them with ours: each wants its own torch and transformers. auto-gptq's
newest wheel is for CPython 3.11, so that is the default for all.
"""

# ruff: noqa: S603, T201
import argparse
import subprocess
from pathlib import Path

TORCH = "torch==2.13.0"
# Requirements, then those to install without their own (pins that these versions do not need).
ORACLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "auto-gptq": (
        (TORCH, "transformers==4.53.3", "peft==0.13.2", "accelerate", "datasets", "gekko", "rouge", "sentencepiece"),
        ("auto-gptq==0.7.1",),
    ),
    "gptqmodel": (
        (
            TORCH,
            *("transformers==5.23.0", "accelerate", "datasets", "defuser", "device-smi", "logbar", "ninja", "pillow"),
            *("protobuf", "pypcre", "requests", "setuptools", "threadpoolctl", "tokenicer", "wheel"),
        ),
        ("gptqmodel==7.6.0",),
    ),
    "llmcompressor": ((TORCH, "transformers==5.17.0", "llmcompressor==0.14.0.1"), ()),
    "lm-eval": ((TORCH, "transformers==5.17.0", "accelerate", "lm-eval==0.4.13"), ()),
    "bitsandbytes": ((TORCH, "transformers==5.23.0", "accelerate", "bitsandbytes==0.50.2"), ()),
}


def build(cache: Path, name: str, python: str) -> None:
    """Make one environment, unless a finished one is there."""
    folder = cache / name
    done = folder / "finished"
    if done.exists():
        return
    requirements, bare = ORACLES[name]
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *requirements], check=True)
    if bare:
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", *bare], check=True)
    done.touch()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--python", default="python3.11")
    arguments = parser.parse_args()
    for oracle in ORACLES:
        print(f"{oracle} …", flush=True)
        build(arguments.cache, oracle, arguments.python)
