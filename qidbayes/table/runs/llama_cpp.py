"""Logs of llama.cpp's `llama-perplexity`: a perplexity, or with ``--kl-divergence`` the comparison with a base model.

The loss of a chunk of n_ctx tokens is the mean over its second half: n_ctx − 1 − ⌊n_ctx/2⌋ predicted tokens, each from
at least half a chunk before it. The program prints the perplexity of all chunks so far after each, ``[1]5.1234,``, with
four decimals, from which the chunks' own losses follow.
"""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError
from qidbayes.methods import GGUF, Quantization, gguf_type
from qidbayes.model_names import read_name
from qidbayes.table.runs.run import Parts, Run

_MOST = 64 * 2**20  # bytes
_LONGEST = 2**20  # characters of a line: the perplexities of 60,000 chunks are one
_NUMBER = r"(-?[0-9]+(?:\.[0-9]+)?)"
_ERROR = r"[^0-9\s]{1,4} +"  # "±", "+/-" as some consoles have it, or what a wrong encoding makes of it
_LOADED = re.compile(r"loaded meta data with .{0,80} tensors from (.{1,1000}?)(?: \(version|$)")
_CALLED = re.compile(r"llama-perplexity\b(?=.{0,1000}? (?:-m|--model)[ =])")
_GIVEN = re.compile(r" (-m|--model|-f|--file|--kl-divergence-base)[ =]([^ ]{1,1000})")
_PART = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")  # of a model in several files
_WIKITEXT = re.compile(r"wiki\.test(?:\.raw|\.txt)?", re.I)  # what llama.cpp's own script calls WikiText-2's test set
_KEY = re.compile(r"kv +[0-9]+: +([a-z0-9_.]+) +[a-z0-9\[\],]+ += (.{1,300})")
_TYPE = re.compile(r"(?:file type|model ftype|ftype) +=? ?=? (.{1,80})$")
_RATE = re.compile(r"(?:file|model) size +=.{0,80}\(([0-9.]{1,8}) BPW\)")
_CHUNKS = re.compile(r"(?:calculating perplexity|computing) over ([0-9]{1,7}) chunks(?:, n_ctx=([0-9]{1,8}))?")
_CONTEXT = re.compile(r"\bn_ctx +=? *([0-9]{1,8})\b")
_CHUNK = re.compile(r"\[([0-9]{1,7})\]([0-9]{1,8}\.[0-9]{1,8}),")
_FINAL = re.compile(rf"Final estimate: PPL = {_NUMBER} \+/- {_NUMBER}")
_STATISTICS = {
    "ppl": re.compile(rf"Mean PPL\(Q\) +: +{_NUMBER}"),
    "ppl_base": re.compile(rf"Mean PPL\(base\) +: +{_NUMBER}"),
    "ratio": re.compile(rf"Mean ln\(PPL\(Q\)/PPL\(base\)\) +: +{_NUMBER} {_ERROR}{_NUMBER}"),
    "mean_kld": re.compile(rf"Mean +KLD: +{_NUMBER}"),
    "same_top": re.compile(rf"Same top p: +{_NUMBER}"),
}
_BUILD = re.compile(r"\bbuild: ([0-9]{1,8}) \(([0-9a-f]{4,40})\)")
_ENDED = 1e-4  # nats: how near the last chunk's perplexity is to the final one
_SIZE = re.compile(r"[0-9.x]{1,8}[bm]", re.I)
_GENERIC = {"", "model", "ggml-model", "ggml", "main", "default"}


@dataclass
class _State:
    """What a log has said so far of the run that goes on."""

    path: str = ""
    text: str = ""
    base: str = ""
    named: str = ""
    settings: tuple[str, ...] = ()
    kind: str = ""
    rate: float | None = None
    build: str = ""
    chunks: int | None = None
    context: int | None = None
    perplexities: dict[int, float] = field(default_factory=dict)
    statistics: dict[str, tuple[float, ...]] = field(default_factory=dict)


def read_log(path: Path) -> list[Run]:
    """Return the runs of a log, in their order: those that ended.

    Raises
    ------
    InputError
        If it is no such log, or no run in it ended.
    """
    content = read_bounded(path, _MOST, "a log of llama-perplexity")
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # what PowerShell's > writes
    text = content.decode("utf-16" if wide else "utf-8", "replace")
    runs: list[Run] = []
    state = _State()
    for line in text.splitlines():
        line = line[:_LONGEST]
        if match := _CALLED.search(line):  # a shell says what it runs
            _finish_comparison(state, path, runs)
            state = _called(line[match.start() :], state.build)
        elif match := _LOADED.search(line):
            _finish_comparison(state, path, runs)
            same = match[1] == state.path
            state = _State(
                path=match[1], text=state.text if same else "", base=state.base if same else "", build=state.build
            )
        elif match := _CHUNKS.search(line):
            _finish_comparison(state, path, runs)
            context = int(match[2]) if match[2] else state.context
            state.chunks, state.context = int(match[1]), context
            state.perplexities, state.statistics = {}, {}
        elif match := _FINAL.search(line):
            runs.append(_perplexity(state, float(match[1]), path))
            state.perplexities = {}
        else:
            if _STATISTICS["ppl"].search(line):
                _finish_comparison(state, path, runs)
            _note(state, line)
    _finish_comparison(state, path, runs)
    if not runs:
        raise InputError(
            f"{path}: no 'Final estimate: PPL' and no 'Mean ln(PPL(Q)/PPL(base))' in it; give the whole log of a "
            "llama-perplexity that ended, with what it writes to stderr (2>&1)"
        )
    return runs


