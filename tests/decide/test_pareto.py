"""Fewer bits or fewer parameters, asked of the atlas."""

import warnings

import pytest

import qidbayes as qb


def test_groups_that_take_bytes_are_those_that_are_asked_about() -> None:
    """Of a fit that knows what groups save; the medians are of other draws, some 2% apart."""
    atlas = qb.load_fit("atlas")
    asked = {"tokens": 2e12, "bits": [3.0], "method": "gptq", "dataset": "wikitext2"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is assumed, and of 16-bit losses
        found = qb.pareto(atlas, memory=4e9, group_size=64, **asked)
        sized = {"n_params": found["n_params"][0], **asked}
        grouped = atlas.predict(group_size=64, **sized)["median"][0]
        alone = atlas.predict(**sized)["median"][0]
    assert found["qid"][0] == pytest.approx(grouped, rel=0.1)
    assert grouped < 0.8 * alone
