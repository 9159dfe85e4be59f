"""GGUF files against the model they were written from, the library's own dequantization, and NumPy by hand."""

import re
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from qidbayes.errors import InputError
from qidbayes.measure.decoder.layers import stack_linears
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.prequantized import check_against_original, load_prequantized, put_back_ends, read_prequantized
from qidbayes.measure.prequantized.gguf import _TYPES, load_gguf
from qidbayes.measure.prequantized.gguf_header import check_header

from .ggufs import rows_of_llama_cpp, write_gguf

IDS = torch.arange(24)[None] % 40


@pytest.fixture
def wide() -> PreTrainedModel:
    """A Llama with fewer heads of keys than of queries, whose rows k-quants' blocks of 256 divide."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, initializer_range=0.1, rms_norm_eps=1e-5, rope_theta=50_000.0, pad_token_id=0,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def q4_0_by_hand(blocks: np.ndarray) -> np.ndarray:
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    codes = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    return scale * (codes - 8)


def q4_1_by_hand(blocks: np.ndarray) -> np.ndarray:
    scale, least = (blocks[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
    codes = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    return scale * codes + least


def q8_0_by_hand(blocks: np.ndarray) -> np.ndarray:
    return blocks[:, :2].copy().view(np.float16).astype(np.float32) * blocks[:, 2:].view(np.int8).astype(np.float32)


BY_HAND = {Type.Q4_0: q4_0_by_hand, Type.Q4_1: q4_1_by_hand, Type.Q8_0: q8_0_by_hand}


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16])
def test_a_file_is_the_model_it_was_written_from(tmp_path: Path, wide: PreTrainedModel, kind: Type) -> None:
    for parameter in wide.parameters():
        parameter.data = parameter.data.bfloat16().half().float()  # what all three types can say
    model, read = load_gguf(write_gguf(tmp_path / "a.gguf", wide, lambda _: kind), torch.float32)
    assert torch.equal(logits(model), logits(wide))
    assert not read.matrices and not read.ends


@pytest.mark.parametrize("kind", [Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("tied", [False, True])
def test_other_architectures_are_read(tmp_path: Path, kind: type[PreTrainedConfig], tied: bool) -> None:
    """Qwen 2 has biases, Qwen 3 norms of queries and keys; neither has its rows in another order.

    Heads of Qwen 3 are 128 wide, as of all of them; transformers takes over no other width from its files.
    """
    torch.manual_seed(0)
    config = kind(
        vocab_size=40, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=tied,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) / 5)
                assert "norm" in name or "bias" in name
    path = write_gguf(tmp_path / "a.gguf", model, lambda name: None if tied and "lm_head" in name else Type.F32)
    read, _ = load_gguf(path, torch.float32)
    assert torch.equal(logits(read), logits(model))


def test_scaled_rotary_frequencies_are_read(tmp_path: Path, wide: PreTrainedModel) -> None:
    """Llama 3's: transformers works them out from the configuration, GGUF stores what each is divided by."""
    scaling = {
        "rope_type": "llama3", "rope_theta": 50_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    torch.manual_seed(0)
    scaled = AutoModelForCausalLM.from_config(LlamaConfig(**wide.config.to_dict() | {"rope_parameters": scaling}))
    plain = wide.model.rotary_emb.inv_freq
    factors = plain / scaled.model.rotary_emb.inv_freq
    assert factors.max() == 8
    extra = {"rope_freqs.weight": factors.numpy()}
    path = write_gguf(tmp_path / "a.gguf", scaled, extra=extra)
    model, _ = load_gguf(path, torch.float32)
    torch.testing.assert_close(logits(model), logits(scaled.eval()), rtol=1e-5, atol=1e-5)
    beside, _ = load_gguf(path, torch.float32, scaled.config)
    assert torch.equal(logits(beside), logits(scaled))
    with pytest.raises(InputError, match=r"rope_freqs\.weight does not fit the rotary positions"):
        load_gguf(write_gguf(tmp_path / "b.gguf", scaled, extra={"rope_freqs.weight": np.ones(3, "f4")}), torch.float32)


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.TQ2_0, Type.MXFP4])
def test_dequantized_as_the_library_and_by_hand(tmp_path: Path, wide: PreTrainedModel, kind: Type) -> None:
    read = read_prequantized(write_gguf(tmp_path / "a.gguf", wide, lambda _: kind), torch.float32)
    for name, linear in stack_linears(wide).items():
        weight = linear.weight.detach().numpy()
        heads = {"q_proj": 8, "k_proj": 2}.get(name.rpartition(".")[2])
        stored = gguf.quantize(weight if heads is None else rows_of_llama_cpp(weight, heads), kind)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        dequantized = gguf.dequantize(stored, kind)
        if kind in BY_HAND:
            by_hand = BY_HAND[kind](stored.reshape(-1, size)).reshape(weight.shape)
            np.testing.assert_array_equal(dequantized, by_hand)
        if heads is not None:  # back to the order of transformers
            order = rows_of_llama_cpp(np.arange(len(weight))[:, None], heads)[:, 0]
            dequantized = dequantized[np.argsort(order)]
        assert np.array_equal(read.weights[f"{name}.weight"].numpy(), dequantized), name
        assert read.matrices[name].size * block == 8 * size * weight.size
    assert read.format.bits == _TYPES[kind.name][0]
    assert read.bits_per_weight == 8 * size / block
    assert set(read.ends) == {"model.embed_tokens", "lm_head"}


