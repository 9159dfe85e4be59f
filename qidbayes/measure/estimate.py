"""What a plan will take, before anything is downloaded: cells, bytes and GPU-hours.

The cost model has one GPU, an H100, and takes a decoder of N non-embedding parameters for one of L layers, 85·L wide,
so that N = 12·85²·L³; its linears then have 7·85·L² input columns, and their squared widths add up to 19/12·N. Per
checkpoint:

- a forward pass over T tokens costs 2·N·T operations;
- 16 bits and each quantization evaluate every set once: T is the token budget;
- GPTQ and AWQ run the calibration set through the layers three times and gather second moments, 2·19/12·N operations a
  token in float32; GPTQ then rounds column after column, which is so little work at a time that it has a fixed price;
- the other methods only touch each weight: reading and restoring them is counted for every quantization;
- a checkpoint is loaded once.

The constants were read off an H100 on a model of Pythia-410M's shape (docs/measure.md). On small models, where fixed
costs rule, the estimate is too low; expect a factor of two either way.
"""

from dataclasses import dataclass

from qidbayes.measure.plan import Checkpoint, Plan, Quantization

FORWARD_RATE = 250e12  # operations a second in half precision, the losses' log-softmax included
MOMENT_RATE = 50e12  # operations a second in float32
SECONDS_PER_COLUMN = 0.2e-3  # of GPTQ's loop
WEIGHT_RATE = 4e9  # bytes a second when every weight is rounded, or put back from main memory
LOADING_RATE = 1e9  # bytes a second
_ASPECT = 85  # width over depth
_VOCABULARY = 50_304  # Pythia's; there is an embedding of it and a head
_CALIBRATED = ("gptq", "awq")


@dataclass(frozen=True)
class Estimate:
    """What one model of a plan takes.

    Attributes
    ----------
    model
        Its name.
    checkpoints, rows
        How many of it are measured, and the table's rows they give.
    download_bytes
        Bytes to download for all of them; 0 for a local folder.
    disk_bytes
        Bytes that lie on disk at once: one checkpoint, since each is removed when it has been measured.
    gpu_hours
        Hours on one H100.
    """

    model: str
    checkpoints: int
    rows: int
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
    size = _bytes(checkpoints[0].n_params)
    remote = [c for c in checkpoints if c.source.folder is None]
    return Estimate(
        model,
        len(checkpoints),
        sum(plan.rows_of(c) for c in checkpoints),
        size * len(remote),
        size if remote else 0,
        sum(_seconds(plan, c) for c in checkpoints) / 3600,
    )


def _layers(n_params: int) -> float:
    return float((n_params / (12 * _ASPECT**2)) ** (1 / 3))


def _bytes(n_params: int) -> int:
    """In 16 bits, with embedding and head."""
    return round(2 * (n_params + 2 * _VOCABULARY * _ASPECT * _layers(n_params)))


def seconds_of_checkpoint(plan: Plan, checkpoint: Checkpoint) -> float:
    """Return what a checkpoint takes before anything is quantized: loaded, and evaluated in 16 bits."""
    return _bytes(checkpoint.n_params) / LOADING_RATE + _seconds_evaluating(plan, checkpoint)


def seconds_of_cell(plan: Plan, checkpoint: Checkpoint, quantization: Quantization) -> float:
    """Return what one quantization of a loaded checkpoint takes, evaluated on every set."""
    return _seconds_quantizing(plan, checkpoint, quantization) + _seconds_evaluating(plan, checkpoint)


def _seconds(plan: Plan, checkpoint: Checkpoint) -> float:
    cells = (seconds_of_cell(plan, checkpoint, q) for q in plan.quantizations_of(checkpoint))
    return seconds_of_checkpoint(plan, checkpoint) + sum(cells)


def _seconds_evaluating(plan: Plan, checkpoint: Checkpoint) -> float:
    return len(plan.evaluation.datasets) * 2 * checkpoint.n_params * plan.evaluation.tokens / FORWARD_RATE


def _seconds_quantizing(plan: Plan, checkpoint: Checkpoint, quantization: Quantization) -> float:
    n_params = checkpoint.n_params
    touching = 2 * _bytes(n_params) / WEIGHT_RATE
    if quantization.method not in _CALIBRATED or plan.calibration is None:
        return touching
    tokens = plan.calibration.windows * plan.calibration.seq_len
    calibrating = tokens * n_params * (3 * 2 / FORWARD_RATE + 2 * 19 / 12 / MOMENT_RATE)
    columns = 7 * _ASPECT * _layers(n_params) ** 2 if quantization.method == "gptq" else 0
    return touching + calibrating + columns * SECONDS_PER_COLUMN
