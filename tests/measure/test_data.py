"""Windows: which text, in which order, cut where."""

import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from measure.conftest import TINY
from qidbayes.errors import InputError
from qidbayes.measure.checkpoint import Tokenizer
from qidbayes.measure.data import WindowCache, cut_windows
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.place.folder import Folder
from qidbayes.measure.plan import TextSet

HELD_OUT = TextSet("held-out", path=TINY / "evaluation.txt")


def test_each_token_is_predicted_once(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    text = "In the beginning was the Word, and the Word was with God. " * 20
    (tmp_path / "one.txt").write_text(text)
    windows = cut_windows(TextSet("one", path=tmp_path), tokenizer, seq_len=16, count=1000, seed=0).tokens
    ids = [tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]
    predicted = windows[:, 1:].flatten().tolist()
    assert predicted == ids[1 : len(predicted) + 1]
    assert len(ids) - 1 - len(predicted) < 16  # what is dropped is less than a window
    assert windows[1:, 0].tolist() == windows[:-1, -1].tolist()


def test_the_seed_fixes_the_windows(tokenizer: PreTrainedTokenizerBase) -> None:
    first, again, other = (cut_windows(HELD_OUT, tokenizer, 64, 20, seed) for seed in (0, 0, 1))
    assert first.hash == again.hash != other.hash
    assert first.tokens.shape == (20, 65)
    assert set(first.tokens.flatten().tolist()) != set()


def test_reference_tokens_are_counted_on_the_documents_used(tokenizer: PreTrainedTokenizerBase) -> None:
    class Letters:
        """A second tokenizer: a token a character."""

        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": [ord(c) for c in text]}

    everything = 10_000
    made = cut_windows(HELD_OUT, tokenizer, 64, everything, 0, reference=Letters())  # type: ignore[arg-type]
    documents = (TINY / "evaluation.txt").read_text().split("\n\n")
    tokens = sum(len(tokenizer(document)["input_ids"]) for document in documents)
    assert made.per_reference_token == pytest.approx(tokens / sum(map(len, documents)))


def test_rows_of_a_data_set_are_read_through_datasets(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    rows = [{"content": f"Row {n} of a set, long enough to fill a window or two with its words."} for n in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    texts = TextSet("rows", id=str(tmp_path), split="train", column="content")
    windows = cut_windows(texts, tokenizer, seq_len=16, count=8, seed=5)
    said = tokenizer.decode(windows.tokens[0])
    assert said.startswith("<|endoftext|>Row ")
    assert windows.hash == cut_windows(texts, tokenizer, seq_len=16, count=8, seed=5).hash


def test_windows_are_kept_on_disk(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The same words, over and over. " * 50)
    texts = TextSet("text", path=tmp_path / "text.txt")
    first = WindowCache(Folder(tmp_path / "kept").first).windows(texts, Tokenizer(tokenizer, "mine"), 16, 5, 0)

    def unusable(*_: object, **__: object) -> None:
        raise AssertionError("the windows were to be read from disk")

    again = WindowCache(Folder(tmp_path / "kept").first).windows(texts, Tokenizer(unusable, "mine"), 16, 5, 0)  # type: ignore[arg-type]
    assert torch.equal(first.tokens, again.tokens)
    assert first.hash == again.hash


def test_text_that_is_missing_or_short_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text there"):
        cut_windows(TextSet("none", path=tmp_path / "none"), tokenizer, 16, 5, 0)
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(MeasureError, match="too few for two windows of 16"):
        cut_windows(TextSet("short", path=tmp_path / "short.txt"), tokenizer, 16, 5, 0)
