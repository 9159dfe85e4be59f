"""Cut texts into token windows. The plan and its seed fix what is read, in which order, and where it is cut."""

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError, is_panic
from qidbayes.measure.inputs.checkpoint import Tokenizer, sha256
from qidbayes.measure.inputs.texts import local_documents, text_files, text_of
from qidbayes.measure.plan.plan import TextSet, digest
from qidbayes.measure.storage.backend import GetOrCreate

_SHUFFLE_BUFFER = 10_000  # documents; a streamed set is shuffled within it


@dataclass(frozen=True)
class Windows:
    """Token windows of one text set.

    Attributes
    ----------
    tokens
        `[n, seq_len + 1]` token ids. Each token of the text is predicted once: windows that follow one another share
        the token at the seam, or each begins with the begin-of-text token.
    per_reference_token
        Tokens of the model's tokenizer per token of the reference tokenizer, on the documents used; a loss times this
        is in nats per reference token. None without a reference.
    hash
        The digest of the ids.
    """

    tokens: Tensor
    per_reference_token: float | None
    hash: str


def text_identity(texts: TextSet) -> dict[str, object]:
    """Return what fixes a set's text: the contents of local files, or the hub's names for it."""
    if texts.path is not None:
        return {"files": [sha256(path) for path in text_files(texts.path)], "column": texts.column}
    return {key: getattr(texts, key) for key in ("id", "config", "split", "column", "revision", "joined")}


def default_begin(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> str:
    """Return where a begin-of-text token stands unless the plan says so: at each `document`, or in each `window` too.

    In each window where the tokenizer puts one before whatever it is given (Llama's, Gemma's), and for the models of
    Gemma's kind, whose loss is nonsense without it. Not for Pythia's or Qwen's, which never add one.
    """
    opening = tokenizer.bos_token_id
    if opening is None:
        return "document"
    by_itself = _encode(tokenizer, "a", add_special_tokens=True)[:1] == [opening] != _encode(tokenizer, "a")[:1]
    return "window" if by_itself or "gemma" in config.model_type else "document"


def cut_windows(
    texts: TextSet,
    tokenizer: PreTrainedTokenizerBase,
    seq_len: int,
    count: int,
    seed: int,
    reference: PreTrainedTokenizerBase | None = None,
    begin: str = "document",
) -> Windows:
    """Read, tokenize and cut a text set.

    Documents are drawn at random, each begun with the tokenizer's begin- or end-of-text token, and cut into windows as
    one row of tokens. Of a running text, `count` windows are drawn. With `begin = "window"`, each window begins with
    that token, whatever it was cut from.

    Raises
    ------
    InputError
        If a file or folder is not there or cannot be read, or the tokenizer has no token to begin windows with.
    MeasureError
        If the text is too short for two windows.
    """
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if begin == "window" and opening is None:
        raise InputError(f'{texts.name}: begin = "window", and the tokenizer has no begin- or end-of-text token')
    enough = count * seq_len if begin == "document" else count * (seq_len + 1)
    ids: list[int] = []
    used: list[str] = []
    for text in _documents(texts, seed):
        if opening is not None:
            ids.append(opening)
        ids += _encode(tokenizer, text)
        used.append(text)
        if not texts.joined and len(ids) > enough:
            break
    if len(ids) <= seq_len:
        windows = torch.empty(0, seq_len + 1)
    elif begin == "document":
        windows = torch.tensor(ids).unfold(0, seq_len + 1, seq_len)
    else:
        windows = torch.tensor(_begun(ids, seq_len, opening))
    if len(windows) < 2:
        raise MeasureError(f"{texts.name}: {len(ids):,} tokens, too few for two windows of {seq_len}")
    if texts.joined and len(windows) > count:
        windows = windows[sorted(random.Random(seed).sample(range(len(windows)), count))]  # noqa: S311 (not a secret)
    windows = windows[:count].contiguous()
    ratio = None
    if reference is not None:
        ratio = sum(len(_encode(tokenizer, t)) for t in used) / sum(len(_encode(reference, t)) for t in used)
    return Windows(windows, ratio, _hash(windows))


def _begun(ids: list[int], seq_len: int, opening: int) -> list[list[int]]:
    """Windows that each begin with the opening token: a document's own where one starts there, else one more."""
    windows: list[list[int]] = []
    start = 0
    while True:
        own = ids[start : start + 1] == [opening]
        stop = start + seq_len + own
        if stop > len(ids):
            return windows
        windows.append(ids[start:stop] if own else [opening, *ids[start:stop]])
        start = stop


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, *, add_special_tokens: bool = False) -> list[int]:
    try:
        ids: list[int] = tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)["input_ids"]
    except BaseException as error:
        if is_panic(error):
            raise MeasureError(f"the tokenizer cannot read the text: {error}") from error
        raise
    return ids


