"""What the checkpoints of a run have in common."""

import platform

import torch
from torch import Tensor

from qidbayes.errors import InputError
from qidbayes.measure.inputs.checkpoint import Pins, Tokenizer, fetch, load_tokenizer
from qidbayes.measure.inputs.fingerprint import Fingerprints
from qidbayes.measure.inputs.windows import WindowCache, Windows
from qidbayes.measure.plan.plan import Plan, Source
from qidbayes.measure.run.progress import Reporter
from qidbayes.measure.storage.results import Store


class RunContext:
    """What the checkpoints of a run share: its texts, tokenizers and pins, and where they are measured.

    Parameters
    ----------
    plan, store, reporter
        What to measure, where it is kept, and who is told.
    """

    def __init__(self, plan: Plan, store: Store, reporter: Reporter) -> None:
        self.plan = plan
        self.store = store
        self.reporter = reporter
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu")
        self.device_name = torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()})"
        self.pins = Pins(store.get_or_create)
        self.windows = WindowCache(store.get_or_create)
        self.fingerprints = Fingerprints(plan)
        self._tokenizers: dict[Source, Tokenizer] = {}
        self._bytes: dict[tuple[str, str], int] = {}

    def tokenizer(self, source: Source) -> Tokenizer:
        """Return a tokenizer that does not come with a checkpoint; downloaded once for the folder."""
        if source not in self._tokenizers:
            commit = self.pins.pin(source, "main")
            folder = fetch(source, commit, self.store.folder / "tokenizers", weights=False)
            self._tokenizers[source] = load_tokenizer(folder)
        return self._tokenizers[source]

    def calibration_windows(self, tokenizer: Tokenizer, begin: str) -> Tensor:
        """Return what quantizers that need data see, `[n, length + 1]` token ids; the plan has a calibration set.

        Raises
        ------
        InputError
            If the set has fewer windows than the plan asks for.
        """
        asked = self.plan.calibration
        assert asked is not None  # a plan without one has no method that needs it
        windows = self.windows.windows(
            asked.dataset, tokenizer, asked.seq_len, asked.windows, self.plan.seed, begin=begin
        )
        if len(windows.tokens) < asked.windows:
            raise InputError(
                f"[calibration]: {asked.dataset.name} has {len(windows.tokens)} windows of {asked.seq_len} tokens, "
                f"{asked.windows} were asked for"
            )
        return windows.tokens

    def predicted_bytes(self, tokenizer: Tokenizer, windows: Windows) -> int:
        """Return the bytes of text, in UTF-8, that the windows' predicted tokens stand for; worked out once.

        Each window is decoded by itself, without special tokens. A character that its edge cuts counts as the
        replacement character's three bytes on either side: some bytes of thousands.
        """
        key = tokenizer.identity, windows.hash
        if key not in self._bytes:
            texts = tokenizer.tokenizer.batch_decode(
                windows.tokens[:, 1:], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            self._bytes[key] = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        return self._bytes[key]
