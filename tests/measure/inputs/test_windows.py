"""Windows: which text, in which order, cut where."""

import json
import random
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Gemma3TextConfig,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerBase,
)

from measure.conftest import TINY
from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.checkpoint import Tokenizer
from qidbayes.measure.inputs.windows import WindowCache, cut_windows, default_begin
from qidbayes.measure.plan.plan import TextSet
from qidbayes.measure.storage.folder import Folder

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


def test_the_shipped_table_was_measured_on_these_windows(tokenizer: PreTrainedTokenizerBase) -> None:
    """The digest is that of the windows behind tiny.csv: another would mean that its losses are of other tokens."""
    begin = default_begin(tokenizer, AutoConfig.from_pretrained(TINY / "checkpoints" / "64x2" / "step1024"))
    windows = cut_windows(HELD_OUT, tokenizer, 256, 128, 0, begin=begin)
    assert windows.hash == "d1d67d1f63c4fb9845863d0fa19b79c7d374c890826a4bb95aedbc0cd9eae93a"


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
    first = WindowCache(Folder(tmp_path / "kept").get_or_create).windows(texts, Tokenizer(tokenizer, "mine"), 16, 5, 0)

    def unusable(*_: object, **__: object) -> None:
        raise AssertionError("the windows were to be read from disk")

    again = WindowCache(Folder(tmp_path / "kept").get_or_create).windows(texts, Tokenizer(unusable, "mine"), 16, 5, 0)  # type: ignore[arg-type]
    assert torch.equal(first.tokens, again.tokens)
    assert first.hash == again.hash


def test_text_that_is_missing_or_short_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text there"):
        cut_windows(TextSet("none", path=tmp_path / "none"), tokenizer, 16, 5, 0)
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(MeasureError, match="too few for two windows of 16"):
        cut_windows(TextSet("short", path=tmp_path / "short.txt"), tokenizer, 16, 5, 0)


