"""llama.cpp's own arithmetic beside what is measured of its files: losses of one text by both.

    pip install llama-cpp-py-sync==0.11739
    python benchmarks/llama_cpp.py demo/real benchmarks/llama_cpp.csv

The folder holds SmolLM2-135M-Instruct as `make demo-real` unpacks it. llama.cpp's library quantizes the file to each
type and evaluates it on a CPU. The same file is read and dequantized here, and evaluated by transformers in float32 on
the same tokens. llama.cpp also rounds what goes into each matrix, to 8 bits. Types that the table has are passed over.
"""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from qidbayes.measure.prequantized.gguf import load_gguf
from qidbayes.resources import shipped

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
TYPES = {"F16": 1, "Q8_0": 7, "Q4_1": 3, "Q4_K_M": 15, "Q4_0": 2}  # as llama.cpp numbers them
WINDOWS, LENGTH = 8, 128


def quantize(source: Path, kind: str, out: Path) -> Path:
    """Have llama.cpp write a file again as another type."""
    from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib

    if not out.exists():
        ffi, lib = get_ffi(), get_lib()
        params = ffi.new("llama_model_quantize_params *", lib.llama_model_quantize_default_params())
        params.ftype, params.nthread, params.allow_requantize = TYPES[kind], 1, True
        part = out.with_suffix(".part")
        if lib.llama_model_quantize(str(source).encode(), str(part).encode(), params):
            sys.exit(f"{kind}: llama.cpp did not quantize it")
        part.rename(out)
    return out


def by_llama_cpp(path: Path, windows: np.ndarray) -> np.ndarray:
    """Return the losses of tokens (nats), `[windows, length]`, by llama.cpp on a CPU."""
    from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib

    ffi, lib = get_ffi(), get_lib()
    asked = lib.llama_model_default_params()
    asked.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(str(path).encode(), asked)
    size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    losses = []
    for window in windows:
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = LENGTH
        params.n_threads = params.n_threads_batch = 1
        context = lib.llama_init_from_model(model, params)
        batch = lib.llama_batch_init(LENGTH, 0, 1)
        batch.n_tokens = LENGTH
        for i in range(LENGTH):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = int(window[i]), i, 1, 0
            batch.logits[i] = 1
        if lib.llama_decode(context, batch):
            sys.exit(f"{path}: llama.cpp did not evaluate it")
        rows = [np.frombuffer(ffi.buffer(lib.llama_get_logits_ith(context, i), 4 * size), "f4") for i in range(LENGTH)]
        losses.append(token_losses(torch.from_numpy(np.array(rows)), window))
        lib.llama_batch_free(batch)
        lib.llama_free(context)
    lib.llama_model_free(model)
    return np.array(losses)


@torch.no_grad()
def by_transformers(path: Path, windows: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the same of the file as it is read here, and the bits of its matrices' weights."""
    model, read = load_gguf(path, torch.float32)
    losses = [token_losses(model(torch.from_numpy(window[None, :-1])).logits[0], window) for window in windows]
    return np.array(losses), read.bits_per_weight if read.matrices else 16.0


def token_losses(logits: torch.Tensor, window: np.ndarray) -> np.ndarray:
    """Return the losses of a window's tokens but the first, from the logits before each."""
    wanted = torch.from_numpy(window[1:])
    losses: np.ndarray = torch.nn.functional.cross_entropy(logits.double(), wanted, reduction="none").numpy()
    return losses


def main(folder: Path, table: Path) -> None:
    """Add the types that the table lacks."""
    from llama_cpp_py_sync import __llama_cpp_tag__

    done = list(csv.DictReader(table.open(newline=""))) if table.exists() else []
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    text = (shipped("measurements") / "tiny" / "evaluation.txt").read_text(encoding="utf-8")
    ids = np.array(tokenizer(text[:20_000]).input_ids)[: WINDOWS * (LENGTH + 1)].reshape(WINDOWS, LENGTH + 1)
    for kind in TYPES.keys() - {row["type"] for row in done}:
        path = folder / FILE if kind in FILE else quantize(folder / FILE, kind, folder / f"llama-cpp-{kind}.gguf")
        theirs = by_llama_cpp(path, ids)
        ours, bits = by_transformers(path, ids)
        apart = (theirs - ours).mean(axis=1)
        row = {
            "type": kind, "bits_per_weight": round(bits, 3), "tokens": ours.size, "loss": round(float(ours.mean()), 5),
            "loss_llama_cpp": round(float(theirs.mean()), 5), "apart": round(float(apart.mean()), 5),
            "apart_se": round(float(apart.std(ddof=1)) / math.sqrt(WINDOWS), 5),
            "apart_rms": round(float(np.sqrt(np.square(theirs - ours).mean())), 4), "llama_cpp": __llama_cpp_tag__,
        }  # fmt: skip
        print(row, flush=True)
        done = sorted([*done, row], key=lambda row: list(TYPES).index(str(row["type"])))
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(done)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
