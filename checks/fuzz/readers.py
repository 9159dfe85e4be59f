"""The readers under test: for each, valid files to begin with, what is done to them, and what is asked of it."""

import io
import json
import random
import shutil
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from damage import NUMBERS, damaged_bytes, damaged_document, damaged_text

from qidbayes.errors import InputError
from qidbayes.resources import shipped

type Case = tuple[Callable[[], object], tuple[type[Exception], ...]]
"""What to call, and what it may raise."""


@dataclass(frozen=True)
class Reader:
    """A reader: what it reads, and how to make the files for one case in a folder and call it."""

    what: str
    prepare: Callable[[Path], Callable[[random.Random], Case]]
    warm_up: int = 100  # cases before the hook looks: they import what is imported late


def laws(folder: Path) -> Callable[[random.Random], Case]:
    """Text of law files, of the shipped ones and pieces of several."""
    from qidbayes.law import parse_law

    texts = [path.read_text(encoding="utf-8") for path in sorted(shipped("models").glob("*.toml"))]

    def case(rng: random.Random) -> Case:
        text = damaged_text(rng.choice(texts), texts, rng)
        return lambda: parse_law(text), (InputError,)

    return case


def equations(folder: Path) -> Callable[[random.Random], Case]:
    """Equations alone: words of the language in any order, and damage to the shipped ones."""
    from qidbayes.law import law_names, load_law
    from qidbayes.law.expression import parse

    words = ["k", "N", "D", "P", "exp(", "log(", "sqrt(", "(", ")", "+", "-", "*", "/", "**", " ", "2", "0.5", *NUMBERS]
    words += ["lambda", "if", "for", "in", "[", "]", ".", "_", "__import__", "'", ":=", "@", "//", "%", "~", "\n", "\\"]
    texts = [load_law(name).equation for name in law_names()]

    def case(rng: random.Random) -> Case:
        if rng.random() < 0.5:
            text = "".join(rng.choice(words) for _ in range(rng.randint(1, 30)))
        else:
            text = damaged_text(rng.choice(texts), texts, rng)
        return lambda: parse(text), (InputError,)

    return case


def plans(folder: Path) -> Callable[[random.Random], Case]:
    """Plan files."""
    from qidbayes.measure import load_plan

    found = sorted(shipped("measurements").glob("*/plan.toml"))
    texts = [path.read_text(encoding="utf-8") for path in found if path.stat().st_size < 10_000]
    path = folder / "plan.toml"

    def case(rng: random.Random) -> Case:
        text = damaged_text(rng.choice(texts), texts, rng)
        content = damaged_bytes(text.encode("utf-8", "surrogatepass"), rng) if rng.random() < 0.1 else text.encode()
        path.write_bytes(content)
        return lambda: load_plan(path), (InputError,)

    return case


def csv_tables(folder: Path) -> Callable[[random.Random], Case]:
    """Tables as CSV: twelve rows of the shipped ones."""
    from qidbayes.table import read_table

    texts = []
    for name in ("pythia/pythia.csv", "spectra/spectra.csv", "tiny/tiny.csv", "pythia/awq-bnb.csv"):
        lines = (shipped("measurements") / name).read_text(encoding="utf-8").splitlines()
        texts.append("\n".join(lines[:12]) + "\n")
    path = folder / "mine.csv"

    def case(rng: random.Random) -> Case:
        text = damaged_text(rng.choice(texts), texts, rng)
        content = damaged_bytes(text.encode(), rng) if rng.random() < 0.2 else text.encode()
        path.write_bytes(content)
        return lambda: read_table(path), (InputError,)

    return case


