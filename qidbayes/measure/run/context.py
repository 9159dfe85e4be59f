"""What the checkpoints of a run have in common."""

import platform

import torch

from qidbayes.measure.inputs.checkpoint import Pins, Tokenizer, fetch, load_tokenizer
from qidbayes.measure.inputs.fingerprint import Fingerprints
from qidbayes.measure.inputs.windows import WindowCache
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

    def tokenizer(self, source: Source) -> Tokenizer:
        """Return a tokenizer that does not come with a checkpoint; downloaded once for the folder."""
        if source not in self._tokenizers:
            commit = self.pins.pin(source, "main")
            folder = fetch(source, commit, self.store.folder / "tokenizers", weights=False)
            self._tokenizers[source] = load_tokenizer(folder)
        return self._tokenizers[source]
