"""What a plan will take, before anything is downloaded: cells, bytes and GPU-hours.

The cost model has one GPU, an H200 with an H100's memory. It takes a decoder of N non-embedding parameters for one of
Pythia's, whose width it reads off their sizes, with L = N/(12·width²) layers. Per checkpoint:

- the sweep carries T = (1 + V)·(evaluation tokens) + P·G·(calibration tokens) tokens past the layers, for V
  quantizations of which G are GPTQ; P is 1 where calibration passes can wait within a layer and 2.5 where memory is too
  short for that; a token costs 24·width² + 2·length·width operations a layer; GPTQ's second moments take 19·width²
  operations more;
- the head costs 2·width·vocabulary operations a token that is evaluated;
- GPTQ factorizes and spreads errors, 69·width³ operations in float32 a layer, and rounds column after column, which is
  so little work at a time that it has a price a layer;
- hidden states that would take more than half of the GPU's memory, and a model that would, travel between it and main
  memory at every layer;
- once a model, the libraries get ready for each calibration pass that waits;
- AWQ and quantized files run the whole model: 2·N·T operations to evaluate, and for AWQ three times that to calibrate;
- a checkpoint is loaded once.

A plan does not say how much memory a GPU has: the dry run takes `MEMORY`. The sweep's constants are a least-squares fit
to passes of an H200, and have not been held against an H100's; benchmarks/sweep_estimate.py holds them against other
passes. Smaller models are ruled by what is not matrix products and by fixed costs, and take longer.
"""

import math
from dataclasses import dataclass

from qidbayes.measure.plan.methods import METHODS
from qidbayes.measure.plan.plan import Checkpoint, Plan, Quantization

