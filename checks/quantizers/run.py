"""Compare our quantizers and readers with the libraries': `python run.py CACHE`; writes results.csv beside itself.

CACHE holds an environment per oracle (`environments.py` builds them), the two models, what the oracles wrote and what
was measured; what is there already is not made again.
"""

# ruff: noqa: S603, T201
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from compare import ORACLES, Row, check_files, check_qid, check_solver, our_qid
from evaluate import read_tokens
from prepare import MODELS, prepare
from safetensors.torch import save_file

HERE = Path(__file__).parent
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
        done = subprocess.run([python, script, path], stdout=log, stderr=log, env=environment, check=False)
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


def save_bitsandbytes(cache: Path, model: str) -> None:
    """Files of every format of bitsandbytes, unless they are there."""
    out = cache / "written" / "bitsandbytes" / model
    if out.exists():
        return
    settings: dict[str, dict] = {"int8": {"load_in_8bit": True}}
    for kind in ("nf4", "fp4"):
        four = {"load_in_4bit": True, "bnb_4bit_quant_type": kind}
        settings |= {kind: four, f"{kind}-nested": four | {"bnb_4bit_use_double_quant": True}}
    job = {"label": model, "model": str(cache / "models" / model), "out": str(out), "settings": settings}
    call("bitsandbytes", cache, job)


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
        for oracle, (dtype, true_sequential) in ORACLES.items():
            kept = cache / "ours" / f"{model}-{str(dtype).removeprefix('torch.')}-{true_sequential}.json"
            ours = our_qid(folder, tokens, SETTINGS, dtype, true_sequential, kept)
            rows += check_qid(oracle, model, folder, tokens[1], losses(cache, oracle, model), ours)
            rows += check_files(oracle, model, written / oracle / model, dtype)
        save_bitsandbytes(cache, model)
        rows += check_files("bitsandbytes", model, written / "bitsandbytes" / model, torch.float32)
    with (HERE / "results.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, fieldnames=Row.__annotations__, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    short = [row for row in rows if row["agrees"] != "yes"]
    print(f"{len(rows) - len(short)} of {len(rows)} comparisons agree")
    for row in short:
        print(*row.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
