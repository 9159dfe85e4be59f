"""A checkpoint's files, pinned and checked, and the model in them."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.hf_api import RepoSibling
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError, miscounted
from qidbayes.measure.inputs.experts import list_experts
from qidbayes.measure.inputs.language_model import auto_class, ends, language_model
from qidbayes.measure.inputs.unused import refuse_unused
from qidbayes.measure.plan.plan import Checkpoint, Source, digest
from qidbayes.measure.storage.backend import GetOrCreate

_SMALL_FILES = ("*.json", "*.txt", "tokenizer.model")  # configuration and tokenizer
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_ATTEMPTS = 3  # a hub under load answers some requests with a 5xx


def pin(source: Source, revision: str) -> str:
    """Return what identifies the files for good: the hub's commit hash, or a digest of a folder's contents.

    Raises
    ------
    InputError
        If a folder is not there.
    OSError
        If the hub does not answer, or knows no such repository or revision.
    """
    if source.folder is None:
        commit = _with_retries(lambda: HfApi().model_info(source.name, revision=revision).sha)
        if commit is None:
            raise MeasureError(f"{source.name}: the hub names no commit for {revision}")
        return commit
    if not source.folder.is_dir():
        raise InputError(f"{source.folder}: no such folder; give a folder with config.json and *.safetensors")
    for path in source.folder.iterdir():
        _refuse_device(path)  # whatever its name is: the tokenizer's library opens files of many
    if source.file is not None:
        if not (source.folder / source.file).is_file():
            raise InputError(f"{source.folder / source.file}: no such file; give one of that folder with file")
        return digest({source.file: sha256(source.folder / source.file)})
    kept = [p for p in source.folder.iterdir() if p.suffix in (".json", ".txt", ".model", ".safetensors", ".gguf")]
    return digest({p.name: sha256(p) for p in sorted(kept)})


class Pins:
    """What each repository's revision was pinned to when it was first asked for, on disk.

    A run that is taken up again measures the same commits, whatever has happened to a branch since, and needs no
    network for what it has measured already. Folders are digested anew each time.

    Parameters
    ----------
    get_or_create
        Keeps what it is first given under a name (`Store.get_or_create`).
    """

    def __init__(self, get_or_create: GetOrCreate) -> None:
        self._get_or_create = get_or_create

    def pin(self, source: Source, revision: str) -> str:
        """Return what `pin` returns, or returned the first time.

        Raises
        ------
        InputError
            As `pin`, and if what was kept has been damaged.
        """
        if source.folder is not None:
            return pin(source, revision)

        def kept(commit: str) -> bytes:
            return f"{commit} {digest([source.name, revision, commit])}".encode()

        name = f"pins/{digest([source.name, revision])}"
        path = self._get_or_create(name, lambda path: _write(path, kept(pin(source, revision))))
        content = path.read_bytes()
        commit = content.partition(b" ")[0].decode(errors="replace")
        if content != kept(commit):
            raise InputError(
                f"{path}: not a pin of {source.name}@{revision} that this version wrote; remove it to look the "
                "revision up anew"
            )
        return commit


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def sha256(path: Path) -> str:
    """Return the sha256 (hexadecimal) of a file.

    Raises
    ------
    InputError
        If it is a FIFO or a device, which might be read for ever.
    """
    _refuse_device(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_device(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: is not a plain file; remove it, or put a file in its place")


def weights_digest(folder: Path) -> str:
    """Return the digest of a folder's weights: two checkpoints that share it are one."""
    return digest(sorted(sha256(path) for path in folder.glob("*.safetensors")))


def fetch(source: Source, commit: str, downloads: Path, *, weights: bool = True) -> Path:
    """Return a folder with the files of a commit: from the user's cache where it has them all, else downloaded.

    Only safetensors (or the GGUF file that the source names), configuration and tokenizer files are taken, and each
    file's sha256 is held against the hub's.

    Parameters
    ----------
    source, commit
        The repository and the hash from `pin`; a local folder is returned as it is. A source that names a file gives
        that file's place.
    downloads
        Where downloads go, apart from the user's cache so that they can be removed again.
    weights
        Whether the weights are wanted; a tokenizer is asked for without them.

    Raises
    ------
    MeasureError
        If the repository has no safetensors or no such file, or a file is not what the hub says it is.
    OSError
        If the download breaks.
    """
    if source.folder is not None:
        return source.folder / (source.file or "")
    siblings = _with_retries(lambda: HfApi().model_info(source.name, revision=commit, files_metadata=True)).siblings
    files = siblings or []
    wanted = list(_SMALL_FILES)
    if source.file is not None:
        if source.file not in {f.rfilename for f in files}:
            raise MeasureError(f"{source.name}: has no file {source.file}")
        wanted = [source.file]
    elif weights:
        wanted += safetensors_among(source.name, [f.rfilename for f in files])
    names = [f for f in files if any(Path(f.rfilename).match(p) and "/" not in f.rfilename for p in wanted)]
    try:
        folder = Path(snapshot_download(source.name, revision=commit, allow_patterns=wanted, local_files_only=True))
        if all((folder / f.rfilename).exists() for f in names):
            return folder / (source.file or "")
    except LocalEntryNotFoundError:
        pass  # not in the user's cache, which is what was asked
    patterns = [f.rfilename for f in names]
    folder = Path(
        _with_retries(
            lambda: snapshot_download(source.name, revision=commit, allow_patterns=patterns, cache_dir=downloads)
        )
    )
    _check(folder, names)
    return folder / (source.file or "")


