"""GGUF files, as llama.cpp writes them: dequantized by `gguf`, renamed and put in order by transformers."""

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from qidbayes.errors import InputError
from qidbayes.measure.errors import MeasureError
from qidbayes.measure.inputs.language_model import auto_class
from qidbayes.measure.prequantized.formats import Steps, Stored
from qidbayes.measure.prequantized.gguf_header import check_header
from qidbayes.measure.prequantized.model import Prequantized, assemble

# Bits of a weight's code, and weights that share a scale (of a k-quant: the inner one), by ggml's names.
_TYPES = {
    "Q4_0": (4, 32), "Q4_1": (4, 32), "Q5_0": (5, 32), "Q5_1": (5, 32), "Q8_0": (8, 32), "Q8_1": (8, 32),
    "Q2_K": (2, 16), "Q3_K": (3, 16), "Q4_K": (4, 32), "Q5_K": (5, 32), "Q6_K": (6, 16), "Q8_K": (8, 256),
    "IQ1_S": (1, 32), "IQ1_M": (1, 16), "IQ2_XXS": (2, 32), "IQ2_XS": (2, 16), "IQ2_S": (2, 16), "IQ3_XXS": (3, 32),
    "IQ3_S": (3, 32), "IQ4_NL": (4, 32), "IQ4_XS": (4, 32), "TQ1_0": (2, 256), "TQ2_0": (2, 256),
    "MXFP4": (4, 32), "NVFP4": (4, 16),
}  # fmt: skip
_PLAIN = ("F64", "F32", "F16", "BF16")
_ROPE_FACTORS = "rope_freqs.weight"
_TENSORS_PER_LAYER = 4  # at least


@dataclass(frozen=True)
class GGMLType:
    """One of ggml's types.

    Attributes
    ----------
    type
        Its name, such as `Q4_K`.
    bits, group_size
        Bits of a weight's code, and weights that share a scale.
    """

    method: ClassVar[str] = "gguf"
    rescaled: ClassVar[bool] = False

    type: str
    bits: int
    group_size: int


def load_gguf(
    path: Path, dtype: torch.dtype, config: PreTrainedConfig | None = None
) -> tuple[PreTrainedModel, Prequantized]:
    """Read a GGUF file into a plain model of its architecture.

    Parameters
    ----------
    path
        The file.
    dtype
        What its tensors are returned in.
    config
        The architecture's settings; None for those that the file's metadata tell, which lack some.

    Raises
    ------
    InputError
        If the file is damaged, is of an architecture or a type that transformers or gguf cannot read, leaves tensors of
        the model out, or (without `config`) scales rotary positions in a way that transformers does not take over.
    MeasureError
        If it holds tensors that the architecture does not use.
    """
    file = _File(path, config)
    read = file.read(dtype)
    model = assemble(str(path), file.config, read.weights, dtype)
    if config is None and file.rope_factors is not None:
        _divide_frequencies(path, model, file.rope_factors)
    return model, read


def read_gguf(path: Path, dtype: torch.dtype) -> Prequantized:
    """Read a GGUF file's tensors, by the names that transformers has for them; see `load_gguf`."""
    return _File(path, None).read(dtype)


