"""What libraries would print over our progress, switched off while a checkpoint is measured, and only then."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging

_PARALLEL = "TOKENIZERS_PARALLELISM"  # forked readers of data sets would warn about it


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out progress bars of transformers and of the hub, and tokenizers' warning of forks."""
    bars, hub, parallel = logging.is_progress_bar_enabled(), not are_progress_bars_disabled(), os.environ.get(_PARALLEL)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    os.environ.setdefault(_PARALLEL, "false")
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        (enable_progress_bars if hub else disable_progress_bars)()
        if parallel is None:
            del os.environ[_PARALLEL]
