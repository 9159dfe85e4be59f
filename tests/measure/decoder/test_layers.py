"""The walk through a decoder's layers against the model's own forward pass."""

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    LlamaModel,
    OPTConfig,
    PreTrainedModel,
    Zamba2Config,
)
from transformers.modeling_outputs import BaseModelOutputWithPast

from measure.decoders import ALTERNATING
from qidbayes.errors import InputError
from qidbayes.measure.decoder.hessian import SecondMoment
from qidbayes.measure.decoder.layers import (
    decoder_layers,
    enter_stack,
    input_groups,
    replay,
    replay_until,
    restoring_weights,
    stack_linears,
)
from qidbayes.measure.decoder.probe import check_stack
from qidbayes.measure.errors import MeasureError


def test_replaying_all_layers_is_the_models_own_pass(decoder: tuple[PreTrainedModel, int], tokens: Tensor) -> None:
    model, _ = decoder
    _, layers = decoder_layers(model)
    last: list[Tensor] = []
    hook = layers[-1].register_forward_hook(lambda _m, _i, out: last.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    hook.remove()
    inputs = enter_stack(model, tokens, batch_size=2)
    assert [len(h) for h in inputs.hidden] == [2, 2, 1]
    hidden = inputs.hidden
    for layer, calls in zip(layers, inputs.calls, strict=True):
        hidden = replay(layer, hidden, calls)
    # float32 kernels may differ between batch sizes in the last bits
    torch.testing.assert_close(torch.cat(hidden), last[0], rtol=1e-5, atol=1e-5)


def test_every_linear_is_found_once(decoder: tuple[PreTrainedModel, int], tokens: Tensor) -> None:
    model, per_layer = decoder
    linears = stack_linears(model)
    assert len(linears) == 2 * per_layer
    assert len({id(linear) for linear in linears.values()}) == 2 * per_layer
    assert all(model.get_submodule(name) is linear for name, linear in linears.items())
    assert model.get_output_embeddings() not in linears.values()
    stack, layers = decoder_layers(model)
    inputs = enter_stack(model, tokens)
    grouped = [
        f"{stack}.{i}.{name}"
        for i, layer in enumerate(layers)
        for group in input_groups(layer, inputs.hidden[0], inputs.calls[i][0])
        for name in group
    ]
    assert sorted(grouped) == sorted(linears)


def test_linears_that_share_an_input_are_grouped(llama: PreTrainedModel, tokens: Tensor) -> None:
    inputs = enter_stack(llama, tokens)
    groups = input_groups(decoder_layers(llama)[1][0], inputs.hidden[0], inputs.calls[0][0])
    assert groups == [
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp.down_proj",),
    ]


def test_second_moment_is_that_of_the_inputs(llama: PreTrainedModel, tokens: Tensor) -> None:
    layer = decoder_layers(llama)[1][0]
    seen: list[Tensor] = []
    hook = layer.mlp.down_proj.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        llama(input_ids=tokens)
    hook.remove()
    inputs = enter_stack(llama, tokens, batch_size=2)
    moment = SecondMoment()
    replay_until(layer, inputs.hidden, inputs.calls[0], {"mlp.down_proj": moment.add})
    rows = seen[0].reshape(-1, 64).double()
    torch.testing.assert_close(moment.value().double(), rows.T @ rows / len(rows), rtol=1e-5, atol=1e-9)


def test_weights_come_back_even_after_an_error(llama: PreTrainedModel) -> None:
    before = {name: m.weight.detach().clone() for name, m in stack_linears(llama).items()}
    with pytest.raises(RuntimeError, match="midway"), restoring_weights(llama):
        for linear in stack_linears(llama).values():
            nn.init.zeros_(linear.weight)
        raise RuntimeError("midway")
    assert all(torch.equal(m.weight, before[name]) for name, m in stack_linears(llama).items())


def test_hooks_go_when_a_layer_fails(llama: PreTrainedModel, tokens: Tensor) -> None:
    inputs = enter_stack(llama, tokens)
    layer = decoder_layers(llama)[1][0]

    def refuse(_x: Tensor) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        replay(layer, inputs.hidden, inputs.calls[0], {"mlp.up_proj": refuse})
    assert not layer.mlp.up_proj._forward_pre_hooks


def test_a_linear_that_never_runs_is_named(llama: PreTrainedModel, tokens: Tensor) -> None:
    layer = decoder_layers(llama)[1][0]
    layer.spare = nn.Linear(4, 4)
    inputs = enter_stack(llama, tokens)
    with pytest.raises(MeasureError, match="spare saw no input"):
        input_groups(layer, inputs.hidden[0], inputs.calls[0][0])
    with pytest.raises(MeasureError, match="spare was not reached"):
        replay_until(layer, inputs.hidden, inputs.calls[0], {"spare": lambda _x: None})
    with pytest.raises(MeasureError, match="no calibration token"):
        SecondMoment().value()


def test_stacks_with_other_matrices_are_refused() -> None:
    gpt2 = AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    with pytest.raises(InputError, match=r"h\.0\.attn\.c_attn\.weight of Conv1D is a weight matrix outside a Linear"):
        stack_linears(gpt2)


def test_a_model_without_a_stack_is_refused() -> None:
    with pytest.raises(InputError, match="no list of equal layers"):
        decoder_layers(nn.Linear(2, 2))


def zamba2() -> PreTrainedModel:
    """Its layers are of two types, and adapters within them are the largest list of equal blocks."""
    return AutoModelForCausalLM.from_config(
        Zamba2Config(
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, layers_block_type=["mamba", "mamba", "hybrid"], mamba_d_state=8, mamba_headdim=16,
            n_mamba_heads=4, mamba_ngroups=1, num_mem_blocks=1, use_mem_rope=True, use_shared_attention_adapter=False,
        )
    )  # fmt: skip


def test_a_list_that_is_not_the_decoders_is_refused_with_both_names() -> None:
    with pytest.raises(
        InputError,
        match=r"^model\.layers\.2\..*adapter_list, the largest list of equal layers, holds [\d.]+% of the weights .*"
        r"model\.layers is a list of Zamba2HybridLayer, Zamba2MambaDecoderLayer",
    ):
        decoder_layers(zamba2())


@pytest.mark.parametrize("width", [1, 3, 4, 64])
def test_nearly_all_weights_must_be_in_the_stack(width: int) -> None:
    """Two blocks of 8×8 and 9×8 weights make 136; beside them two matrices of 1, 3, 4 and 64 weights."""
    blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8, bias=False)), nn.Sequential(nn.Linear(8, 9, bias=False))])
    model = nn.ModuleDict({"blocks": blocks, "bridge": nn.Linear(width, 1), "other": nn.Linear(width, 1)})
    share = 136 / (136 + 2 * width)
    if width <= 3:  # 95% of it all: 7.2 weights may be outside
        assert decoder_layers(model)[0] == "blocks"
    else:
        with pytest.raises(InputError, match=f"holds {share:.1%} of the weights.*: (bridge|other).weight is not in it"):
            decoder_layers(model)