def parquet_tables(folder: Path) -> Callable[[random.Random], Case]:
    """Tables as Parquet: damaged bytes, and sound files of columns that a table does not have."""
    import polars as pl

    from qidbayes.table import load_table, read_table, write_table

    table = load_table("pythia").head(12)
    write_table(table, folder / "sound.parquet")
    content = (folder / "sound.parquet").read_bytes()
    path = folder / "mine.parquet"
    columns = [
        pl.Series([None] * 12), pl.Series([True] * 12), pl.Series([[1, 2]] * 12), pl.Series([{"a": 1}] * 12),
        pl.Series([b"\0\xff"] * 12), pl.Series(["x", None] * 6), pl.Series([2**63] * 12, dtype=pl.UInt64),
        pl.Series([float("nan"), float("inf"), -0.0] * 4), pl.Series(range(12), dtype=pl.Int8),
        pl.Series(range(12)).cast(pl.Date), pl.Series(range(12)).cast(pl.Datetime("us", "UTC")),
        pl.Series(range(12)).cast(pl.Duration), pl.Series(range(12)).cast(pl.Time),
        pl.Series(range(12)).cast(pl.Decimal(20, 2)), pl.Series(["a"] * 12, dtype=pl.Categorical),
        pl.Series(["a"] * 12, dtype=pl.Enum(["a"])), pl.Series(["1e9", "7B", " 3 "] * 4),
        pl.Series(range(12), dtype=pl.Int128), pl.Series([[0.5] * 3] * 12, dtype=pl.Array(pl.Float64, 3)),
    ]  # fmt: skip

    def case(rng: random.Random) -> Case:
        if rng.random() < 0.6:
            path.write_bytes(damaged_bytes(content, rng))
        else:
            frame = table
            for _ in range(rng.randint(1, 4)):
                name = rng.choice([*table.columns, "x", "", "\0"])
                frame = frame.with_columns(rng.choice(columns).alias(name))
            if rng.random() < 0.2:
                frame = frame.drop(rng.choice(frame.columns))
            file = io.BytesIO()
            metadata = {"qidbayes.schema_version": rng.choice(("1", "2", "", "\0"))} if rng.random() < 0.3 else None
            frame.slice(rng.randint(0, 11), rng.randint(0, 12)).write_parquet(file, metadata=metadata)
            path.write_bytes(file.getvalue())
        return lambda: read_table(path), (InputError,)

    return case


def fits(folder: Path) -> Callable[[random.Random], Case]:
    """Saved fits: damaged bytes, and what their attributes say."""
    from made import NESTED, SMOOTH, unified_fit

    from qidbayes.posterior import load_fit, store
    from qidbayes.posterior.store import sealed, unsealed
    from qidbayes.table import load_table

    table = load_table("pythia").head(12)
    data = table.select("suite", "model", "revision", "n_params", "tokens", "method", "bits", "group_size", "dataset",
                        "qid")  # fmt: skip
    constants = {"k_ref": [1.0, 2.0, 0.5, 0.1], "beta": [0.5, 0.4, 0.6, 0.5], "alpha": 0.2, "gamma": 5.0}
    made_fits = [unified_fit(constants, NESTED, data, {"a": 0.0, "b": 0.1}), unified_fit(constants, SMOOTH, data)]
    sound = []
    for fit in made_fits:
        fit.save(folder / "sound.nc")
        said = store._attributes(fit)
        content = (folder / "sound.nc").read_bytes()
        # The index is read, and of the NetCDF before it the numbers; a file made in memory is half zeros.
        index = content.rfind(store._INDEX)
        sound.append((fit, said, content, [i for i, byte in enumerate(content) if byte or i >= index]))
    path = folder / "case.nc"

    def case(rng: random.Random) -> Case:
        fit, said, content, places = rng.choice(sound)
        kind = rng.random()
        if kind < 0.3:  # an accident
            path.write_bytes(damaged_bytes(content, rng, places))
        elif kind < 0.7:  # somebody's intent
            path.write_bytes(sealed(damaged_bytes(unsealed(content, "sound"), rng, places)))
        else:
            attributes = dict(said)
            for name in rng.sample(("law", "diagnostics", "attributes"), rng.randint(1, 2)):
                attributes[name] = json.dumps(damaged_document(json.loads(attributes[name]), rng))
            with patch.object(store, "_attributes", lambda _: attributes):
                fit.save(path)

        def ask() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read = load_fit(path)
                read.summary()
                read.predict(n_params=1e9, tokens=1e12, bits=4.0)
                repr(read), read.diagnostics.problems(), read.diagnostics.remarks()

        return ask, (InputError,)

    return case


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_header(header: Any, body: bytes, rng: random.Random) -> bytes:
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        text = damaged_bytes(text, rng)
    length = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**32, 2**63, 2**64 - 1, len(text) + 1))
    return struct.pack("<Q", length) + text + body


