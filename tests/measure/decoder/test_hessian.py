"""The second moment, strip by strip, against its definition in double precision."""

import pytest
import torch

from qidbayes.measure.decoder import hessian
from qidbayes.measure.decoder.hessian import SecondMoment


@pytest.mark.parametrize("strip", [5, 6, 12, 100])  # rows at a time of twelve
def test_strips_make_the_whole(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hessian, "_STRIP", strip)
    batches = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))
    moment = SecondMoment()
    for batch in batches:
        moment.add(batch.half())
    rows = batches.half().flatten(0, 1).double()
    found = moment.value()
    torch.testing.assert_close(found.double(), rows.T @ rows / 21, rtol=1e-5, atol=1e-6)
    assert torch.equal(found, found.T)
