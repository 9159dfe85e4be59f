"""Make the two small decoders that the oracles are compared on: `python prepare.py FOLDER`.

The GPT-NeoX is one of the checkpoints that ship with the package. The Llama is trained here, on the text of the
standard library's docstrings, byte by byte: some minutes on one core. Models that learned nothing would show nothing:
noise survives any rounding.
"""

# ruff: noqa: T201
import importlib
import inspect
import pkgutil
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

MODELS = ("neox", "llama")
TINY = Path(__file__).parents[2] / "measurements" / "tiny"
TOKENIZER = TINY / "tokenizer"
NEOX = TINY / "checkpoints" / "128x3" / "step16384"
LLAMA = LlamaConfig(
    vocab_size=256,
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=256,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
STEPS, BATCH, PEAK = 1000, 16, 3e-3
WINDOWS, LENGTH = 64, 256  # calibration and evaluation: as many of each
PACKAGES = ("asyncio", "collections", "concurrent", "email", "http", "json", "logging", "multiprocessing", "unittest")
WITH_EFFECTS = {
    "antigravity",
    "this",
    "idlelib",
    "test",
    "tkinter",
    "turtle",
    "turtledemo",
}  # on being imported


def docstrings() -> Tensor:
    """The docstrings of the standard library's modules, classes and functions, each once, as bytes."""
    names = sorted(sys.stdlib_module_names - WITH_EFFECTS)
    for package in PACKAGES:
        names += [f"{package}.{m.name}" for m in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    names = [name for name in names if not name.split(".")[-1].startswith("_")]
    texts: dict[str, None] = {}
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError:  # another platform's
            continue
        for owner in [module, *vars(module).values()]:
            for thing in [owner, *(vars(owner).values() if inspect.isclass(owner) else ())]:
                documented = inspect.isroutine(thing) or inspect.isclass(thing) or thing is module
                text = inspect.getdoc(thing) if documented else None
                if text and len(text) > 60:
                    texts[text] = None
    return torch.tensor(list("\n\n".join(texts).encode("ascii", "ignore")))


def windows(text: Tensor, n: int, length: int, seed: int) -> Tensor:
    """`[n, length]` stretches of the text, from places the seed picks."""
    starts = torch.randint(len(text) - length, (n,), generator=torch.Generator().manual_seed(seed))
    return text[starts[:, None] + torch.arange(length)]


def train_llama(text: Tensor) -> Any:
    """AdamW, one cycle, `STEPS` steps."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(LLAMA).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.05, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        batch = windows(text, BATCH, LENGTH // 2, seed=step)
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"llama, step {step + 1} of {STEPS}: {float(loss):.3f} nats a byte", flush=True)
    return model.eval()


def prepare_neox(folder: Path) -> None:
    """Copy the shipped checkpoint, and cut its shipped texts into windows."""
    shutil.copytree(NEOX, folder / "neox", dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokens = {}
    for split in ("calibration", "evaluation"):
        documents = (TINY / f"{split}.txt").read_text().rstrip("\n").split("\n\n")
        ids = [token for text in documents for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
        tokens[split] = torch.tensor(ids[: WINDOWS * LENGTH]).reshape(WINDOWS, LENGTH)
    save_file(tokens, folder / "neox.tokens")


def evaluation_page() -> str:
    """The shipped evaluation text as one document: a line each of its documents, none blank."""
    documents = (TINY / "evaluation.txt").read_text().split("\n\n")
    return "\n".join(text.strip() for text in documents if text.strip())


def prepare_llama(folder: Path) -> None:
    """Train on nine tenths of the docstrings; evaluate on the last."""
    text = docstrings()
    cut = int(0.9 * len(text))
    train_llama(text[:cut]).save_pretrained(folder / "llama")
    shutil.copytree(TOKENIZER, folder / "llama", dirs_exist_ok=True)  # unused, but gptqmodel asks for one
    tokens = {
        "calibration": windows(text[:cut], WINDOWS, LENGTH, seed=STEPS + 1),
        "evaluation": windows(text[cut:], WINDOWS, LENGTH, seed=STEPS + 2),
    }
    save_file(tokens, folder / "llama.tokens")


def prepare(folder: Path) -> None:
    """Write a folder and a file of windows for each model, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (("neox", prepare_neox), ("llama", prepare_llama)):
        if not (folder / f"{name}.tokens").exists():
            make(folder)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
