"""Tiny decoders: one of each architecture with random weights, and one that has learned something."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OlmoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "pad_token_id": 0}
ALTERNATING = {**GROUPED, "head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}

# By the model type, its configuration and how many linears a layer has: counted by hand from the architecture.
ARCHITECTURES: dict[str, tuple[PreTrainedConfig, int]] = {
    "gpt_neox": (GPTNeoXConfig(**SHAPE), 4),
    "gpt_neox-sequential": (GPTNeoXConfig(**SHAPE, use_parallel_residual=False), 4),
    "llama": (LlamaConfig(**GROUPED), 7),
    "mistral": (MistralConfig(**GROUPED), 7),
    "qwen2": (Qwen2Config(**GROUPED), 7),
    "qwen3": (Qwen3Config(**GROUPED, head_dim=8), 7),
    "olmo": (OlmoConfig(**GROUPED), 7),
    "olmo2": (Olmo2Config(**GROUPED), 7),
    "gemma": (GemmaConfig(**GROUPED, head_dim=8), 7),
    "gemma2": (Gemma2Config(**ALTERNATING), 7),
    "gemma3": (Gemma3TextConfig(**ALTERNATING), 7),
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small lose more to waiting threads than they gain: on a busy machine, a factor of twenty."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=ARCHITECTURES)
def decoder(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, int]:
    """A random decoder and its number of linears a layer."""
    config, per_layer = ARCHITECTURES[request.param]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval(), per_layer


@pytest.fixture
def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(LlamaConfig(**GROUPED)).eval()


@pytest.fixture
def tokens() -> Tensor:
    """`[5, 12]`: a number of sequences that batches of 2 do not divide."""
    return torch.randint(64, (5, 12), generator=torch.Generator().manual_seed(1))


def sentences(n: int, length: int, seed: int) -> Tensor:
    """Sequences of a Markov chain that goes from each of 64 symbols to one of four: ln 4 = 1.39 nats at best."""
    successors = torch.randint(64, (64, 4), generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(64, (n, length), generator=generator)
    for i in range(1, length):
        text[:, i] = successors[text[:, i - 1], torch.randint(4, (n,), generator=generator)]
    return text


@pytest.fixture(scope="session")
def trained_weights() -> tuple[GPTNeoXConfig, dict[str, Tensor]]:
    torch.manual_seed(0)
    config = GPTNeoXConfig(**{**SHAPE, "hidden_size": 64, "intermediate_size": 256})
    model = AutoModelForCausalLM.from_config(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=120)
    for step in range(120):
        batch = sentences(32, 32, seed=step)
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return config, model.state_dict()


@pytest.fixture
def trained(trained_weights: tuple[GPTNeoXConfig, dict[str, Tensor]]) -> PreTrainedModel:
    """A fresh copy of a GPT-NeoX that learned `sentences`."""
    config, weights = trained_weights
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(weights)
    return model.eval()


@pytest.fixture(scope="session")
def calibration() -> Tensor:
    return sentences(32, 64, seed=10_001)


@pytest.fixture(scope="session")
def loss() -> Callable[[PreTrainedModel], float]:
    """Nats per token on held-out sentences."""
    held_out = sentences(64, 64, seed=10_002)

    @torch.no_grad()
    def of(model: PreTrainedModel) -> float:
        return float(model(input_ids=held_out, labels=held_out).loss)

    return of
