"""Errors of measuring that no mistake of the user's causes."""


class MeasureError(RuntimeError):
    """A checkpoint that cannot be quantized or evaluated: not-finite activations, a matrix that cannot be factorized.

    The message names the layer or the step. A run records it in the cell's row and goes on.
    """


class NotFiniteError(MeasureError):
    """Numbers that are infinite or none; where a half-precision format may be why, the message says what to do."""

    def __init__(self, what: str, dtype: object = None) -> None:
        remedy = '; float16 ends at 65,504: give dtype = "bfloat16" or "float32" in the plan'
        super().__init__(what + (remedy if str(dtype) == "torch.float16" else ""))


def of_linear(name: str, error: MeasureError, dtype: object) -> MeasureError:
    """Return a linear's error with its name and, where numbers are not finite, what to do in this type."""
    told = f"{name}: {error}"
    return NotFiniteError(told, dtype) if isinstance(error, NotFiniteError) else MeasureError(told)


def is_panic(error: BaseException) -> bool:
    """Whether this is a panic of a library written in Rust: no `Exception` in Python's eyes, and no wish to stop.

    Every such library makes a class of that name for itself and exports none of them.
    """
    return type(error).__name__ == "PanicException"


def miscounted(checkpoint: object, found: int, planned: int) -> str:
    """Say that a checkpoint's files have another number of parameters than the plan."""
    return (
        f"{checkpoint}: {found:,} non-embedding parameters in its files, n_params = {planned:,} in the plan; "
        f"give n_params = {found}, or another model"
    )


def copied(checkpoint: object, other: object) -> str:
    """Say that two checkpoints, which the plan puts at different training tokens, are one file."""
    return f"{checkpoint} holds the same weights as {other}: they cannot both be right"