def safetensors_among(repository: str, names: Iterable[str]) -> list[str]:
    """Return which of a repository's files hold its weights.

    Raises
    ------
    MeasureError
        If they are pickled only, or there are none.

    Examples
    --------
    >>> safetensors_among("me/mine", ["config.json", "model.safetensors", "pytorch_model.bin"])
    ['model.safetensors']
    """
    top = [name for name in names if "/" not in name]
    found = [name for name in top if name.endswith(".safetensors")]
    if found:
        # Some repositories carry the same weights twice, the second time in their authors' own layout.
        return [name for name in found if name.startswith("model")] or found
    if any(name.endswith(_PICKLES) for name in top):
        raise MeasureError(
            f"{repository}: its weights are pickled only, and opening a pickle can run code; only safetensors are "
            "read. Convert them where you trust them (save_pretrained writes safetensors) and name that folder"
        )
    raise MeasureError(f"{repository}: no *.safetensors in it")


def _check(folder: Path, files: Iterable[RepoSibling]) -> None:
    for file in files:
        if file.lfs is None:
            continue  # small files kept in git itself, which the hub gives no sha256 for
        path = folder / file.rfilename
        found = sha256(path)
        if found != file.lfs.sha256:
            path.resolve().unlink()  # so that the next try downloads it again
            raise MeasureError(
                f"{file.rfilename}: downloaded with sha256 {found[:12]}…, the hub says {file.lfs.sha256[:12]}…"
            )


def _with_retries[T](ask: Callable[[], T]) -> T:
    for attempt in range(1, _ATTEMPTS):
        try:
            return ask()
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code < 500:
                raise
        time.sleep(attempt)
    return ask()


def load_model(folder: Path, checkpoint: Checkpoint, dtype: str | None, device: torch.device) -> PreTrainedModel:
    """Load a checkpoint's model from safetensors and check that it is the one planned.

    Its weights are loaded as `dtype`; None for what its config.json says, or else as they are stored. Experts are
    linears (`qidbayes.measure.inputs.experts`).

    Raises
    ------
    InputError
        If the model has another number of non-embedding parameters than the plan says.
    MeasureError
        If the files cannot be used, are of another model than their config.json describes, leave weights of it unset,
        hold weights that it does not use, or hold a quantized model.
    """
    config = read_config(folder)
    if getattr(config, "quantization_config", None) is not None:
        raise MeasureError(f'{checkpoint}: its files are quantized already; name them with method = "prequantized"')
    _check_sizes(folder, config)
    try:
        loaded: Any = auto_class(config).from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, dtype) if dtype else "auto",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise MeasureError(f"{folder}: no model can be made of these files ({_first_line(error)})") from error
    model, info = loaded
    unset = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if unset:
        raise MeasureError(f"{checkpoint}: its files leave {len(unset)} weights unset, {unset[0]} among them")
    refuse_unused(str(checkpoint), info["unexpected_keys"], partial(_stored, folder))
    found = count_parameters(model)
    if found != checkpoint.n_params:
        raise InputError(miscounted(checkpoint, found, checkpoint.n_params))
    list_experts(model)
    ready: PreTrainedModel = model.to(device).eval()
    return ready


def _stored(folder: Path, name: str) -> Tensor | None:
    """A tensor of a folder's files by its name; None if there is none."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if name in file.keys():  # noqa: SIM118 (not a dict)
                tensor: Tensor = file.get_tensor(name)
                return tensor
    return None


def read_config(folder: Path) -> PreTrainedConfig:
    """Read a folder's `config.json`; no code that it names is run.

    Raises
    ------
    MeasureError
        If transformers cannot make anything of it.
    """
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # it says what is wrong by whatever its checks happen to raise
        raise MeasureError(f"{folder}: config.json cannot be used ({_first_line(error)})") from error
    return config


def _check_sizes(folder: Path, config: PreTrainedConfig) -> None:
    """Refuse a configuration of a larger model than the files can hold, which would fill the memory with nothing."""
    files = list(folder.glob("*.safetensors"))
    tensors = 0
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                tensors += len(file.keys())
        except (OSError, SafetensorError) as error:
            raise MeasureError(f"{path}: not a readable safetensors file ({error})") from error
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if layers > tensors:
        raise MeasureError(f"{folder}: config.json says {layers:,} layers, and its files hold {tensors} tensors")
    try:
        with torch.device("meta"):
            described = sum(p.numel() for p in auto_class(config).from_config(config).parameters())
    except Exception as error:
        raise MeasureError(f"{folder}: config.json describes no model ({_first_line(error)})") from error
    stored = sum(path.stat().st_size for path in files)
    if described > stored:  # not even a byte for each
        raise MeasureError(
            f"{folder}: config.json describes {described:,} parameters, and its files have {stored:,} bytes"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def count_parameters(model: PreTrainedModel) -> int:
    """Count the parameters outside the token embedding and the output head: the N of the scaling laws.

    Of a multimodal model those of its language model are counted.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, GPTNeoXConfig
    >>> pythia_160m = GPTNeoXConfig(
    ...     vocab_size=50304, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
    >>> with torch.device("meta"):
    ...     count_parameters(AutoModelForCausalLM.from_config(pythia_160m))
    85056000
    """
    outside = {id(p) for end in ends(model) for p in end.parameters()}
    return sum(p.numel() for p in language_model(model).parameters() if id(p) not in outside)


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and what tells it from others.

    Attributes
    ----------
    tokenizer
        Ready to be called.
    identity
        The digest of its vocabulary and of the tokens that open and close a text. The revisions of one model share it,
        though each is a commit of its own.
    """

    tokenizer: PreTrainedTokenizerBase
    identity: str


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a folder, from its files alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    vocabulary = [sha256(path) for path in map(folder.joinpath, _VOCABULARIES) if path.exists()]
    return Tokenizer(tokenizer, digest([vocabulary, tokenizer.bos_token_id, tokenizer.eos_token_id]))
