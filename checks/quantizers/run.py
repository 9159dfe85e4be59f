"""Compare our quantizers and readers with the libraries': `python run.py CACHE`; writes results.csv beside itself.

CACHE holds an environment per oracle (`environments.py` builds them), the two models, what the oracles wrote and what
was measured; what is there already is not made again.
"""

# ruff: noqa: S603, T201
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from compare import check_files, check_solver
from compare_loss import DTYPES, check_awq, check_perplexity, check_plain_loop
from compare_qid import ORACLES, check_qid, our_qid
from compare_steps import check_steps
from evaluate import read_tokens
from prepare import LENGTH, MODELS, TOKENIZER, evaluation_page, prepare
from safetensors.torch import save_file
from table import Row, write_table

from qidbayes.measure.decoder import hessian, layers
from qidbayes.measure.quantize import factorize, gptq, grid

HERE = Path(__file__).resolve().parent
DAMPING = 0.01
SETTINGS = {
    f"{bits}-{group or 'channel'}-{'sym' if symmetric else 'asym'}": {
        "bits": bits,
        "group_size": group,
        "symmetric": symmetric,
        "damping": DAMPING,
    }
    for bits in (2, 3, 4)
    for group in (64, 128, None)
    for symmetric in (True, False)
}


def call(oracle: str, cache: Path, job: dict) -> None:
    """Run an oracle's script in its environment. One that dies leaves fewer losses, which the table says."""
    cache.joinpath("jobs").mkdir(exist_ok=True)
    path = cache / "jobs" / f"{oracle}-{job['label']}.json"
    path.write_text(json.dumps(job))
    with path.with_suffix(".log").open("w") as log:
        python = cache / oracle / "bin" / "python"
        environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
        script = HERE / f"oracle_{oracle.replace('-', '_')}.py"
        done = subprocess.run([python, script, path], stdout=log, stderr=log, env=environment, cwd=cache, check=False)
    if done.returncode:
        print(f"{oracle} ended with status {done.returncode} on {job['label']}; see {path.with_suffix('.log')}")


def losses(cache: Path, oracle: str, model: str) -> dict[str, dict]:
    """An oracle's answers on one model by setting, run now for the settings that have none."""
    path = cache / "losses" / f"{oracle}-{model}.jsonl"
    path.parent.mkdir(exist_ok=True)

    def read() -> dict[str, dict]:
        lines = path.read_text().splitlines() if path.exists() else []
        return {answer["name"]: answer for answer in map(json.loads, lines)}

    known = read()
    missing = {name: setting for name, setting in SETTINGS.items() if name not in known}
    if missing:
        job = {
            "task": "end_to_end",
            "label": model,
            "model": str(cache / "models" / model),
            "tokens": str(cache / "models" / f"{model}.tokens"),
            "out": str(cache / "written" / oracle / model),
            "losses": str(path),
            "settings": missing,
        }
        call(oracle, cache, job)
    return read()


def bitsandbytes_formats(cache: Path, model: str) -> list[str]:
    """Have bitsandbytes write a file of each of its formats, unless they are there; return their names."""
    out = cache / "written" / "bitsandbytes" / model
    settings: dict[str, dict] = {"int8": {"load_in_8bit": True}}
    for kind in ("nf4", "fp4"):
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": kind}
        settings |= {kind: four, f"{kind}-nested": four | {"bnb_4bit_use_double_quant": True}}
    if not out.exists():
        job = {"label": model, "model": str(cache / "models" / model), "out": str(out), "settings": settings}
        call("bitsandbytes", cache, job)
    return list(settings)


def score_page(cache: Path, page: str) -> Path:
    """Have lm-eval score a text, unless it has; return the folder of its answers."""
    out = cache / "written" / "lm-eval"
    if not (out / "answers.json").exists():
        job = {
            "label": "neox",
            "model": str(cache / "models" / "neox"),
            "tokenizer": str(TOKENIZER),
            "page": page,
            "dtypes": list(DTYPES),
            "length": LENGTH,
            "out": str(out),
        }
        call("lm-eval", cache, job)
    return out


def quantizer_digest() -> str:
    """Names the folder of our own measurements, so that a quantizer that has changed is measured again."""
    sources = b"".join(Path(module.__file__).read_bytes() for module in (factorize, gptq, grid, hessian, layers))
    return hashlib.sha256(sources).hexdigest()[:12]


def solver_job(cache: Path) -> dict:
    """Correlated inputs and a weight, for settings with and without act-order."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(256, 256, generator=generator) / 16
    problem = {
        "inputs": torch.randn(2048, 256, generator=generator) @ mix,
        "weight": 0.05 * torch.randn(96, 256, generator=generator),
    }
    save_file(problem, cache / "problem.safetensors")
    settings = {
        f"{name}{'-act' if act_order else ''}": setting | {"act_order": act_order}
        for name, setting in SETTINGS.items()
        for act_order in (False, True)
    }
    return {
        "task": "solve",
        "label": "solve",
        "problem": str(cache / "problem.safetensors"),
        "answers": str(cache / "answers.safetensors"),
        "settings": settings,
    }


def main(cache: Path) -> None:
    """Run what has not been run, and write the table."""
    prepare(cache / "models")
    rows: list[Row] = []
    job = solver_job(cache)
    if not Path(job["answers"]).exists():
        call("gptqmodel", cache, job)
    rows += check_solver(Path(job["problem"]), Path(job["answers"]), job["settings"])
    for model in MODELS:
        folder, written = cache / "models" / model, cache / "written"
        tokens = read_tokens(folder.with_suffix(".tokens"))
        for name, oracle in ORACLES.items():
            own = cache / "ours" / quantizer_digest()
            answers = losses(cache, name, model)
            ours = our_qid(folder, tokens, SETTINGS, oracle, own / f"{model}-{name}.json")
            rows += check_qid(name, model, folder, tokens[1], answers, ours)
            steps = own / f"{model}-{name}.steps.json"
            rows += check_steps(name, model, folder, tokens[0], written / name / model, SETTINGS, steps)
            if name != "llmcompressor":  # its files are in no format that we read
                rows += check_files(name, model, written / name / model, list(SETTINGS), oracle.dtype)
        formats = bitsandbytes_formats(cache, model)
        rows += check_files("bitsandbytes", model, written / "bitsandbytes" / model, formats, torch.float32)
        rows += check_plain_loop(model, folder)
    rows += check_awq(cache / "models" / "neox")
    page = evaluation_page()
    rows += check_perplexity(cache / "models" / "neox", page, score_page(cache, page))
    write_table(rows, HERE / "results.csv")
    short = [row for row in rows if row["agrees"] != "yes"]
    print(f"{len(rows) - len(short)} of {len(rows)} comparisons agree")
    for row in short:
        print(*row.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