def test_the_language_model_is_found_beside_a_larger_tower(tokens: Tensor) -> None:
    model = AutoModelForCausalLM.from_config(
        Gemma3Config(
            text_config={**ALTERNATING, "max_position_embeddings": 64},
            vision_config={"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6,
                           "num_attention_heads": 4, "image_size": 16, "patch_size": 8},
        )
    )  # fmt: skip
    assert decoder_layers(model)[0] == "model.language_model.layers"
    assert len(stack_linears(model)) == 14
    check_stack(model)


def test_projections_of_the_embeddings_width_belong_to_the_embeddings() -> None:
    """OPT-350m's, with which its embeddings are narrower than its layers."""
    config = OPTConfig(
        vocab_size=64, hidden_size=32, word_embed_proj_dim=16, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4
    )
    assert decoder_layers(AutoModelForCausalLM.from_config(config))[0] == "model.decoder.layers"


class TestLossComesOutOfTheStack:
    """A Llama with something amiss; each is refused by the stack's name."""

    def refused(self, llama: PreTrainedModel, message: str) -> None:
        with pytest.raises(MeasureError, match=message):
            check_stack(llama)

    def test_every_architecture_passes(self, decoder: tuple[PreTrainedModel, int]) -> None:
        model, _ = decoder
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        check_stack(model)
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())

    def test_half_precision_passes(self, llama: PreTrainedModel) -> None:
        check_stack(llama.half())
        check_stack(llama.bfloat16())

    def test_a_head_of_zeros(self, llama: PreTrainedModel) -> None:
        nn.init.zeros_(llama.lm_head.weight)
        self.refused(llama, r"the loss does not depend on model\.layers")

    def test_layers_that_text_does_not_call(self, llama: PreTrainedModel) -> None:
        llama.model.__class__ = _Idle
        self.refused(llama, r"model\.layers was taken for the decoder stack, and reading text does not call its layers")

    def test_layers_that_are_called_twice(self, llama: PreTrainedModel) -> None:
        llama.model.__class__ = _Repeating
        self.refused(llama, r"model\.layers has 2 layers, and reading text calls them 4 times")

    def test_something_between_the_layers(self, llama: PreTrainedModel) -> None:
        llama.model.__class__ = _Doubling
        self.refused(llama, r"model\.layers\.1 is not given what model\.layers\.0 puts out")

    def test_layers_that_are_told_of_what_came_before(self, llama: PreTrainedModel) -> None:
        llama.model.__class__ = _Telling
        self.refused(llama, r"model\.layers\.1 is called with more than the layer before it has put out")

    def test_layers_whose_weights_do_nothing(self, llama: PreTrainedModel) -> None:
        layer = llama.model.layers[0]
        layer.input_layernorm.weight.data.zero_()
        layer.post_attention_layernorm.weight.data.zero_()
        self.refused(llama, r"model\.layers\.0 puts out the same with other weights")


class _Plain(LlamaModel):
    """Llama's own pass, as short as it can be."""

    rounds, factor, tells = 1, 1, False

    def forward(self, input_ids: Tensor, **_: object) -> BaseModelOutputWithPast:
        hidden = self.embed_tokens(input_ids)
        angles = self.rotary_emb(hidden, torch.arange(input_ids.shape[1])[None])
        for layer in [*self.layers] * self.rounds:
            more = {"attention_mask": hidden.mean() * torch.ones(1, 1, 1, 1)} if self.tells else {}
            hidden = self.factor * layer(hidden, position_embeddings=angles, **more)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden))


class _Idle(_Plain):
    rounds = 0


class _Repeating(_Plain):
    rounds = 2


class _Doubling(_Plain):
    factor = 2


class _Telling(_Plain):
    tells = True


def test_experts_inside_a_layer_are_not_mistaken_for_the_stack() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(16))

    stack = nn.ModuleList(Layer() for _ in range(2))
    assert decoder_layers(nn.ModuleDict({"blocks": stack}))[0] == "blocks"
    single = nn.ModuleList([Layer()])  # a tie in parameters: the outer list comes first
    assert decoder_layers(nn.ModuleDict({"blocks": single}))[0] == "blocks"


def test_a_model_trained_on_one_layer_type_keeps_its_modes(tokens: Tensor) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
    )
    model = AutoModelForCausalLM.from_config(config)
    model.train()
    model.model.norm.eval()
    enter_stack(model, tokens)
    assert model.model.layers[0].training
    assert not model.model.norm.training
