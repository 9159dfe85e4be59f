"""Where rotary position embeddings are replaced, and where not. The kernel itself: `quantize/test_gptq_batched`."""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTNeoXConfig
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

from qidbayes.measure.decoder import rotary
from qidbayes.measure.decoder.layers import decoder_layers

Q, K = torch.randn(2, 3, 5, 8), torch.randn(2, 1, 5, 8)
COS, SIN = torch.randn(1, 5, 4), torch.randn(1, 5, 4)


class Counted:
    """Rotates as transformers does, or not quite, and counts."""

    def __init__(self, off: float = 0.0) -> None:
        self.calls, self.off = 0, off

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        self.calls += 1
        answer: Tensor = apply_rotary_pos_emb(x, x, cos, sin)[0] + self.off
        return answer


def test_what_gives_the_same_bits_is_used() -> None:
    rotate = Counted()
    apply = rotary.checked(apply_rotary_pos_emb, rotate)
    for times in (1, 2, 3):
        for found, wanted in zip(apply(Q, K, COS, SIN), apply_rotary_pos_emb(Q, K, COS, SIN), strict=True):
            assert torch.equal(found, wanted)
        assert rotate.calls == 2 * times


def test_what_gives_others_is_not() -> None:
    rotate = Counted(off=1e-6)
    apply = rotary.checked(apply_rotary_pos_emb, rotate)
    for _ in range(3):
        for found, wanted in zip(apply(Q, K, COS, SIN), apply_rotary_pos_emb(Q, K, COS, SIN), strict=True):
            assert torch.equal(found, wanted)
    assert rotate.calls == 2  # at the first call, and then no more


@pytest.mark.parametrize(
    ("q", "cos", "options"),
    [
        (Q, COS.double(), {}),
        (Q, COS[0], {}),
        (Q[..., :2], COS, {}),
        (Q.transpose(2, 3), COS, {}),
        (Q.transpose(1, 2), COS, {"unsqueeze_dim": 2}),
    ],
    ids=["type", "shape", "more-columns", "length", "option"],
)
def test_what_the_kernel_does_not_know_is_left_to_the_decoder(q: Tensor, cos: Tensor, options: dict[str, int]) -> None:
    rotate, asked = Counted(), []

    def own(*args: Tensor, **kwargs: object) -> tuple[Tensor, Tensor]:
        asked.append((len(args), kwargs))
        return args[0], args[1]

    assert rotary.checked(own, rotate)(q, q, cos, cos, **options) == (q, q)
    assert rotate.calls == 0
    assert asked == [(4, options)]


def test_a_decoder_has_its_own_way_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        rotate = Counted()

    monkeypatch.setattr(rotary, "rotary_triton", Kernel)
    config = GPTNeoXConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    _, layers = decoder_layers(model)
    tokens = torch.arange(12)[None]
    wanted = model(tokens).logits
    with pytest.raises(RuntimeError), rotary.fused_rotary(layers, torch.device("cuda")):
        assert torch.equal(model(tokens).logits, wanted)
        assert Kernel.rotate.calls == 4
        raise RuntimeError
    assert modeling_gpt_neox.apply_rotary_pos_emb is apply_rotary_pos_emb
    with rotary.fused_rotary(layers, torch.device("cpu")):
        assert modeling_gpt_neox.apply_rotary_pos_emb is apply_rotary_pos_emb
