"""Lay out the text that training and measuring read: `python corpus.py BUILT WIKITEXT2 FOLDER`.

BUILT holds the token files of the corpus (tok_train.u16, tok_valid.u16, tok_test.u16, tok_ood_code_python.u16: token 0
before every document) and its tokenizer, bpe_8192.json; WIKITEXT2 the test set's text. What comes out:
FOLDER/tokenizer, and in FOLDER/corpus the training tokens and a text file a set, documents parted by blank lines.
"""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
CODE_LINES = 200  # lines of one document of code; the set itself is one long text


def documents(path: Path, tokenizer: Tokenizer) -> list[str]:
    """The texts of a token file. Byte-level BPE loses nothing, so these are the texts that were encoded."""
    ids = np.fromfile(path, dtype="<u2")
    return tokenizer.decode_batch([part[1:].tolist() for part in np.split(ids, np.flatnonzero(ids == 0)) if len(part)])


def in_pieces(text: str, lines: int) -> list[str]:
    """A text without its empty lines, cut into documents of so many lines."""
    left = [line for line in text.splitlines() if line.strip()]
    return ["\n".join(left[at : at + lines]) for at in range(0, len(left), lines)]


def main(built: Path, wikitext2: Path, folder: Path) -> None:
    out = folder / "corpus"
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(built / "bpe_8192.json"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT)
    fast.save_pretrained(folder / "tokenizer")
    (code,) = documents(built / "tok_ood_code_python.u16", tokenizer)
    articles = re.split(r"\n(?= = [^=].*[^=] = \n)", wikitext2.read_text(encoding="utf-8"))
    sets = {
        "held-out": documents(built / "tok_valid.u16", tokenizer),
        "calibration": documents(built / "tok_test.u16", tokenizer),
        "wikitext2": ["\n".join(line for line in a.splitlines() if line.strip()) for a in articles if a.strip()],
        "code": in_pieces(code, CODE_LINES),
    }
    for name, texts in sets.items():
        (out / f"{name}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
        sys.stderr.write(f"{name}: {len(texts)} documents, {sum(map(len, texts)):,} characters\n")
    shutil.copyfile(built / "tok_train.u16", out / "train.u16")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
