"""Results of EleutherAI's lm-evaluation-harness: ``results_….json``, and the samples that it writes beside them.

Its perplexities are of words and of bytes: bits per byte = −Σ log₂ p / bytes. In nats per token a loss is
bits per byte · ln 2 · bytes / tokens, and the file counts no tokens.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError
from qidbayes.methods import NONE, OF_FILES, SYNONYMS, Quantization
from qidbayes.model_names import read_name
from qidbayes.table.runs.run import Parts, Run

_MOST = 64 * 2**20  # bytes of results
_MOST_SAMPLES = 256 * 2**20
_AGREE = 1e-6  # of the bits per byte: results against their samples
_FLOAT = re.compile("(?:mx|nv)?fp([468])")  # formats whose name says their bits


def read_results(path: Path) -> list[Run]:
    """Return the runs of a results file: one for each task that has bits per byte.

    Raises
    ------
    InputError
        If it is no such file, no task has bits per byte, or the samples beside it are of another run.
    """
    where = str(path)
    document = _json(read_bounded(path, _MOST, "lm-eval's results"), where)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict):
        raise InputError(f"{where}: not lm-eval's results; give a results_….json, which has a part 'results'")
    name, revision, quantization, stem = _model(document)
    version = document.get("lm_eval_version")
    program = f"lm-eval {version}" if isinstance(version, str) else "lm-eval"
    length = document.get("max_length")
    found = []
    for task, metrics in results.items():
        rate = _bits_per_byte(metrics)
        if rate is None:
            continue
        run = Run(
            file=where, program=program, model=name, stem=stem, quantization=quantization, dataset=task,
            revision=revision, seq_len=length if _is_count(length) else None, bits_per_byte=rate,
        )  # fmt: skip
        found.append(_with_samples(run, path, task))
    if not found:
        raise InputError(
            f"{where}: no task has bits_per_byte or byte_perplexity; run one that sums the loss over a text, such as "
            "wikitext"
        )
    return found


def _json(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({str(error)[:200]}); give lm-eval's results_….json") from error


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _bits_per_byte(metrics: object) -> float | None:
    """Return a task's bits per byte, whose names carry a filter's after a comma since version 0.4."""
    if not isinstance(metrics, dict):
        return None
    for wanted, convert in (("bits_per_byte", float), ("byte_perplexity", math.log2)):
        for name, value in metrics.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if str(name).partition(",")[0] == wanted and number and _in_range(value, wanted):
                return float(convert(value))
    return None


def _in_range(value: float, metric: str) -> bool:
    return (1 if metric == "byte_perplexity" else 0) < value < 1e6


def _model(document: Mapping[str, Any]) -> tuple[str, str, Quantization, str]:
    """Return the model's name, its revision, what was done to it, and its name without that; empty if none is said."""
    config = document.get("config")
    config = config if isinstance(config, dict) else {}
    arguments = _arguments(config.get("model_args"))
    given = [arguments.get("pretrained"), arguments.get("model"), arguments.get("path"), document.get("model_name")]
    name = next((text for text in given if isinstance(text, str) and text.strip()), None)
    if name is None:  # labels may
        return "", "", Quantization(), ""
    name = name.strip().rstrip("/")
    file = arguments.get("gguf_file")
    stem, quantization = read_name(file if isinstance(file, str) and file else name)
    revision = str(arguments.get("revision") or "main")
    rest, told = read_name(revision)
    if not rest:  # a branch that says how it was quantized, as many repositories have them
        settings = ", ".join(filter(None, (quantization.settings, told.settings)))
        quantization = replace(
            quantization,
            method=told.method or quantization.method,
            bits=told.bits or quantization.bits,
            group_size=told.group_size or quantization.group_size,
            settings=settings,
        )
    revision = "" if revision == "main" or not rest else revision
    quantization = _from_arguments(arguments, quantization)
    # A commit of the hub tells that the name is a repository's, and who made it.
    owner = name.partition("/")[0] if config.get("model_sha") and "/" in name else ""
    if owner and quantization.method not in ("", NONE):
        settings = f"{owner}/{quantization.settings}"  # as the atlas names who made a file
        if quantization.method != OF_FILES:
            settings = ", ".join(part for part in (quantization.settings, f"by {owner}") if part)
        quantization = replace(quantization, settings=settings)
    if not quantization.method and quantization.bits is None:
        quantization = Quantization(method=NONE, bits=16.0)
    shown = name if config.get("model_sha") else name.rpartition("/")[2]
    return shown, revision, quantization, stem


