"""How many parameters one token uses: of a mixture of experts, all but the experts that are not chosen for it."""

import re

from torch import nn
from transformers import PreTrainedModel

from qidbayes.measure.inputs.checkpoint import count_parameters
from qidbayes.measure.inputs.language_model import language_model

# Parameters of one expert's own module, of one of `qidbayes.measure.inputs.experts`, and of all in one tensor.
_EXPERT = re.compile(r"(?:^|\.)experts\.(?:(?P<number>[0-9]+)\.|(?P<linear>\w+\.[0-9]+)\.|(?P<fused>\w+)$)")
_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
_CHOSEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "top_k_experts",
    "num_selected_experts",
)


def active_parameters(model: PreTrainedModel) -> int | None:
    """Count the parameters outside the token embedding and the output head that one token uses.

    Routers and shared experts count whole. Of a dense model it is `count_parameters`; None where the configuration does
    not say how many experts are chosen.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM, MixtralConfig
    >>> model = AutoModelForCausalLM.from_config(MixtralConfig(
    ...     vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
    ...     num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=1))
    >>> count_parameters(model) - active_parameters(model) == 3 * (3 * 16 * 24)  # three experts of three matrices
    True
    """
    total, config = count_parameters(model), model.config.get_text_config(decoder=True)
    known = _first(config, _COUNTS)
    decoder = language_model(model)
    experts = sum(p.numel() for name, p in decoder.named_parameters() if _is_of_experts(name, p, known))
    if not experts:
        return total
    chosen = _first(config, _CHOSEN)
    if known is None or chosen is None or chosen > known:
        return None
    return total - experts + experts * chosen // known


def _first(config: object, names: tuple[str, ...]) -> int | None:
    return next((v for name in names if isinstance(v := getattr(config, name, None), int) and v > 0), None)


def _is_of_experts(name: str, parameter: nn.Parameter, count: int | None) -> bool:
    match = _EXPERT.search(name)
    if match is None:
        return False
    return not match["fused"] or (parameter.ndim > 1 and parameter.shape[0] == count)
