"""Blocks of windows, and when they tell enough."""

import pytest
import torch

from qidbayes.measure.decoder.blocks import block_ends, going_on, in_blocks, in_random_order, is_told


@pytest.mark.parametrize("windows", [2, 31, 32, 33, 64, 100, 256, 1000])
def test_blocks_are_the_windows_each_once(windows: int) -> None:
    tokens = torch.arange(windows * 3).reshape(windows, 3)
    assert torch.equal(torch.cat(in_blocks(tokens, 0.02)), tokens)
    assert [len(block) for block in in_blocks(tokens, None)] == [windows]
    ends = block_ends(windows)
    assert ends[-1] == windows
    assert ends[0] >= min(32, windows)
    assert ends == sorted(set(ends))


def test_the_order_is_random_and_always_the_same() -> None:
    tokens = torch.arange(600).reshape(200, 3)
    shuffled = in_random_order(tokens)
    assert torch.equal(shuffled, in_random_order(tokens))
    assert torch.equal(shuffled.sort(dim=0).values, tokens)
    ranks = torch.stack([torch.arange(200.0), shuffled[:, 0].double() / 3])
    assert abs(float(torch.corrcoef(ranks)[0, 1])) < 3 / 200**0.5  # three standard errors


def test_it_is_told_by_the_paired_error_of_what_has_been_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    baseline = 3 + torch.randn(64, generator=generator)
    losses = baseline[:32] + 0.5 + 0.1 * torch.randn(32, generator=generator)
    difference = (losses - baseline[:32]).numpy()
    share = float(difference.std(ddof=1) / 32**0.5 / difference.mean())
    assert is_told(losses, baseline, share * 1.001)
    assert not is_told(losses, baseline, share * 0.999)
    assert is_told(-losses, -baseline, share * 1.001)  # a QiD below 0 is known as well
    assert going_on([losses[:16], losses[16:]], [baseline], share * 0.999)
    assert going_on([losses], [baseline], None)


def test_losses_that_are_no_numbers_want_no_further_windows() -> None:
    assert is_told(torch.tensor([1.0, torch.nan]), torch.ones(2), 0.02)