def _arguments(given: object) -> dict[str, Any]:
    """Return the model's arguments, which are a text of ``name=value`` pairs in versions before 0.4.9."""
    if isinstance(given, dict):
        return {str(name): value for name, value in given.items()}
    if not isinstance(given, str):
        return {}
    pairs = (part.partition("=") for part in given.split(","))
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}


def _from_arguments(arguments: Mapping[str, Any], named: Quantization) -> Quantization:
    def on(name: str) -> bool:
        return str(arguments.get(name, "")).lower() not in ("", "false", "none", "0")

    if on("load_in_4bit"):
        kind = str(arguments.get("bnb_4bit_quant_type", "fp4")).lower()
        return replace(named, method="bnb-nf4" if kind == "nf4" else "bnb-fp4", bits=4.0)
    if on("load_in_8bit"):
        return replace(named, method="bnb-int8", bits=8.0)
    if on("autogptq") or on("gptqmodel"):
        return replace(named, method="gptq")
    if not on("quantization"):
        return named
    # What vLLM and torchao are told. A run must not count as 16 bits only because its bits are not said.
    kind = str(arguments["quantization"]).lower().split("_")[0]
    if form := _FLOAT.fullmatch(kind):
        return replace(named, method=kind, bits=float(form[1]))
    return replace(named, method=kind if kind in ("awq", "gptq") else named.method or SYNONYMS.get(kind, kind))


def _with_samples(run: Run, results: Path, task: str) -> Run:
    """Return a run with the losses of its documents, if its samples lie beside the results."""
    stamp = results.stem.removeprefix("results")
    path = results.with_name(f"samples_{task}{stamp}.jsonl") if "/" not in task and "\0" not in task else None
    try:
        if path is None or len(path.name.encode(errors="replace")) > 255 or not path.is_file():
            return run
    except (OSError, ValueError):
        return run
    names, nll, size, texts = [], [], [], []
    for number, sample in enumerate(_samples(path), start=1):
        pair = _pair(sample.get("bits_per_byte", sample.get("byte_perplexity")))
        if pair is None:
            raise InputError(
                f"{path}: line {number}: no log-likelihood and bytes (byte_perplexity); lm-eval's --log_samples "
                "writes them"
            )
        names.append(f"{sample.get('doc_id')} {sample.get('doc_hash', sample.get('target_hash'))}")
        nll.append(-pair[0])
        size.append(pair[1])
        texts.append(sample.get("target"))
    total = float(np.sum(size)) if size else 0.0
    rate = float(np.sum(nll)) / total / math.log(2) if total else math.nan
    assert run.bits_per_byte is not None
    if not abs(rate - run.bits_per_byte) <= _AGREE * run.bits_per_byte:
        raise InputError(
            f"{path}: the samples have {rate:.6g} bits per byte where {results.name} says {run.bits_per_byte:.6g}; "
            "they are of another run: move one of them"
        )
    whole = tuple(text for text in texts if isinstance(text, str))
    return replace(
        run,
        n_eval_bytes=round(total),
        parts=Parts(tuple(names), np.array(nll), np.array(size)),
        texts=whole if len(whole) == len(texts) else (),
    )


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    content = read_bounded(path, _MOST_SAMPLES, "lm-eval's samples")
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            sample = _json(line, f"{path}: line {number}")
            if not isinstance(sample, dict):
                raise InputError(f"{path}: line {number}: not a sample of lm-eval's")
            yield sample


def _pair(given: object) -> tuple[float, float] | None:
    """Return a document's log-likelihood and its bytes."""
    if not isinstance(given, list) or len(given) != 2:
        return None
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return None
    return (float(given[0]), float(given[1])) if -1e15 < given[0] <= 0 and 0 < given[1] < 1e15 else None
