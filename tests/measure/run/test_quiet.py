"""What is switched off while measuring is as it was afterwards."""

import os

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging

from qidbayes.measure.run.quiet import quietly


def test_bars_and_environment_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    before = logging.is_progress_bar_enabled(), are_progress_bars_disabled(), dict(os.environ)
    with pytest.raises(ZeroDivisionError), quietly():
        assert not logging.is_progress_bar_enabled() and are_progress_bars_disabled()
        assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
        _ = 1 / 0
    assert (logging.is_progress_bar_enabled(), are_progress_bars_disabled(), dict(os.environ)) == before
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    with quietly():
        assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
