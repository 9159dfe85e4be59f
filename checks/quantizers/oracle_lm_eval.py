"""Runs inside lm-eval's environment: `python oracle_lm_eval.py JOB.json`. See `run.py` for the jobs.

The task is the library's own wikitext, told to read one local page instead of downloading WikiText-2.
"""

import json
import sys
from pathlib import Path

import lm_eval.tasks
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM


def local_wikitext(folder: Path, page: str) -> Path:
    """Write the page and a task that includes the library's, and return the task's file."""
    (folder / "page.json").write_text(json.dumps({"page": page}))
    task = {
        "include": str(Path(lm_eval.tasks.__file__).parent / "wikitext" / "wikitext.yaml"),
        "task": "wikitext_page",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(folder / "page.json")}},
        "training_split": None,
        "validation_split": None,
    }
    path = folder / "page.yaml"
    path.write_text(json.dumps(task))  # which is YAML too
    return path


def perplexities(job: dict) -> None:
    """Word perplexity per dtype, and the text that was scored: the task undoes WikiText's spacing before it does."""
    folder = Path(job["out"])
    folder.mkdir(parents=True, exist_ok=True)
    task = local_wikitext(folder, job["page"])
    answers = {}
    for dtype in job["dtypes"]:
        model = HFLM(
            pretrained=job["model"],
            tokenizer=job["tokenizer"],
            dtype=dtype,
            softmax_dtype="float32",
            device="cpu",
            batch_size=8,
            max_length=job["length"],
        )
        found = simple_evaluate(model, tasks=[str(task)], log_samples=True, bootstrap_iters=0)
        (sample,) = found["samples"]["wikitext_page"]
        answers[dtype] = found["results"]["wikitext_page"]["word_perplexity,none"]
    (folder / "scored.txt").write_text(sample["arguments"][0][0])
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    perplexities(json.loads(Path(sys.argv[1]).read_text()))