def test_every_type_that_the_library_dequantizes_is_known() -> None:
    plain = {Type.F64, Type.F32, Type.F16, Type.BF16}
    random = np.random.default_rng(0)
    for kind in set(Type) - plain:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        try:
            values = gguf.dequantize(random.integers(256, size=(1, size), dtype=np.uint8), kind)
        except NotImplementedError:
            continue
        bits, group = _TYPES[kind.name]
        assert values.size == block
        assert block % group == 0
        # What is stored beside the codes is scales, a tenth to two bits a weight.
        assert -0.4 < 8 * size / block - bits < 2.1, kind.name


def test_types_that_only_llama_cpp_writes(tmp_path: Path, wide: PreTrainedModel) -> None:
    """K- and IQ-quants of random codes; bytes below 64 make scales that are finite."""
    random = np.random.default_rng(0)
    kinds = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
    kinds += ["IQ4_NL", "IQ4_XS", "TQ1_0", "NVFP4"]
    stored: dict[int, np.ndarray] = {}

    def store(values: np.ndarray, kind: Type) -> np.ndarray:
        if kind is Type.F32:
            return values
        block, size = gguf.GGML_QUANT_SIZES[kind]
        stored[kind] = random.integers(64, size=(len(values), values.shape[1] // block * size), dtype=np.uint8)
        return stored[kind]

    place = "model.layers.1.self_attn.v_proj"
    for kind in map(Type.__getitem__, kinds):
        path = write_gguf(
            tmp_path / "a.gguf", wide, lambda name, kind=kind: kind if place in name else Type.F32, quantize=store
        )
        read = read_prequantized(path, torch.float32)
        expected = gguf.dequantize(stored[kind], kind)
        assert np.isfinite(expected).all() and np.ptp(expected) > 0, kind.name
        assert np.array_equal(read.weights[f"{place}.weight"].numpy(), expected), kind.name
        assert read.matrices.keys() == {place}
        assert (read.format.bits, read.format.group_size) == _TYPES[kind.name]


def mixed(name: str) -> Type:
    """As Q4_K_M mixes them, with types that the library writes."""
    if "embed" in name:
        return Type.Q4_0
    return Type.Q8_0 if "lm_head" in name or "v_proj" in name or "down_proj" in name else Type.Q4_1


def test_mixed_widths_count_what_is_stored(tmp_path: Path, wide: PreTrainedModel) -> None:
    read = read_prequantized(write_gguf(tmp_path / "a.gguf", wide, mixed), torch.float32)
    linears = stack_linears(wide)
    eight = sum(one.weight.numel() for name, one in linears.items() if mixed(name) is Type.Q8_0)
    four = sum(one.weight.numel() for one in linears.values()) - eight
    assert (read.format.bits, read.format.group_size) == (4, 32)
    assert read.bits_per_weight == pytest.approx((eight * 8.5 + four * 5) / (eight + four))
    assert read.n_weights == eight + four


def test_held_against_its_original_and_given_its_ends(tmp_path: Path, wide: PreTrainedModel) -> None:
    theirs, read = load_prequantized(write_gguf(tmp_path / "a.gguf", wide, mixed), torch.float32, wide.config)
    check_against_original(read, theirs, wide)
    assert not torch.equal(theirs.lm_head.weight, wide.lm_head.weight)
    put_back_ends(read, theirs, wide)
    assert torch.equal(theirs.lm_head.weight, wide.lm_head.weight)
    assert torch.equal(theirs.model.embed_tokens.weight, wide.model.embed_tokens.weight)
    change = (logits(theirs) - logits(wide)).norm() / logits(wide).norm()
    assert 0.01 < change < 0.5  # it is the model, rounded

    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(wide.config)
    with pytest.raises(MeasureError, match=r"layers\.0\.self_attn\.q_proj of .* is not the original's"):
        check_against_original(read, theirs, other)


def test_mistrals_files_say_llama(tmp_path: Path, wide: PreTrainedModel) -> None:
    torch.manual_seed(0)
    shared = {key: getattr(wide.config, key) for key in ("vocab_size", "hidden_size", "intermediate_size")}
    shared |= {"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32}
    mistral = AutoModelForCausalLM.from_config(MistralConfig(**shared, initializer_range=0.1)).eval()
    path = write_gguf(tmp_path / "a.gguf", mistral, mixed)
    theirs, read = load_prequantized(path, torch.float32, mistral.config)
    check_against_original(read, theirs, mistral)
    assert type(theirs) is type(mistral)


def test_another_embedding_is_told(tmp_path: Path, wide: PreTrainedModel) -> None:
    before = wide.model.embed_tokens.weight.detach().clone()
    wide.model.embed_tokens.weight.data.copy_(before.flip(0))
    path = write_gguf(tmp_path / "a.gguf", wide, mixed)
    wide.model.embed_tokens.weight.data.copy_(before)
    theirs, read = load_prequantized(path, torch.float32, wide.config)
    with pytest.raises(MeasureError, match=r"model\.embed_tokens of .* is not the original's"):
        check_against_original(read, theirs, wide)


def test_rows_in_another_order_are_told(tmp_path: Path, wide: PreTrainedModel) -> None:
    """A converter that forgot to permute the query projection."""
    weight = wide.model.layers[0].self_attn.q_proj.weight
    before = weight.detach().clone()
    order = np.argsort(rows_of_llama_cpp(np.arange(256)[:, None], 8)[:, 0])
    weight.data.copy_(before[order])
    path = write_gguf(tmp_path / "a.gguf", wide, mixed)
    weight.data.copy_(before)
    theirs, read = load_prequantized(path, torch.float32, wide.config)
    with pytest.raises(MeasureError, match=r"layers\.0\.self_attn\.q_proj of .* is not the original's"):
        check_against_original(read, theirs, wide)


def test_what_cannot_be_read_is_named(tmp_path: Path, wide: PreTrainedModel) -> None:
    def refused(message: str, error: type[Exception] = InputError) -> None:
        with pytest.raises(error, match=message):
            load_prequantized(tmp_path / "a.gguf", torch.float32)
        (tmp_path / "a.gguf").unlink()

    write_gguf(tmp_path / "a.gguf", wide)
    refused("none of its matrices is quantized")
    write_gguf(tmp_path / "a.gguf", wide, mixed, extra={"blk.0.attn_sub_norm.weight": np.ones(256, "f4")})
    refused(r"LlamaConfig does not use blk\.0\.attn_sub_norm\.weight", MeasureError)
    scaled = gguf.RopeScalingType.YARN
    write_gguf(tmp_path / "a.gguf", wide, mixed, change=lambda writer: writer.add_rope_scaling_type(scaled))
    refused("rope.scaling.type = 'yarn', which transformers does not take over")
    write_gguf(tmp_path / "a.gguf", wide, mixed, change=lambda writer: writer.add_block_count(40))
    refused("Duplicate|40 layers, and it holds 21 tensors")
    whole = write_gguf(tmp_path / "a.gguf", wide, mixed).read_bytes()
    (tmp_path / "a.gguf").write_bytes(whole[:-100_000])
    refused("take more bytes than it has|cannot|not a readable")
    (tmp_path / "a.gguf").write_bytes(whole[:200])
    refused("its header goes on behind its end")
    (tmp_path / "a.gguf").write_bytes(whole.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_no.weight"))
    refused(r"LlamaConfig does not use blk\.1\.ffn_no", MeasureError)
    (tmp_path / "a.gguf").write_bytes(whole.replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0clips"))
    refused("transformers reads no GGUF files of architecture 'clips'")
    (tmp_path / "a.gguf").write_bytes(b"")
    refused("not a readable GGUF file")
    (tmp_path / "a.gguf").write_bytes(b"GGML" + whole[4:])
    refused("expected GGUF of version 2 or 3")
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(whole)
    with pytest.raises(InputError, match=re.escape("has 2 GGUF files; name one of them with file, such as a.gguf")):
        read_prequantized(tmp_path)


def header(tensors: bytes = b"", count: int = 0, settings: bytes = b"", pairs: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, count, pairs) + settings + tensors


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # 100 tensors that name the same kilobyte of the file: what is dequantized would be 100 times as much.
        (
            header(b"".join(text(b"t%d" % i) + struct.pack("<IQIQ", 1, 256, 0, 0) for i in range(100)), 100)
            + bytes(1024),
            r"its tensors up to t\d \(F32, \[256\]\) take more bytes than it has",
        ),
        (header(text(b"t") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 2, 0), 1), "take more bytes than it has"),
        (header(text(b"t") + struct.pack("<IQQIQ", 2, 32, 0, 2, 0), 1), r"t has the shape \[32, 0\]"),
        (header(text(b"t") + struct.pack("<IQIQ", 1, 33, 2, 0), 1), "rows of 33, which blocks of 32 do not divide"),
        (header(text(b"t") + struct.pack("<IQIQ", 1, 32, 99, 0), 1), "of type 99, which the installed gguf"),
        (header(count=2**60), "claims 1,152,921,504,606,846,976 tensors"),
        (header(pairs=2**60), "1,152,921,504,606,846,976 settings"),
        (header(settings=text(b"a") + struct.pack("<IIQ", 9, 0, 2**50), pairs=1), "more than 2,000,000 entries"),
        (header(settings=text(b"a") + struct.pack("<IIQ", 9, 9, 2), pairs=1), "a value of type 9"),
        (header(settings=text(b"a") + struct.pack("<IQ", 8, 2**63), pairs=1), "goes on behind its end"),
    ],
    ids=lambda given: given if isinstance(given, str) else "file",
)
def test_a_header_claims_no_more_than_its_file_holds(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_header(tmp_path / "a.gguf")