def _damaged_safetensors(content: bytes, rng: random.Random) -> bytes:
    header, body = _header(content)
    kind = rng.random()
    if kind < 0.3:
        return damaged_bytes(content, rng)
    if kind < 0.6:
        return _with_header(damaged_document(header, rng), body, rng)
    name = rng.choice([n for n in header if n != "__metadata__"])
    tensor = header[name]
    match rng.randrange(3):
        case 0:
            dtypes = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "C64", "X")
            tensor["dtype"] = rng.choice(dtypes)
        case 1:
            shapes = ([], [0], [1], [2**40], [-1], [2**32, 2**32], [1] * 40, list(reversed(tensor["shape"])))
            tensor["shape"] = rng.choice(shapes)
        case _:
            ends = (0, 1, -1, len(body), len(body) + 8, 2**63, tensor["data_offsets"][0])
            tensor["data_offsets"] = [rng.choice(ends), rng.choice(ends)]
    return _with_header(header, body, rng)


def prequantized(folder: Path) -> Callable[[random.Random], Case]:
    """Quantized checkpoints: config.json, the index, and safetensors with a quantized linear in each format."""
    import torch
    from safetensors.torch import save

    def linear(**tensors: torch.Tensor) -> bytes:
        named = {f"model.layers.0.q.{name}": tensor for name, tensor in tensors.items()}
        return save({**named, "model.norm.weight": torch.ones(8)})

    int32, bitsandbytes = torch.int32, {"quant_method": "bitsandbytes"}
    sound: list[tuple[dict[str, Any], bytes]] = [
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}},
            linear(
                qweight=torch.ones(8, 8, dtype=int32),
                qzeros=torch.ones(2, 1, dtype=int32),
                scales=torch.ones(2, 8, dtype=torch.float16),
                g_idx=(torch.arange(64) // 32).to(int32),
            ),
        ),
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}},
            linear(
                qweight=torch.ones(64, 2, dtype=int32),
                qzeros=torch.ones(2, 2, dtype=int32),
                scales=torch.ones(2, 16, dtype=torch.float16),
            ),
        ),
        (
            {"quantization_config": {**bitsandbytes, "load_in_8bit": True}},
            linear(weight=torch.ones(8, 8, dtype=torch.int8), SCB=torch.ones(8)),
        ),
        (
            {"quantization_config": {**bitsandbytes, "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}},
            linear(**_four_bit()),
        ),
    ]
    more = {"dynamic": {"+:.*": {"bits": 8}}}, {"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq"}
    sound += [({"quantization_config": sound[0][0]["quantization_config"] | said}, sound[0][1]) for said in more]
    return _folders(folder / "model", sound)


def compressed(folder: Path) -> Callable[[random.Random], Case]:
    """compressed-tensors checkpoints: a linear by each of that library's packings, and several schemes."""
    import torch
    from measure.prequantized.test_compressed import SCHEMES, declared
    from measure.prequantized.test_compressed import compressed as parts_of
    from safetensors.torch import save

    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    sound: list[tuple[dict[str, Any], bytes]] = []
    for name in SCHEMES:
        named = {f"model.layers.0.q.{part}": tensor for part, tensor in parts_of(weight, name).items()}
        content = save({**named, "model.norm.weight": torch.ones(8)})
        sound += [({"quantization_config": declared(*schemes)}, content) for schemes in ((name,), (name, "w3-channel"))]
    return _folders(folder / "model", sound)


def _folders(place: Path, sound: list[tuple[dict[str, Any], bytes]]) -> Callable[[random.Random], Case]:
    """Checkpoints with one of these configurations and weights, either of which is damaged."""
    from qidbayes.measure.prequantized.reader import read_prequantized

    def case(rng: random.Random) -> Case:
        config, weights = rng.choice(sound)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        text = json.dumps(config)
        kind = rng.random()
        if kind < 0.35:
            text = json.dumps(damaged_document(config, rng))
        elif kind < 0.45:
            text = damaged_bytes(text.encode(), rng).decode("latin-1")
        else:
            weights = _damaged_safetensors(weights, rng)
        (place / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        (place / "model.safetensors").write_bytes(weights)
        if rng.random() < 0.15:
            index = {"weight_map": {"model.layers.0.q.qweight": "model.safetensors"}}
            text = json.dumps(damaged_document(index, rng))
            (place / "model.safetensors.index.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        return lambda: read_prequantized(place), (InputError,)

    return case


def _four_bit() -> dict[str, Any]:
    import torch

    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "shape": [8, 16], "dtype": "float16"}).encode()
    return {
        "weight": torch.ones(64, 1, dtype=torch.uint8),
        "weight.absmax": torch.ones(2),
        "weight.quant_map": torch.linspace(-1, 1, 16),
        "weight.quant_state.bitsandbytes__nf4": torch.frombuffer(bytearray(state), dtype=torch.uint8),
    }


def gguf_files(folder: Path) -> Callable[[random.Random], Case]:
    """GGUF: damaged bytes, the numbers of the header at the ends of their ranges, and other types of tensors."""
    import torch
    from gguf import GGMLQuantizationType, GGUFReader
    from measure.prequantized.ggufs import write_gguf
    from transformers import AutoModelForCausalLM, LlamaConfig
    from transformers.utils import logging

    from qidbayes.measure.errors import MeasureError
    from qidbayes.measure.prequantized.reader import load_prequantized, read_prequantized

    logging.set_verbosity(50)
    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    types = {"embed": "Q8_0", "q_proj": "Q4_0", "k_proj": "Q5_1", "down": "MXFP4"}
    path = folder / "case.gguf"

    def kind(name: str) -> Any:
        return GGMLQuantizationType[next((kind for end, kind in types.items() if end in name), "F16")]

    def with_tokens(writer: Any) -> None:
        writer.add_token_list([f"t{i}" for i in range(32)])
        writer.add_token_scores([0.5] * 32)

    write_gguf(path, AutoModelForCausalLM.from_config(config), kind, change=with_tokens)
    content = path.read_bytes()
    reader = GGUFReader(path)
    header = list(range(reader.data_offset))
    # Where numbers of the header are, and how many bytes they take.
    numbers = [(0, 4), (4, 4), (8, 8), (16, 8)]
    for field in (*reader.fields.values(), *(tensor.field for tensor in reader.tensors)):
        at = field.offset
        for part in field.parts:
            if part.dtype.itemsize >= 4:
                numbers += [(at + i * part.dtype.itemsize, part.dtype.itemsize) for i in range(part.size)]
            at += part.nbytes
    del reader
    numbers = [(at, size) for at, size in numbers if at + size <= len(header)]

    def case(rng: random.Random) -> Case:
        found = content
        if rng.random() < 0.4:
            found = damaged_bytes(content, rng, rng.choice(((), header)))
        else:
            edited = bytearray(content)
            for _ in range(rng.choice((1, 1, 2, 4))):
                at, size = rng.choice(numbers)
                end = rng.choice(
                    (0, 1, 2, 3, 7, 8, 31, 64, 255, 2**16, 2**31, 2**32, 2**40, 2**63, 2**64 - 1, len(content))
                )
                edited[at : at + size] = (end % 2 ** (8 * size)).to_bytes(size, "little")
            found = bytes(edited)
        path.write_bytes(found)
        # Making a model leaves threads of transformers behind, after which the worker begins anew, for ten seconds.
        read = load_prequantized if rng.random() < 0.0001 else read_prequantized
        return lambda: read(path), (InputError, MeasureError)

    return case


def checkpoints(folder: Path) -> Callable[[random.Random], Case]:
    """Plain checkpoints: config.json and safetensors of a shipped tiny model."""
    import torch
    from transformers.utils import logging

    from qidbayes.measure.errors import MeasureError
    from qidbayes.measure.inputs.checkpoint import load_model
    from qidbayes.measure.plan.plan import Checkpoint, Source

    logging.set_verbosity(50)
    logging.disable_progress_bar()
    source = shipped("measurements") / "tiny" / "checkpoints" / "64x2" / "step1024"
    config = json.loads((source / "config.json").read_text())
    weights = (source / "model.safetensors").read_bytes()
    place = folder / "model"

    def case(rng: random.Random) -> Case:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        text, content = json.dumps(config), weights
        kind = rng.random()
        if kind < 0.5:
            text = json.dumps(damaged_document(config, rng))
        elif kind < 0.6:
            text = damaged_bytes(text.encode(), rng).decode("latin-1")
        else:
            content = _damaged_safetensors(weights, rng)
        (place / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        (place / "model.safetensors").write_bytes(content)
        asked = Checkpoint("tiny", Source("tiny", place), "main", 100_096, 1_000_000, None, None)
        return lambda: load_model(place, asked, "float32", torch.device("cpu")), (InputError, MeasureError)

    return case


RUNS = Path(__file__).parents[2] / "tests" / "data" / "runs"
READ_ALONE = 0.9
"""Of the cases of runs, those of the damaged file alone; the others are paired and made a table, ten times as dear."""


def lm_eval(folder: Path) -> Callable[[random.Random], Case]:
    """Results of lm-eval and their samples: of a 16-bit run and a quantized one, one of the four files damaged."""
    from qidbayes.table.runs.imported import import_runs
    from qidbayes.table.runs.lm_eval import read_results

    found = sorted(path for path in (RUNS / "lm-eval").rglob("*") if path.is_file() and "3bit" not in str(path))
    texts = {path: path.read_text(encoding="utf-8") for path in found}
    places = {path: folder / f"{path.parent.name}" / path.name for path in found}
    for place in places.values():
        place.parent.mkdir(exist_ok=True)
    results = [place for place in places.values() if place.name.startswith("results")]

    def case(rng: random.Random) -> Case:
        for path, place in places.items():
            place.write_text(texts[path], encoding="utf-8")
        path = rng.choice(found)
        text, kind = texts[path], rng.random()
        if kind < 0.5 and path.suffix == ".json":
            content = json.dumps(damaged_document(json.loads(text), rng)).encode("utf-8", "surrogatepass")
        elif kind < 0.5:
            lines = text.splitlines()
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(damaged_document(json.loads(lines[at]), rng))
            content = "\n".join(lines).encode("utf-8", "surrogatepass")
        elif kind < 0.8:
            content = damaged_text(text, list(texts.values()), rng).encode("utf-8", "surrogatepass")
        else:
            content = damaged_bytes(text.encode(), rng)
        places[path].write_bytes(content)
        values = {"n_params": 1e9, "n_eval_tokens": 2588}
        if rng.random() < READ_ALONE:
            damaged = next(place for place in results if place.parent == places[path].parent)
            return lambda: read_results(damaged), (InputError,)
        return lambda: import_runs(results, values), (InputError,)

    return case


def llama_cpp(folder: Path) -> Callable[[random.Random], Case]:
    """Logs of llama-perplexity: three, one of them damaged, and lines of older versions among them."""
    from qidbayes.table.runs.imported import import_runs
    from qidbayes.table.runs.llama_cpp import read_log

    names = ("F16", "Q4_0.ppl", "Q3_K_M.kl")
    logs = {name: RUNS / "llama.cpp" / f"SmolLM2-135M-Instruct-{name}.log" for name in names}
    texts = {name: path.read_text(encoding="utf-8") for name, path in logs.items()}
    older = (
        "llama_model_loader: loaded meta data with 2 key-value pairs and 9 tensors from x-7b-Q4_K_M.gguf (version 3)\n"
        "llama_model_loader: - kv   3: quantize.imatrix.dataset str = data/calibration_v3.txt\n"
        "llama_model_loader: - kv   3: general.name str = x 7B\nllm_load_print_meta: model ftype      = Q4_K - Medium\n"
        "print_info: file type   = IQ3_XXS - 3.0625 bpw\nprint_info: file size   = 3.80 GiB (4.84 BPW)\n"
        "build: 4920 (d84635b1) with cc\nllama_new_context_with_model: n_ctx = 512\n"
    )
    places = {name: folder / path.name for name, path in logs.items()}

    def case(rng: random.Random) -> Case:
        for name, place in places.items():
            place.write_text(texts[name], encoding="utf-8")
        name = rng.choice(names)
        text = (older if rng.random() < 0.3 else "") + texts[name]
        text = damaged_text(text, [*texts.values(), older], rng)
        content = text.encode("utf-8", "surrogatepass")
        places[name].write_bytes(damaged_bytes(content, rng) if rng.random() < 0.3 else content)
        if rng.random() < READ_ALONE:
            return lambda: read_log(places[name]), (InputError,)
        values = {"n_params": 1e8} if rng.random() < 0.7 else {"n_params": 1e8, "model": "x"}
        return lambda: import_runs(list(places.values()), values), (InputError,)

    return case


def labels(folder: Path) -> Callable[[random.Random], Case]:
    """Labels of runs as CSV."""
    from qidbayes.table.read import read_raw
    from qidbayes.table.runs.imported import import_runs
    from qidbayes.table.runs.template import labels as to_fill_in

    logs = [RUNS / "llama.cpp" / f"SmolLM2-135M-Instruct-{name}.log" for name in ("F16", "Q4_0.ppl")]
    # Where this checkout lies must not change what a case is.
    text = to_fill_in(logs).write_csv().replace(f"{logs[0].parent}/", "logs/").replace(",,", ",106M,", 1)
    path = folder / "labels.csv"

    def case(rng: random.Random) -> Case:
        path.write_bytes(damaged_text(text, [text], rng).encode("utf-8", "surrogatepass"))
        return lambda: import_runs(logs, {"n_params": 1e8}, read_raw(path)), (InputError,)

    return case


def configs(folder: Path) -> Callable[[random.Random], Case]:
    """Configurations that a size is counted of: a dense model, experts, a multimodal one."""
    from transformers import Gemma3Config, GPTNeoXConfig, MixtralConfig
    from transformers.utils import logging

    from qidbayes.measure.inputs.sizes import size_of

    logging.set_verbosity(50)
    small = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    made = [
        GPTNeoXConfig(**small).to_dict(),
        MixtralConfig(**small, num_local_experts=4, num_key_value_heads=2).to_dict(),
        Gemma3Config(text_config=small, vision_config={"hidden_size": 32, "num_hidden_layers": 1}).to_dict(),
    ]
    sound = [json.loads(json.dumps(config, default=str)) for config in made]
    path = folder / "config.json"

    def case(rng: random.Random) -> Case:
        config = rng.choice(sound)
        if rng.random() < 0.8:
            content = json.dumps(damaged_document(config, rng)).encode("utf-8", "surrogatepass")
        else:
            content = damaged_bytes(json.dumps(config).encode(), rng)
        path.write_bytes(content)
        return lambda: size_of(path), (InputError,)

    return case


def several(folder: Path) -> Callable[[random.Random], Case]:
    """Cases of every reader but plain checkpoints in turn: what they import, seconds of it, is imported once."""
    cases = []
    for name in READERS.keys() - {"checkpoints", SEVERAL}:
        place = folder / name
        place.mkdir()
        cases.append((name, READERS[name].prepare(place)))
    cases.sort()
    return lambda rng: rng.choice(cases)[1](rng)


SEVERAL = "several"
READERS = {
    "laws": Reader("TOML of laws", laws),
    "equations": Reader("equations", equations),
    "plans": Reader("TOML of plans", plans),
    "csv": Reader("tables as CSV", csv_tables),
    "parquet": Reader("tables as Parquet", parquet_tables),
    "lm-eval": Reader("results and samples of lm-eval", lm_eval),
    "llama.cpp": Reader("logs of llama-perplexity", llama_cpp),
    "labels": Reader("labels of runs", labels),
    "configs": Reader("config.json of a model to be counted", configs),
    "fits": Reader("saved fits (NetCDF)", fits),
    "prequantized": Reader("quantized checkpoints: config.json, index, safetensors", prequantized),
    "compressed": Reader("compressed-tensors checkpoints: config.json, safetensors", compressed),
    "gguf": Reader("GGUF files", gguf_files),
    "checkpoints": Reader("plain checkpoints: config.json, safetensors", checkpoints),
    SEVERAL: Reader("all of them but the last, in one process", several, warm_up=1300),
}