class _File:
    """A GGUF file, its header checked, and the architecture whose names its tensors get."""

    def __init__(self, path: Path, config: PreTrainedConfig | None) -> None:
        self.path = path
        self.rope_factors: Tensor | None = None
        _require_gguf()
        tensors = check_header(path)
        from gguf import GGUFReader
        from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

        try:
            self._reader = GGUFReader(path)
            self._architecture = str(self._reader.fields["general.architecture"].contents())
        except Exception as error:  # it says what is wrong by whatever its checks happen to raise
            raise InputError(f"{path}: not a readable GGUF file ({error})") from error
        if config is None and self._architecture not in GGUF_SUPPORTED_ARCHITECTURES:
            raise InputError(f"{path}: transformers reads no GGUF files of architecture {self._architecture!r}")
        self.config = copy.deepcopy(config) or self._config()
        layers = getattr(self.config.get_text_config(), "num_hidden_layers", 0)
        if not isinstance(layers, int) or layers * _TENSORS_PER_LAYER > tensors:
            raise InputError(f"{path}: its metadata say {layers} layers, and it holds {tensors} tensors")
        self._names, self._ends = self._name_map()

    def _config(self) -> PreTrainedConfig:
        scaling = self._reader.fields.get(f"{self._architecture}.rope.scaling.type")
        if scaling is not None and scaling.contents() != "none":
            raise InputError(
                f"{self.path}: rope.scaling.type = {scaling.contents()!r}, which transformers does not take over from "
                "GGUF; measure it beside its original, whose settings are then used"
            )
        try:
            made: PreTrainedConfig = AutoConfig.from_pretrained(
                self.path.parent, gguf_file=self.path.name, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:
            raise InputError(f"{self.path}: its metadata describe no model ({error})") from error
        return made

    def _name_map(self) -> tuple[dict[str, str], set[str]]:
        """Names of transformers by those of the file, and which are the embedding and the head."""
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

        try:
            with torch.device("meta"):
                model = auto_class(self.config).from_config(self.config)
            described = sum(t.numel() for t in (*model.parameters(), *model.buffers()))
            processor: Any = TENSOR_PROCESSORS.get(self._architecture, TensorProcessor)
            self._processor = processor(config=self.config.to_dict())
            # By the file's word for the architecture: Mistral's files say llama.
            names = get_gguf_hf_weights_map(
                model, self._processor, self._architecture, self.config.get_text_config().num_hidden_layers
            )
        except Exception as error:
            raise InputError(f"{self.path}: its metadata describe no model ({error})") from error
        size = self.path.stat().st_size
        if described > 8 * size:  # not even a bit for each
            raise InputError(f"{self.path}: its metadata describe {described:,} parameters, and it has {size:,} bytes")
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        return names, {name for name, module in model.named_modules() if any(module is end for end in ends)}

    def read(self, dtype: torch.dtype) -> Prequantized:
        """Dequantize every tensor."""
        weights: dict[str, Tensor] = {}
        found: dict[str, Stored] = {}
        for tensor in self._reader.tensors:
            weight = self._dequantized(tensor)
            if tensor.name == _ROPE_FACTORS:
                self.rope_factors = weight
                continue
            name = self._names.get(tensor.name)
            if name is None:
                raise MeasureError(f"{self.path}: {type(self.config).__name__} does not use {tensor.name}")
            kind = tensor.tensor_type.name
            if kind not in _PLAIN:
                found[name.removesuffix(".weight")] = self._stored(tensor, weight)
            weights[name] = weight.to(dtype)
        return Prequantized(
            {name: one for name, one in found.items() if name not in self._ends},
            weights,
            {name: one for name, one in found.items() if name in self._ends},
        )

    def _stored(self, tensor: Any, weight: Tensor) -> Stored:
        if weight.dim() != 2:
            raise InputError(f"{self.path}: {tensor.name} is quantized and of shape {list(weight.shape)}")
        grid = GGMLType(tensor.tensor_type.name, *_TYPES[tensor.tensor_type.name])
        steps = Steps.of_values(weight, grid.bits, grid.group_size)
        return Stored(grid, (weight.shape[0], weight.shape[1]), 8 * int(tensor.n_bytes), steps)

    def _dequantized(self, tensor: Any) -> Tensor:
        """A tensor with its rows as transformers orders them, in float32."""
        from gguf import dequantize

        kind = tensor.tensor_type.name
        if kind not in _PLAIN and kind not in _TYPES:
            raise InputError(f"{self.path}: {tensor.name} is {kind}; accepted: {', '.join((*_PLAIN, *_TYPES))}")
        try:
            values = dequantize(tensor.data, tensor.tensor_type)
            done = self._processor.process(
                values, tensor.name, tensor_key_mapping=self._names, parsed_parameters={"tensors": {}}
            )
            weight = torch.from_numpy(np.array(done.weights, dtype=np.float32))
        except Exception as error:
            raise InputError(f"{self.path}: {tensor.name} cannot be dequantized ({error})") from error
        if done.name is None:
            raise InputError(f"{self.path}: {tensor.name} is not the matrix of one linear; such stacks are not read")
        return weight


@cache
def _require_gguf() -> None:
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise InputError(f"reading GGUF files needs a package ({error}); pip install 'qidbayes[measure]'") from error


def _divide_frequencies(path: Path, model: PreTrainedModel, factors: Tensor) -> None:
    """Apply what a file says of its rotary frequencies, each of which llama.cpp divides by its factor."""
    rotary = getattr(model.get_decoder(), "rotary_emb", None)  # type: ignore[no-untyped-call]
    frequencies = getattr(rotary, "inv_freq", None)
    if not isinstance(frequencies, Tensor) or frequencies.shape != factors.shape or not bool((factors > 0).all()):
        raise InputError(f"{path}: {_ROPE_FACTORS} does not fit the rotary positions of {type(model).__name__}")
    frequencies.div_(factors)