def _documents(texts: TextSet, seed: int) -> Iterator[str]:
    if texts.path is None:
        yield from _hub_documents(texts, seed)
        return
    documents = local_documents(texts.path, texts.column)
    random.Random(seed).shuffle(documents)  # noqa: S311 (not a secret)
    yield from documents


def _hub_documents(texts: TextSet, seed: int) -> Iterator[str]:
    # Slow to import, and local text does without it.
    from datasets import load_dataset  # type: ignore[import-untyped]

    rows: Iterable[dict[str, object]] = load_dataset(
        texts.id, texts.config, split=texts.split, revision=texts.revision, streaming=True
    )
    drawn = rows if texts.joined else rows.shuffle(seed=seed, buffer_size=_SHUFFLE_BUFFER)  # type: ignore[attr-defined]
    documents = (text_of(row, texts.column, f"{texts.id}: row {number}") for number, row in enumerate(drawn, 1))
    if texts.joined:
        yield "\n\n".join(documents)
    else:
        yield from documents


class WindowCache:
    """Windows on disk, so that a run that is taken up again, or the next checkpoint, reads the same ones.

    Parameters
    ----------
    get_or_create
        Keeps what it is first given under a name (`Store.get_or_create`).
    """

    def __init__(self, get_or_create: GetOrCreate) -> None:
        self._get_or_create = get_or_create
        self._loaded: dict[str, Windows] = {}

    def windows(
        self,
        texts: TextSet,
        tokenizer: Tokenizer,
        seq_len: int,
        count: int,
        seed: int,
        reference: Tokenizer | None = None,
        begin: str = "document",
    ) -> Windows:
        """Return the windows that `cut_windows` would."""
        of_reference = reference.identity if reference else None
        key = digest([text_identity(texts), tokenizer.identity, seq_len, count, seed, of_reference, begin])
        if key not in self._loaded:
            again = reference.tokenizer if reference else None

            def cut(path: Path) -> None:
                _save(cut_windows(texts, tokenizer.tokenizer, seq_len, count, seed, again, begin), path, key)

            path = self._get_or_create(f"windows/{texts.name}-{key[:16]}.safetensors", cut)
            self._loaded[key] = _load(path, key)
        return self._loaded[key]


def _save(windows: Windows, path: Path, key: str) -> None:
    ratio = "" if windows.per_reference_token is None else repr(windows.per_reference_token)
    says = {"per_reference_token": ratio, "hash": windows.hash, "seal": _seal(windows, key)}
    save_file({"tokens": windows.tokens}, path, says)


def _load(path: Path, key: str) -> Windows:
    try:
        with safe_open(path, "pt") as file:
            says = file.metadata()
            ratio = float(says["per_reference_token"]) if says["per_reference_token"] else None
            windows, seal = Windows(file.get_tensor("tokens"), ratio, says["hash"]), says.get("seal")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not windows this version wrote ({error}); remove it to cut them anew") from error
    if seal != _seal(windows, key):
        reason = "it has no seal; earlier versions made none" if seal is None else "it is damaged, or of other texts"
        raise InputError(f"{path}: not windows this version wrote ({reason}); remove it to cut them anew")
    return windows


def _hash(tokens: Tensor) -> str:
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def _seal(windows: Windows, key: str) -> str:
    """The digest of all that a file of windows says, worked out from the ids themselves."""
    tokens = windows.tokens
    says = [key, list(tokens.shape), str(tokens.dtype), _hash(tokens), windows.hash, windows.per_reference_token]
    return digest(says)
