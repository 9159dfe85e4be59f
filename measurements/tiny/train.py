"""Train the tiny GPT-NeoX checkpoints of this folder: `python train.py TEXT_FOLDER OUT [--device cuda]`.

Each size is one run at a constant learning rate after a short warm-up. At every length that is kept, a branch leaves
the run at 80% of that length and cools down to a tenth of the peak rate, as a run planned for that length would have.
So all checkpoints of a size saw the same data in the same order, and all end at the same learning rate: here, unlike
in one cosine run, the training tokens D do not move together with the learning rate.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

SIZES = {"64x2": (64, 2), "96x2": (96, 2), "128x3": (128, 3)}  # width × layers
STEPS = (1024, 4096, 16384, 65536)
VOCABULARY = 512  # small, so that the weights of these models lie where the quantizers work: outside the embedding
END_OF_TEXT = "<|endoftext|>"
WINDOW, BATCH = 256, 64  # tokens a window and windows a step: 16,384 tokens a step
PEAK, FINAL, WARMUP, COOLDOWN = 4e-3, 0.1, 100, 0.2


def train_tokenizer(text: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> torch.Tensor:
    """One row of tokens: every document, each closed by the end-of-text token."""
    encodings = tokenizer(text.rstrip("\n").split("\n\n"), verbose=False)["input_ids"]
    return torch.tensor([token for ids in encodings for token in [*ids, tokenizer.eos_token_id]])


def new_model(width: int, layers: int) -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
        intermediate_size=4 * width, max_position_embeddings=WINDOW, rotary_pct=0.25, use_parallel_residual=True,
        hidden_dropout=0.0, attention_dropout=0.0, tie_word_embeddings=True, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config)


def batch(tokens: torch.Tensor, step: int) -> torch.Tensor:
    """The windows of one step; the step alone decides them, so a branch reads what the run itself would have."""
    starts = torch.randint(len(tokens) - WINDOW - 1, (BATCH,), generator=torch.Generator().manual_seed(step))
    return tokens[(starts[:, None] + torch.arange(WINDOW + 1)).to(tokens.device)]


def learning_rate(step: int, cooldown_to: int | None) -> float:
    rate = PEAK * min(1.0, (step + 1) / WARMUP)
    if cooldown_to is not None:
        start = round((1 - COOLDOWN) * cooldown_to)
        rate *= 1 - (1 - FINAL) * (step + 1 - start) / (cooldown_to - start)
    return rate


class Run:
    """One model, its optimizer, and the step it has come to."""

    def __init__(self, width: int, layers: int, tokens: torch.Tensor) -> None:
        self.model = new_model(width, layers).to(tokens.device)
        self.tokens = tokens
        self.step = 0
        decay = [p for p in self.model.parameters() if p.ndim == 2]
        other = [p for p in self.model.parameters() if p.ndim != 2]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
        rate = torch.tensor(PEAK, device=tokens.device)  # a tensor: changing it needs no new compilation
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)
        cuda = tokens.device.type == "cuda"
        self.loss = torch.compile(self._loss, mode="reduce-overhead") if cuda else self._loss

    def _loss(self, windows: torch.Tensor) -> torch.Tensor:
        with torch.autocast(windows.device.type, torch.bfloat16):
            logits = self.model(windows[:, :-1]).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())

    def advance(self, to: int, cooldown_to: int | None = None) -> float:
        """Train up to step `to`; returns the last training loss, nats/token."""
        loss = torch.tensor(float("nan"))
        for step in range(self.step, to):
            for group in self.optimizer.param_groups:
                group["lr"].fill_(learning_rate(step, cooldown_to))
            loss = self.loss(batch(self.tokens, step))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.step = to
        return float(loss.detach())

    @torch.no_grad()
    def evaluate(self, tokens: torch.Tensor) -> float:
        """The loss on held-out text, nats/token."""
        windows = tokens[: (len(tokens) - 1) // WINDOW * WINDOW + 1].unfold(0, WINDOW + 1, WINDOW)
        return float(torch.stack([self._loss(some) * len(some) for some in windows.split(BATCH)]).sum() / len(windows))

    def branch(self, to: int, held_out: torch.Tensor) -> tuple[GPTNeoXForCausalLM, float]:
        """The model this run would have ended with had it been planned for `to` steps, and its held-out loss.

        The run itself stays where it was.
        """
        kept = copy.deepcopy((self.step, self.model.state_dict(), self.optimizer.state_dict()))
        self.advance(to, cooldown_to=to)
        ended, loss = copy.deepcopy(self.model), self.evaluate(held_out)
        self.step, weights, moments = kept
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(moments)
        return ended, loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS))
    given = parser.parse_args()

    torch.set_float32_matmul_precision("high")
    text = (given.text / "train.txt").read_text()
    tokenizer = train_tokenizer(text)
    tokenizer.save_pretrained(given.out / "tokenizer")
    tokens = encode(tokenizer, text).to(given.device)
    held_out = encode(tokenizer, (given.text / "evaluation.txt").read_text()).to(given.device)
    for size in given.sizes:
        run, began = Run(*SIZES[size], tokens), time.perf_counter()
        for steps in given.steps:
            run.advance(round((1 - COOLDOWN) * steps))
            model, loss = run.branch(steps, held_out)
            model.half().save_pretrained(given.out / "checkpoints" / size / f"step{steps}")
            seen = steps * BATCH * WINDOW
            record = {
                "size": size, "steps": steps, "tokens": seen, "passes": round(seen / len(tokens), 2),
                "held_out_loss": round(loss, 4),
                "seconds_so_far": round(time.perf_counter() - began),
            }  # fmt: skip
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