SWEEP_RATE = 598e12  # operations a second in half precision, what is not matrix products included
SINGLE_RATE = 18.5e12  # in float32: factors, and errors spread over a matrix
SECONDS_PER_SOLVE = 0.026  # of a layer, for each GPTQ setting
SECONDS_PER_PASS = 0.23  # to begin and to end it
BETWEEN_RATE = 68e9  # bytes a second between main memory and the GPU, beside what it computes
SECONDS_PER_WAITING = 0.057  # once: cuDNN's plans of a new shape, for each pass that waits
FORWARD_RATE = 250e12  # operations a second of the plain path, the losses' log-softmax included
WEIGHT_RATE = 4e9  # bytes a second when every weight is rounded, or put back from main memory
LOADING_RATE = 1e9  # bytes a second
_REPLAYS = 2.5  # of GPTQ's calibration set past a layer, where its passes cannot wait
MEMORY = 79 * 2**30  # bytes of the GPU: an H100's
_BATCH = 2**18, 2**28  # tokens at most, numbers at most
FIXED_BYTES = 4.75 * 2**30  # of GPU memory: logits, activations, a batch's products
_VOCABULARY = 50_304  # Pythia's; there is an embedding of it and a head
# Pythia's shapes: non-embedding parameters and width.
_WIDTHS = (
    (1_189_888, 128), (18_915_328, 512), (85_056_000, 768), (302_311_424, 1024), (1_208_602_624, 2048),
    (2_517_652_480, 2560), (6_444_163_072, 4096), (11_327_027_200, 5120),
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """What one model of a plan takes.

    Attributes
    ----------
    model
        Its name.
    checkpoints, rows
        How many of it are measured, and the table's rows they give.
    repositories
        Of the hub, whose weights are downloaded: revisions of the model, and files that others have quantized.
    download_bytes
        Bytes to download for all of them; 0 for a local folder.
    disk_bytes
        Bytes that lie on disk at once: one checkpoint and what others have quantized of it, since each is removed when
        it has been measured.
    gpu_hours
        Hours on one H200.
    """

    model: str
    checkpoints: int
    rows: int
    repositories: int
    download_bytes: int
    disk_bytes: int
    gpu_hours: float


def estimate(plan: Plan) -> list[Estimate]:
    """Return what each model of the plan takes, in the plan's order.

    Examples
    --------
    >>> from qidbayes.measure import load_plan
    >>> from qidbayes.resources import shipped
    >>> tiny = estimate(load_plan(shipped("measurements") / "tiny" / "plan.toml"))
    >>> [(e.model, e.checkpoints, e.rows, e.download_bytes) for e in tiny]
    [('tiny-64x2', 4, 32, 0), ('tiny-96x2', 4, 32, 0), ('tiny-128x3', 4, 32, 0)]
    """
    by_model: dict[str, list[Checkpoint]] = {}
    for checkpoint in plan.checkpoints:
        by_model.setdefault(checkpoint.model, []).append(checkpoint)
    return [_estimate(plan, model, checkpoints) for model, checkpoints in by_model.items()]


def _estimate(plan: Plan, model: str, checkpoints: list[Checkpoint]) -> Estimate:
    sizes = [_downloads(plan, checkpoint) for checkpoint in checkpoints]
    return Estimate(
        model,
        len(checkpoints),
        sum(plan.rows_of(c) for c in checkpoints),
        sum(map(len, sizes)),
        sum(map(sum, sizes)),
        max(map(sum, sizes)),
        (_seconds_getting_ready(plan, checkpoints[0]) + sum(seconds_of(plan, c) for c in checkpoints)) / 3600,
    )


def _downloads(plan: Plan, checkpoint: Checkpoint) -> list[int]:
    """Bytes of each repository's weights: the checkpoint's, and those that others have quantized of it."""
    found = [_bytes(checkpoint.n_params)] if checkpoint.source.folder is None else []
    remote = [q for q in plan.quantizations_of(checkpoint) if q.source is not None and q.source.folder is None]
    return found + [quantized_bytes(checkpoint.n_params, q.bits, q.group_size) for q in remote]


def quantized_bytes(n_params: int, bits: float, group_size: int | None) -> int:
    """Return the bytes of quantized files: codes, a 16-bit scale and a zero point a group; the ends in 16 bits.

    Examples
    --------
    >>> quantized_bytes(6_444_163_072, bits=2, group_size=128)  # Pythia 6.9B
    2548497808
    """
    width = _width(n_params)
    per_weight = bits + (16 + bits) / (group_size or width)
    return round(n_params * per_weight / 8 + 4 * _VOCABULARY * width)


def _width(n_params: int) -> float:
    """Return the width of a decoder: log width is interpolated in log N between Pythia's sizes, and extrapolated.

    >>> round(_width(302_311_424)), round(_width(70_000_000_000))
    (1024, 10525)
    """
    upper = min(next((i for i, (size, _) in enumerate(_WIDTHS) if size >= n_params), len(_WIDTHS)), len(_WIDTHS) - 1)
    (small, narrow), (large, wide) = _WIDTHS[max(upper - 1, 0)], _WIDTHS[max(upper, 1)]
    slope = math.log(wide / narrow) / math.log(large / small)
    return narrow * float((n_params / small) ** slope)


def _bytes(n_params: int) -> int:
    """Return the bytes of a model in 16 bits, with embedding and head."""
    return round(2 * (n_params + 2 * _VOCABULARY * _width(n_params)))


def seconds_of(plan: Plan, checkpoint: Checkpoint) -> float:
    """Return what a checkpoint takes with all its quantizations, and without what is done once a model."""
    quantizations = list(plan.quantizations_of(checkpoint))
    swept = [q for q in quantizations if METHODS[q.method].swept]
    evaluated = _evaluated(plan)
    alone = [q for q in quantizations if not METHODS[q.method].swept]
    one_by_one = sum(_seconds_alone(plan, checkpoint, q, evaluated) for q in alone)
    if alone or not swept:
        one_by_one += 2 * checkpoint.n_params * evaluated / FORWARD_RATE  # the 16-bit losses they are held against
    loading = _bytes(checkpoint.n_params) / LOADING_RATE
    return loading + one_by_one + (_seconds_sweeping(plan, checkpoint, swept, evaluated) if swept else 0)


def seconds_of_checkpoint(plan: Plan, checkpoint: Checkpoint) -> float:
    """Return what a checkpoint takes before anything is quantized: loaded, and evaluated in 16 bits."""
    return _bytes(checkpoint.n_params) / LOADING_RATE + _seconds_sweeping(plan, checkpoint, [], _evaluated(plan))


def seconds_of_cell(plan: Plan, checkpoint: Checkpoint, quantization: Quantization) -> float:
    """Return what one quantization more of a checkpoint takes, evaluated on every set."""
    evaluated = _evaluated(plan)
    if not METHODS[quantization.method].swept:
        return _seconds_alone(plan, checkpoint, quantization, evaluated)
    with_it, without = (_seconds_sweeping(plan, checkpoint, swept, evaluated) for swept in ([quantization], []))
    return with_it - without


def gpu_bytes(plan: Plan, checkpoint: Checkpoint) -> float:
    """Return the bytes of a GPU's memory with which a checkpoint's sweep need not wait for main memory.

    The model, the hidden states of every quantization, Hessians of four matrices as wide as a layer's widest, and a
    fixed amount besides. Where there is more, calibration passes wait within a layer and take of it: the passes of
    benchmarks/sweep.csv, with 80 GiB at hand, took .8 to 2.1 times as much.
    """
    width = _width(checkpoint.n_params)
    gptq = sum(map(_is_solved, plan.quantizations_of(checkpoint))) * _orders(plan)
    variants = gptq + sum(METHODS[q.method].swept and not _is_solved(q) for q in plan.quantizations_of(checkpoint))
    tokens = (1 + variants) * _evaluated(plan) + gptq * _calibration_tokens(plan)
    return _bytes(checkpoint.n_params) + 2 * tokens * width + 4 * 4 * (4 * width) ** 2 + FIXED_BYTES


def _is_solved(quantization: Quantization) -> bool:
    """Whether it is GPTQ, or takes the sweep what GPTQ takes."""
    method = METHODS[quantization.method]
    return method.swept and method.calibrated


def _evaluated(plan: Plan) -> int:
    return len(plan.evaluation.datasets) * plan.evaluation.tokens


def _seconds_sweeping(plan: Plan, checkpoint: Checkpoint, swept: list[Quantization], evaluated: int) -> float:
    width = _width(checkpoint.n_params)
    layers = checkpoint.n_params / (12 * width**2)
    solved = sum(map(_is_solved, swept))
    gptq = solved * _orders(plan)
    variants = len(swept) - solved + gptq
    tokens = evaluated, _calibration_tokens(plan)
    return sweep_work(layers, width, plan.evaluation.seq_len, variants, gptq, *tokens).seconds


@dataclass(frozen=True)
class Work:
    """What a sweep does: operations in half precision and in float32, solves, bytes to and from main memory."""

    half: float
    single: float
    solves: float
    between: float

    @property
    def seconds(self) -> float:
        """What one pass takes, whose libraries are ready."""
        operations = self.half / SWEEP_RATE + self.single / SINGLE_RATE
        return operations + self.solves * SECONDS_PER_SOLVE + self.between / BETWEEN_RATE + SECONDS_PER_PASS


def sweep_work(
    layers: float,
    width: float,
    length: int,
    variants: int,
    gptq: int,
    evaluated: int,
    calibration: int,
    memory: float = MEMORY,
) -> Work:
    """Return what a sweep does.

    Parameters
    ----------
    layers, width
        Of the decoder.
    length
        Tokens in a window.
    variants, gptq
        Quantizations, and how many of them are GPTQ.
    evaluated, calibration
        Tokens.
    memory
        Bytes of the GPU.

    Examples
    --------
    >>> sweep_work(12, 768, 2048, variants=3, gptq=3, evaluated=524_288, calibration=262_144).solves
    36
    """
    calibrated, ends = gptq * calibration, (1 + variants) * evaluated
    states = 2 * (ends + calibrated) * width
    model = 2 * (12 * layers * width + 2 * _VOCABULARY) * width
    free = memory - (model if model <= memory / 2 else 0)
    outside = states > free / 2  # see `qidbayes.measure.run.sweep`
    waits = not outside and 2 * 9 * width * calibration <= (free - states) / 2
    replays = 1 if waits else _REPLAYS
    passed = ends + calibrated * replays
    half = passed * layers * (24 * width**2 + 2 * length * width)
    half += ends * 2 * width * _VOCABULARY + calibrated * layers * 19 * width**2
    between = 2 * width * layers * (passed + ends + calibrated) if outside else 0
    between += model if model > memory / 2 else 0
    return Work(half, gptq * layers * 69 * width**3, gptq * layers, between)


def _seconds_getting_ready(plan: Plan, checkpoint: Checkpoint) -> float:
    width = _width(checkpoint.n_params)
    gptq = sum(map(_is_solved, plan.quantizations_of(checkpoint)))
    return gptq * math.ceil(_calibration_tokens(plan) / min(_BATCH[0], _BATCH[1] / width)) * SECONDS_PER_WAITING


def _seconds_alone(plan: Plan, checkpoint: Checkpoint, quantization: Quantization, evaluated: int) -> float:
    touching = 2 * _bytes(checkpoint.n_params) / WEIGHT_RATE
    if not METHODS[quantization.method].calibrated:
        return touching + 2 * checkpoint.n_params * evaluated / FORWARD_RATE
    calibrated = 3 * _calibration_tokens(plan)
    return _orders(plan) * (touching + 2 * checkpoint.n_params * (evaluated + calibrated) / FORWARD_RATE)


def _orders(plan: Plan) -> int:
    return plan.calibration.orders if plan.calibration else 1


def _calibration_tokens(plan: Plan) -> int:
    return plan.calibration.windows * plan.calibration.seq_len if plan.calibration else 0