def _called(command: str, build: str) -> _State:
    """Return what a command says of the run that it starts."""
    given = {name.lstrip("-")[0]: value.strip("`'\"") for name, value in _GIVEN.findall(command)}
    return _State(path=given.get("m", ""), text=given.get("f", ""), base=given.get("k", ""), build=build)


def _note(state: _State, line: str) -> None:
    """Keep what a line says of the model or the run."""
    if match := _KEY.search(line):
        if match[1] == "general.name":
            state.named = match[2].strip()
        elif match[1] == "quantize.imatrix.file":
            state.settings = ("imatrix",)
        elif match[1] == "quantize.imatrix.dataset" and state.settings:
            state.settings = (f"imatrix {match[2].strip().rpartition('/')[2]}",)
    elif match := _TYPE.search(line):
        state.kind = match[1].strip()
    elif match := _RATE.search(line):
        state.rate = float(match[1]) if match[1].replace(".", "", 1).isdigit() else None
    elif match := _BUILD.search(line):
        state.build = f" b{match[1]}"
    elif state.chunks is None and (match := _CONTEXT.search(line)):
        state.context = int(match[1])
    for chunk, perplexity in _CHUNK.findall(line):
        state.perplexities[int(chunk)] = float(perplexity)
    for name, pattern in _STATISTICS.items():
        if match := pattern.search(line):
            state.statistics[name] = tuple(float(number) for number in match.groups())


def _run(state: _State, path: Path) -> Run:
    known = state.path.replace("\\", "/").rpartition("/")[2]
    known = _PART.sub("", known.removesuffix(".gguf")).removesuffix(".gguf")
    stem, quantization = read_name(known)
    if stem in _GENERIC and state.named and not _SIZE.fullmatch(state.named):
        known, (stem, further) = state.named, read_name(state.named)
        quantization = quantization if quantization.method else further
    if stem in _GENERIC and state.path:  # pythia/2.8B/ggml-model-f16.gguf
        folders = [part for part in state.path.replace("\\", "/").split("/")[:-1] if part not in ("", ".", "..")]
        known = stem = "-".join(folders[-2:]) or stem
    if stem in _GENERIC:  # newer versions print no more of the model than its numbers
        name = path.name.removesuffix(path.suffix)
        known, (stem, further) = name, read_name(name)
        quantization = quantization if quantization.method else further
    if state.kind:
        quantization = _of_type(state.kind, quantization)
    settings = ", ".join(dict.fromkeys((*filter(None, quantization.settings.split(", ")), *state.settings)))
    text = state.text.replace("\\", "/").rpartition("/")[2]
    tokens = None
    if state.chunks and state.context and state.context > 2:
        tokens = state.chunks * (state.context - 1 - state.context // 2)
    return Run(
        file=str(path), program=f"llama.cpp{state.build}", model=known, stem=stem,
        quantization=replace(quantization, settings=settings, bits_per_weight=_rate(state, quantization)),
        dataset="wikitext2" if _WIKITEXT.fullmatch(text) else text.partition(".")[0], seq_len=state.context,
        n_eval_tokens=tokens, base=state.base,
    )  # fmt: skip


def _of_type(kind: str, named: Quantization) -> Quantization:
    try:
        found = gguf_type(kind)
    except InputError:
        return named
    besides = [part for part in named.settings.split(", ") if part and not GGUF.fullmatch(part)]
    return replace(found, settings=", ".join(filter(None, [found.settings, *besides])))


def _rate(state: _State, quantization: Quantization) -> float | None:
    return quantization.bits_per_weight or (state.rate if state.rate and 0 < state.rate < 33 else None)


def _perplexity(state: _State, final: float, path: Path) -> Run:
    if not final > 1:
        raise InputError(f"{path}: a perplexity of {final:g}; it must be above 1")
    found, loss = _run(state, path), math.log(final)
    count = len(state.perplexities)
    cumulative = np.array([state.perplexities.get(chunk, math.nan) for chunk in range(1, count + 1)])
    parts = None
    if count > 1 and (cumulative > 1).all() and abs(math.log(cumulative[-1]) - loss) < _ENDED:
        total = np.arange(1, count + 1) * np.log(cumulative)
        parts = Parts(tuple(map(str, range(count))), np.diff(total, prepend=0.0), np.ones(count))
    return replace(found, loss=loss, parts=parts)


def _finish_comparison(state: _State, path: Path, runs: list[Run]) -> None:
    """Add a comparison with a base model that the log has told whole."""
    if "ratio" not in state.statistics or "ppl" not in state.statistics:
        return
    said, state.statistics = state.statistics, {}
    ratio, error = said["ratio"]
    # Its base is printed, or follows from the ratio.
    base = said["ppl_base"][0] if "ppl_base" in said else said["ppl"][0] * math.exp(-ratio) if abs(ratio) < 100 else 0.0
    if not base > 1:
        raise InputError(f"{path}: a base model's perplexity of {base:g}; it must be above 1")
    further = {"mean_kld": said["mean_kld"][0]} if "mean_kld" in said else {}
    if "same_top" in said:
        further["same_top"] = said["same_top"][0] / 100
    loss = math.log(base)
    runs.append(replace(_run(state, path), loss_16bit=loss, qid=ratio, qid_se=abs(error), further=further))