def beginning_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The shipped tokenizer, changed to put its begin-of-text token before what it is given, as Llama's does."""
    shutil.copytree(TINY / "tokenizer", folder)
    said = json.loads((folder / "tokenizer.json").read_text())
    special = {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
    said["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}})
    said["post_processor"]["special_tokens"] = {"<|endoftext|>": special}
    (folder / "tokenizer.json").write_text(json.dumps(said))
    return AutoTokenizer.from_pretrained(folder)


def test_each_window_begins_as_asked_and_each_token_is_predicted_once(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    words = "In the beginning was the Word, and the Word was with God. "
    documents = [words * 7, words * 3, words * 11]
    (tmp_path / "three.txt").write_text("\n\n".join(documents))
    texts = TextSet("three", path=tmp_path)
    windows = cut_windows(texts, tokenizer, seq_len=16, count=1000, seed=0, begin="window").tokens
    assert windows.shape[1] == 17
    assert (windows[:, 0] == 0).all()
    # The tokens after the windows' own, those that begin a document aside, are the text's and in its order.
    told = [token for token in windows[:, 1:].flatten().tolist() if token != 0]
    plain = [token for text in shuffled(documents) for token in tokenizer(text)["input_ids"]]
    assert told == plain[: len(told)]
    assert len(plain) - len(told) < 16
    assert not (windows[:, :2] == 0).all(dim=1).any()  # nowhere twice


def shuffled(documents: list[str]) -> list[str]:
    random.Random(0).shuffle(documents)
    return documents


def test_where_a_text_begins_is_the_tokenizers_and_the_models_to_say(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    assert default_begin(tokenizer, GPTNeoXConfig()) == "document"
    assert default_begin(tokenizer, LlamaConfig()) == "document"
    assert default_begin(tokenizer, GemmaConfig()) == default_begin(tokenizer, Gemma3TextConfig()) == "window"
    assert default_begin(beginning_tokenizer(tmp_path / "it"), LlamaConfig()) == "window"
    tokenizer_without = AutoTokenizer.from_pretrained(TINY / "tokenizer")
    tokenizer_without.bos_token = None
    assert default_begin(tokenizer_without, GemmaConfig()) == "document"
    tokenizer_without.eos_token = None
    with pytest.raises(InputError, match='begin = "window", and the tokenizer has no begin- or end-of-text token'):
        cut_windows(HELD_OUT, tokenizer_without, 16, 5, 0, begin="window")


def test_documents_of_lines_of_json_are_those_of_plain_text(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    documents = [text for text in (TINY / "evaluation.txt").read_text().split("\n\n") if text.strip()]
    (tmp_path / "held-out.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in documents))
    lines = cut_windows(TextSet("lines", path=tmp_path / "held-out.jsonl"), tokenizer, 64, 20, 0)
    assert lines.hash == cut_windows(HELD_OUT, tokenizer, 64, 20, 0).hash


def test_rows_of_a_data_set_without_that_field_name_those_they_have(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text('{"body": "A text.", "url": "a"}\n' * 3)
    with pytest.raises(InputError, match=r"row 1: which field holds the text\? .* fields: body, url"):
        cut_windows(TextSet("rows", id=str(tmp_path)), tokenizer, 16, 8, 0)
    with pytest.raises(InputError, match=r"row 1: no field 'text' there; .* one of body, url"):
        cut_windows(TextSet("rows", id=str(tmp_path), column="text"), tokenizer, 16, 8, 0)


def test_windows_that_differ_in_anything_are_kept_apart(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """One folder, asked for windows in many ways: each answer is that of an empty folder."""
    rows = [{"one": f"The number {n} in words. " * 9, "two": f"Number {n}, said again. " * 9} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, rows[::-1])))
    texts = TextSet("rows", path=tmp_path / "rows.jsonl", column="one")
    mine, halves = Tokenizer(tokenizer, "mine"), Tokenizer(AutoTokenizer.from_pretrained(TINY / "tokenizer"), "halves")
    halves.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    asked: list[tuple[Any, ...]] = [
        (texts, mine, 16, 9, 0, None, "document"),
        (texts, mine, 16, 9, 1, None, "document"),
        (texts, mine, 17, 9, 0, None, "document"),
        (texts, mine, 16, 8, 0, None, "document"),
        (texts, mine, 16, 9, 0, None, "window"),
        (texts, halves, 16, 9, 0, None, "document"),
        (texts, mine, 16, 9, 0, halves, "document"),
        (TextSet("rows", path=tmp_path / "rows.jsonl", column="two"), mine, 16, 9, 0, None, "document"),
        (TextSet("rows", path=tmp_path / "other.jsonl", column="one"), mine, 16, 9, 0, None, "document"),
    ]
    kept = [WindowCache(Folder(tmp_path / "kept").get_or_create).windows(*one) for one in asked]
    for (some, own, seq_len, count, seed, reference, begin), found in zip(asked, kept, strict=True):
        again = reference.tokenizer if reference else None
        fresh = cut_windows(some, own.tokenizer, seq_len, count, seed, again, begin)
        assert (found.hash, found.per_reference_token) == (fresh.hash, fresh.per_reference_token)
    for one, other in combinations(kept, 2):
        assert (one.hash, one.per_reference_token) != (other.hash, other.per_reference_token)


def test_a_tokenizer_that_panics_is_an_error_like_any_other(tmp_path: Path) -> None:
    tokenizer = panicking_tokenizer(tmp_path / "it")
    with pytest.raises(MeasureError, match=r"the tokenizer cannot read the text: .*retry-limit"):
        cut_windows(HELD_OUT, tokenizer, 64, 20, 0)


def panicking_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The shipped tokenizer with a regular expression that Rust's engine gives up on, as a panic."""
    shutil.copytree(TINY / "tokenizer", folder)
    said = json.loads((folder / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "(([a-z ]+)+)+!$"}, "behavior": "Isolated", "invert": False}
    said["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, said["pre_tokenizer"]]}
    (folder / "tokenizer.json").write_text(json.dumps(said))
    return AutoTokenizer.from_pretrained(folder)
